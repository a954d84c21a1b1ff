"""Joining the shards of a run (`infer.py --shard K/N`) into one results file, with a check that nothing is missing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vilasr.fields import sample_number
from vilasr.results import RUN_FILE
from vilasr.tasks import DataError

Key = tuple[str, str, int]  # id, digest, sample
SHARD_FOLDER = re.compile(r"shard-(\d+)-of-(\d+)")


@dataclass(frozen=True, slots=True)
class _Row:
    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Merged:
    path: Path
    rows: int
    shards: int
    missing: int  # (item, sample) pairs


def merge_shards(
    folder: Path, expected: Sequence[tuple[str, str]], allow_missing: bool = False, overwrite: bool = False
) -> Merged:
    """Write `folder`/results.jsonl from `folder`/shard-K-of-N/results.jsonl, in the order of `expected`, the (id,
    digest) of all items; every item must have every sample that any item has. The shards stay as they are.

    Raises DataError, with nothing written, for a shard that is missing, still running or damaged, for shards of
    different settings or numbers, for items that are twice, unknown or (unless allowed) missing, and for another
    results file that is already there (unless `overwrite`). The one that these shards make is left: a merge of several
    benchmarks that was stopped goes on by the same command. Raises OSError, with nothing half-written left.
    """
    target = folder / "results.jsonl"
    shards = _find(folder)
    with contextlib.ExitStack() as locks:
        for shard in shards:
            locks.enter_context(_locked(shard))
        rows, configs = _index(shards)
        if len(configs) > 1:
            raise DataError(
                f"{folder}: the shards have different settings ({', '.join(sorted(configs))}); see {RUN_FILE}"
            )
        samples = 1 + max((sample for _, _, sample in rows), default=0)
        known = set(expected)
        unknown = [(item, digest) for item, digest, _ in rows if (item, digest) not in known]
        if unknown:
            raise DataError(
                f"{folder}: {len(unknown)} rows are of items that the benchmark lacks or has in another wording, "
                f"such as {min(unknown)[0]!r}; merge with the file and selection that was run"
            )
        there: dict[tuple[str, str], list[int]] = {}
        for item, digest, sample in rows:
            there.setdefault((item, digest), []).append(sample)
        incomplete = [key for key in expected if len(there.get(key, ())) < samples]
        missing = samples * len(expected) - len(rows)
        if incomplete and not allow_missing:
            raise DataError(f"{folder}: {_missing(missing, incomplete, expected, len(shards))}")
        chosen = [rows[*key, sample] for key in expected for sample in sorted(there.get(key, ()))]
        run = shards[0] / RUN_FILE
        if not target.exists() or overwrite:
            if run.exists():  # before the results, which tell that all is there
                _write(folder / RUN_FILE, [run.read_bytes()])
            _write(target, _bytes(chosen))
        elif not _holds(target, _bytes(chosen)):
            raise DataError(f"{target}: is already there, with other rows than the shards; --overwrite replaces it")
    return Merged(target, len(rows), len(shards), missing)


def _find(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.glob("shard-*-of-*") if SHARD_FOLDER.fullmatch(p.name))
    if not found:
        raise DataError(f"{folder}: has no shards (shard-K-of-N); run infer.sh --shard K/N first")
    counts = Counter(int(p.name.rsplit("-", 1)[1]) for p in found)
    if len(counts) > 1:
        raise DataError(f"{folder}: holds shards of different numbers ({sorted(counts)}); move one set away")
    count = next(iter(counts))
    shards = [folder / f"shard-{index}-of-{count}" for index in range(count)]
    lacking = [f"{n}/{count}" for n, shard in enumerate(shards) if not (shard / "results.jsonl").exists()]
    if lacking:
        raise DataError(f"{folder}: shards {', '.join(lacking)} have no results; run infer.sh --shard {lacking[0]}")
    return shards


@contextlib.contextmanager
def _locked(shard: Path) -> Iterator[None]:
    with (shard / ".lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise DataError(f"{shard}: is still being written; wait for its end") from exc
        except OSError:
            pass  # a file system without locks, as the run said
        yield


def _index(shards: Sequence[Path]) -> tuple[dict[Key, _Row], set[str]]:
    rows: dict[Key, _Row] = {}
    configs: set[str] = set()
    for shard in shards:
        path, offset = shard / "results.jsonl", 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("half-written; run that shard again, it completes itself")
                    row = json.loads(line)
                    key = (str(row["id"]), str(row["digest"]), sample_number(row))
                    configs.add(str(row["config"]))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
                    raise DataError(
                        f"{path}: line {number} is damaged ({exc}); remove the line and run that shard again"
                    ) from exc
                if key in rows:
                    raise DataError(f"{path}: line {number}: item {key[0]!r} is in {rows[key].path} too")
                rows[key] = _Row(path, offset, len(line))
                offset += len(line)
    return rows, configs


def _missing(
    missing: int, incomplete: Sequence[tuple[str, str]], expected: Sequence[tuple[str, str]], count: int
) -> str:
    place = {key: number for number, key in enumerate(expected)}
    shards = sorted({place[key] % count for key in incomplete})
    again = ", ".join(f"{shard}/{count}" for shard in shards)
    return (
        f"{missing} episodes are missing, the first of item {incomplete[0][0]!r}; run shards {again} again, they "
        "complete themselves, or --allow-missing"
    )


def _bytes(rows: Sequence[_Row]) -> Iterator[bytes]:
    with contextlib.ExitStack() as files:
        opened = {path: files.enter_context(path.open("rb")) for path in {row.path for row in rows}}
        for row in rows:
            opened[row.path].seek(row.offset)
            yield opened[row.path].read(row.length)


def _holds(path: Path, pieces: Iterator[bytes]) -> bool:
    with path.open("rb") as file:
        return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)


def _write(target: Path, pieces: Iterable[bytes]) -> None:
    temporary = target.with_name(target.name + ".tmp")
    try:
        with temporary.open("wb") as out:
            out.writelines(pieces)
        os.replace(temporary, target)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
