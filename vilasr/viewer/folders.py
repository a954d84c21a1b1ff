"""Which folders of results are meant by the paths a user names, and what to call each."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from vilasr.published import SHARD_FOLDER
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

RESULTS = "results.jsonl"
_OWN_SHARD = "shard-"


def find_folders(paths: Sequence[Path]) -> list[Path]:
    """The folders of results behind results files, and those anywhere below folders (benchmarks of a run, GRPO steps).
    Links are followed and keep their names, by which scorers are found; what several names lead to stands once.
    Published results in shards (`maze/0_2`, `maze/1_2`) are one folder, `maze`.

    Raises DataError for a path without any.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if path.is_file():
            if path.name != RESULTS:
                raise DataError(f"{path}: is no {RESULTS}; name that file or a folder with one")
            folders = [_whole(path.parent)]
        elif (path / RESULTS).is_file():
            folders = [_whole(path)]
        else:
            folders, shards = _below(path)
            if not folders:
                advice = "join its shards with tools/merge_results.py" if shards else "run eval/infer.sh first"
                raise DataError(f"{path}: holds no {RESULTS}; {advice}")
            for folder in shards:
                log.warning("%s: left out; join its shards with tools/merge_results.py", folder)
        for folder in folders:
            found.setdefault(os.path.realpath(folder), _absolute(folder))
    return list(found.values())


def results_files(folder: Path) -> list[Path]:
    """The files that are read as the results of a folder of `find_folders`."""
    whole = folder / RESULTS
    return [whole] if whole.is_file() else [shard / RESULTS for shard in _published_shards(folder)]


def labels(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: the last two parts of its path, more where those of another are the same."""
    parts = [_absolute(folder).parts for folder in folders]
    lengths = [2] * len(parts)
    while True:
        names = ["/".join(part[-length:]) for part, length in zip(parts, lengths, strict=True)]
        counts = Counter(names)
        longer = [
            min(len(part), length + (counts[name] > 1))
            for part, length, name in zip(parts, lengths, names, strict=True)
        ]
        if all(new <= old for new, old in zip(longer, lengths, strict=True)):
            return names
        lengths = longer


def _below(top: Path) -> tuple[list[Path], list[Path]]:
    """The folders with results at or below `top`, and those with nothing but shards of ours. Links come last, so that
    what is there by its own name as well keeps that; each folder is entered once, whatever cycles they make."""
    found, shards, entered = [], [], set()
    waiting, linked = deque([top] if top.is_dir() else []), deque()
    while waiting or linked:
        folder = (waiting or linked).popleft()
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        try:
            children = [child for child in folder.iterdir() if child.is_dir()]
        except OSError as exc:
            log.warning("%s: cannot be looked through (%s)", folder, exc)
            continue
        inner = [child for child in children if not child.name.startswith(_OWN_SHARD)]
        published = _published_shards(folder)
        if (folder / RESULTS).is_file() or published:
            found.append(folder)
        elif any((child / RESULTS).is_file() for child in children if child not in inner):
            shards.append(folder)
        for child in inner:
            if child not in published:
                (linked if child.is_symlink() else waiting).append(child)
    return sorted(found), sorted(shards)


def _published_shards(folder: Path) -> list[Path]:
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    return [child for child in children if SHARD_FOLDER.fullmatch(child.name) and (child / RESULTS).is_file()]


def _whole(folder: Path) -> Path:
    """The folder, or the one whose published shard it is."""
    absolute = _absolute(folder)
    if not SHARD_FOLDER.fullmatch(absolute.name):
        return folder
    log.warning("%s is a shard of published results; all shards of %s are read", folder, absolute.parent)
    return absolute.parent


def _absolute(folder: Path) -> Path:
    """The path by the names given; by the real ones where `..` behind a link would lead elsewhere."""
    plain = os.path.abspath(folder)
    return Path(plain if os.path.realpath(plain) == os.path.realpath(folder) else os.path.realpath(folder))
