"""Results files read once to judge every episode, and again at the places of those that are kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from vilasr.data_engine.candidate import Place
from vilasr.prompts import Profile, parse_profile
from vilasr.results import RUN_FILE, Result, parse_row
from vilasr.shards import SHARD_FOLDER
from vilasr.tasks import DataError

log = logging.getLogger(__name__)


def find_results(paths: Sequence[Path]) -> list[Path]:
    """The results files behind files and folders, those of shards included (an episode that stands in several is taken
    once by `judge`). Warns of shards that are missing. Raises DataError for a path with none."""
    found: dict[Path, None] = {}
    for path in paths:
        files = [path] if path.is_file() else sorted(path.rglob("results.jsonl"))
        if not files:
            raise DataError(f"{path}: holds no results.jsonl; sample first, or name a folder of eval/infer.sh")
        found |= dict.fromkeys(file.resolve() for file in files)
    shards: dict[tuple[Path, int], set[int]] = {}
    for file in found:
        if name := SHARD_FOLDER.fullmatch(file.parent.name):
            shards.setdefault((file.parent.parent, int(name[2])), set()).add(int(name[1]))
    for (folder, count), there in shards.items():
        if missing := sorted(set(range(count)) - there):
            log.warning("%s: shards %s of %d are missing", folder, ", ".join(map(str, missing)), count)
    return list(found)


def places(path: Path) -> Iterator[tuple[Place, Result | DataError]]:
    """Every line with its place. A half-written last line, as after a kill, is left out. Raises OSError."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            place = Place(path, offset, len(line))
            offset += len(line)
            if not line.endswith(b"\n"):
                log.warning("%s: line %d is half-written and left out", path, number)
                return
            if line.strip():
                yield place, _result(line, f"{path}: line {number}")


def read_place(place: Place) -> Result:
    """The episode at a place that was read before. Raises DataError where the file has changed since, OSError."""
    with place.path.open("rb") as file:
        file.seek(place.offset)
        result = _result(file.read(place.length), f"{place.path}: byte {place.offset}")
    if isinstance(result, DataError):
        raise DataError(f"{result}; the file has changed while it was read")
    return result


def _result(line: bytes, where: str) -> Result | DataError:
    try:
        return parse_row(json.loads(line))
    except DataError as exc:
        return DataError(f"{where}: {exc}")
    except (ValueError, RecursionError) as exc:
        return DataError(f"{where}: not JSON ({exc})")


def asked_profile(results: Path) -> Profile:
    """The profile a results file was sampled with, from the run's settings beside it. Raises DataError, ProfileError
    for a run without it and for one whose episodes are not to be learned from: drawings answered with something else
    than themselves, or no drawing at all."""
    path = results.parent / RUN_FILE
    try:
        run: Any = json.loads(path.read_text(encoding="utf-8"))
        profile = yaml.safe_dump(run["profile"], sort_keys=False, allow_unicode=True)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise DataError(
            f"{path}: does not tell the profile of this run ({type(exc).__name__}: {exc}); it is written beside the "
            "results by the run, copy it along"
        ) from exc
    for key in ("feedback", "tools"):
        if key in run:
            raise DataError(
                f"{path}: was sampled with --{key} {run[key]}, a control; such episodes are not learned from"
            )
    return parse_profile(profile, str(path))
