"""The questions of an RL file as training and its preflight read them. Nothing of verl, torch or Hydra is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vilasr.scoring import corrected_accuracy
from vilasr.tasks import BrokenItem, Example, read_examples
from vilasr.training.grpo.item import Item


def files_of(value: Any) -> list[Path]:
    """The files a key of the configuration names: a path, a list of paths, or null."""
    if value is None or value == "":
        return []
    return [Path(value)] if isinstance(value, str) else [Path(str(path)) for path in value]


def each_question(files: Sequence[Path], data_root: str | None) -> Iterator[Item | tuple[str, str]]:
    """Of each question of the files, in order, the item, or (reason, message) where it cannot be used: the reason is
    the same for all of a kind. Raises DataError for a file that cannot be read."""
    for file in files:
        for number, example in enumerate(read_examples(file)):
            if isinstance(example, BrokenItem):
                yield "unreadable", example.error
            elif error := unscorable(example):
                yield "truth unreadable", f"{file}: item {number}: answer: {error}"
            else:
                yield Item(example, str(file), data_root)


def unscorable(example: Example) -> str | None:
    """Why no answer to a question could be scored; None if it can."""
    try:
        corrected_accuracy(example, "")
    except ValueError as exc:
        return str(exc) or "it cannot be read"
    return None
