"""Reading what is to be scored: our results files, their shards, and those of the published project."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vilasr.published import PublishedResult, find_published, read_published_folder
from vilasr.results import Result, read_results
from vilasr.scoring.benchmark import PUBLISHED
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

_SHOWN = 20


@dataclass(frozen=True)
class ReadResults:
    """`results` without duplicates (the first counts), `unreadable` lines, and how many `duplicates` were left out."""

    path: Path
    results: list[Result]
    unreadable: int
    duplicates: int


def read_all(folder: Path, benchmark: str, expected: Sequence[tuple[str, str]] | None = None) -> ReadResults:
    """The results in `folder`, of either project. `expected` are the (id, digest) of the benchmark's items. Raises
    DataError if there is nothing to score."""
    path = folder / "results.jsonl"
    results: dict[tuple[str, str, int], Result] = {}
    unreadable = duplicates = 0
    collecting = gc.isenabled()
    gc.disable()  # it would look through all results again and again: nothing of them is garbage
    try:
        for result in _rows(folder, path, benchmark, expected):
            if isinstance(result, DataError):
                unreadable += 1
                if unreadable <= _SHOWN:
                    log.error("%s", result)
                continue
            key = (result.id, result.digest, result.sample)
            duplicates += key in results
            results.setdefault(key, result)
    except FileNotFoundError as exc:
        raise DataError(
            f"{path}: no results there; run eval/infer.sh first, with the same MODE{_hint(folder)}"
        ) from exc
    except OSError as exc:
        raise DataError(f"{path}: cannot be read ({exc}); check the file and its rights") from exc
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
    if not results:
        raise DataError(f"{path}: holds no results; run eval/infer.sh first, with the same MODE")
    return ReadResults(path, list(results.values()), unreadable, duplicates)


def _hint(folder: Path) -> str:
    shards = sorted(folder.glob("shard-*-of-*"))
    if shards:
        return f", or tools/merge_results.py to join the {len(shards)} shards there"
    others = sorted(path.parent.name for path in folder.parent.glob("*/results.jsonl"))
    return f" (there are results of {', '.join(others)})" if others else ""


def _rows(
    folder: Path, path: Path, benchmark: str, expected: Sequence[tuple[str, str]] | None
) -> Iterator[Result | DataError]:
    if not path.exists() and not any(folder.glob("[0-9]*_[0-9]*")):
        raise FileNotFoundError(path)
    files = find_published(folder)
    if files and _are_published(files):
        yield from _published(folder, benchmark, expected)
    else:
        yield from read_results(path)


def _are_published(paths: Sequence[Path]) -> bool:
    """Whether the first readable line is of the published project's layout."""
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError, RecursionError):
                    row = json.loads(line)
                    if isinstance(row, dict):
                        return "model_output" in row and "config" not in row
    return False


def _published(
    folder: Path, benchmark: str, expected: Sequence[tuple[str, str]] | None
) -> Iterator[Result | DataError]:
    """Its rows carry no ids: where the benchmark's items are known, a row is the first item asked in the same words
    that has no row yet."""
    free: dict[str, list[str]] = {}
    for item_id, digest in reversed(expected or ()):
        free.setdefault(digest, []).append(item_id)
    for one in read_published_folder(folder, benchmark):
        if isinstance(one, PublishedResult):
            ids = free.get(one.example.digest())
            yield _as_result(one, ids.pop() if ids else one.example.id)
        else:
            yield one


def _as_result(one: PublishedResult, item_id: str) -> Result:
    if one.crash:
        log.warning("item %s: the published scorer stops here (%s)", item_id, one.crash)
    return Result(
        id=item_id,
        digest=one.example.digest(),
        config=PUBLISHED,
        example=one.example,
        trace=one.trace,
        image_files=one.example.image_paths,
        task=one.example.task,
        scores={PUBLISHED: one.published or 0.0},
    )
