"""The tokens of a step's episodes as the trainer had them: written by `dumping.py`, read by `tests/exactness.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = "tokens"  # beside the checkpoints of a run
_FIELDS = ("ids", "mask", "rollout", "trainer", "grids")


@dataclass(frozen=True, eq=False)
class Tokens:
    """One episode. `ids`: the `prompt` tokens of the question, then the response. Of the response, token by token:
    `mask`, and the log-probabilities `rollout` of the sampler and `trainer` of the model that learns, before it did.
    `grids` (n, 3): patches of each image in time, height and width."""

    item: str
    sample: int
    prompt: int
    ids: np.ndarray
    mask: np.ndarray
    rollout: np.ndarray
    trainer: np.ndarray
    grids: np.ndarray

    @property
    def response(self) -> np.ndarray:
        return self.ids[self.prompt :]


def file_of(output: Path, step: int) -> Path:
    """Of a run whose checkpoints go to `output`."""
    return output / FOLDER / f"step_{step:06d}.npz"


def save(path: Path, episodes: Sequence[Tokens]) -> None:
    """All episodes end to end, with their lengths; whole or not at all."""
    arrays: dict[str, np.ndarray] = {
        "item": np.array([episode.item for episode in episodes]),
        "sample": np.array([episode.sample for episode in episodes]),
        "prompt": np.array([episode.prompt for episode in episodes]),
    }
    for name in _FIELDS:
        parts = [getattr(episode, name) for episode in episodes]
        arrays[name] = np.concatenate(parts)
        arrays[f"{name}_lengths"] = np.array([len(part) for part in parts])
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    with half.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes ** for its own option
    half.replace(path)


def load(path: Path) -> list[Tokens]:
    with np.load(path) as found:
        names = [f"{name}_lengths" for name in _FIELDS]
        cuts = [np.cumsum(found[name])[:-1] for name in names]
        parts = [np.split(found[name], cut) for name, cut in zip(_FIELDS, cuts, strict=True)]
        heads = zip(found["item"].tolist(), found["sample"].tolist(), found["prompt"].tolist(), strict=True)
        return [Tokens(*head, *fields) for head, *fields in zip(heads, *parts, strict=True)]
