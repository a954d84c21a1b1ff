"""Many inputs to a target, and what came of them. Failures are made small and kept once each."""

from __future__ import annotations

import hashlib
import logging
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.contract import Failure, Target, catch_signals, judge

CORPUS = Path(__file__).parent / "corpus"
_TWICE = 16  # each so many-th input is given twice
_SHRINKING = 300  # tries to make a failing input smaller
_SHRINKING_SECONDS = 15
_DEEP = 3  # inputs that came to nothing bad are mutated again so often, in a row


@dataclass
class Tally:
    """Of one target. `failures` has one for each key, `kinds` counts all inputs that failed."""

    inputs: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    failures: dict[str, tuple[Failure, bytes]] = field(default_factory=dict)


def inputs(target: Target, rng: random.Random) -> Iterator[bytes]:
    """The seeds, then mutations of them without end; some are mutations of mutations."""
    seeds = list(target.seeds())
    yield from seeds
    while True:
        data = target.mutate(rng, seeds)
        yield data
        if rng.random() < 0.02 and len(seeds) < 500 and target.mutate.__name__ != "json_mutator":
            for _ in range(_DEEP):
                data = target.mutate(rng, [data, *seeds])
                yield data


def fuzz(target: Target, scratch: Path, seed: int, count: int | None, seconds: float | None = None) -> Tally:
    """Gives the target `count` inputs, or as many as fit in `seconds`."""
    catch_signals()
    target.seeds()  # made once, and not counted
    tally, started = Tally(), time.monotonic()
    rng = random.Random(f"{target.name}:{seed}")
    folder = scratch / target.name
    for data in inputs(target, rng):
        failure = once(target, data, folder, tally.inputs % _TWICE == 0)
        tally.inputs += 1
        if failure is not None:
            tally.kinds[failure.kind] += 1
            if failure.key not in tally.failures:
                tally.failures[failure.key] = failure, data
                logging.warning("%s: %s: %s", target.name, failure.kind, failure.text)
        if tally.inputs == count or (seconds is not None and time.monotonic() - started > seconds):
            break
    tally.seconds = time.monotonic() - started
    return tally


def once(target: Target, data: bytes, folder: Path, twice: bool = True) -> Failure | None:
    folder.mkdir(parents=True, exist_ok=True)
    failure = judge(target, data, folder, twice)
    if failure is not None:  # what it left may spoil the next
        shutil.rmtree(folder, ignore_errors=True)
    return failure


def smaller(target: Target, data: bytes, failure: Failure, folder: Path) -> bytes:
    """An input that fails alike, with pieces left out."""
    tries, size, end = 0, max(len(data) // 2, 1), time.monotonic() + _SHRINKING_SECONDS
    while size and tries < _SHRINKING and time.monotonic() < end:
        at, shrunk = 0, False
        while at < len(data) and tries < _SHRINKING and time.monotonic() < end:
            less = data[:at] + data[at + size :]
            tries += 1
            found = once(target, less, folder, failure.kind == "unsteady")
            if found is not None and found.key == failure.key:
                data, shrunk = less, True
            else:
                at += size
        size = size // 2 if not shrunk or size > len(data) else size
    return data


def keep(target: Target, data: bytes) -> Path:
    """Adds an input to the corpus."""
    path = CORPUS / target.name / hashlib.sha256(data).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def kept(target: Target) -> list[Path]:
    folder = CORPUS / target.name
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
