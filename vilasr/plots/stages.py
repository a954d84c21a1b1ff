"""The results of a model's stages (zero-shot, cold start, reflective, RL), matched by the name of their benchmark."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vilasr.results import Result
from vilasr.scoring import BENCHMARKS, Benchmark, find_benchmark
from vilasr.scoring.benchmark import CORRECTED
from vilasr.scoring.items import Scored
from vilasr.scoring.summary import Summary
from vilasr.tasks import DataError
from vilasr.viewer import collect, find_folders

log = logging.getLogger(__name__)

MOST = 12  # stages, or benchmarks: more are no picture


@dataclass(frozen=True)
class Part:
    """What a stage did on one benchmark; `results` and `scored` are of the same rows."""

    summary: Summary
    results: Sequence[Result]
    scored: Sequence[Scored]


@dataclass(frozen=True)
class Stage:
    """`parts` by the benchmark's name; `unusable` counts rows and folders that could not be read."""

    name: str
    parts: Mapping[str, Part]
    unusable: int = 0


def read_stages(named: Iterable[tuple[str, Path]]) -> list[Stage]:
    """Raises DataError for names that are empty or stand twice, and for a folder without results."""
    given = list(named)
    counts = Counter(name for name, _ in given)
    for name, path in given:
        if not name.strip():
            raise DataError(f"{path}: the stage has no name; write NAME={path}")
        if counts[name] > 1:
            paths = ", ".join(str(path) for other, path in given if other == name)
            raise DataError(f"the stage name {name!r} stands {counts[name]} times ({paths}); name each differently")
    if len(given) > MOST:
        raise DataError(f"{len(given)} stages are too many for one picture; name at most {MOST}")
    stages = [_read_stage(name, path) for name, path in given]
    names = benchmark_names(stages)
    if len(names) > MOST:
        raise DataError(
            f"{len(names)} benchmarks ({', '.join(names[:3])}, ...) are too many for one picture; name folders with at "
            f"most {MOST} folders of results"
        )
    for stage in stages:
        if lacking := [name for name in names if name not in stage.parts]:
            log.warning("stage %s: has no results of %s; drawn without", stage.name, ", ".join(lacking))
    return stages


def _read_stage(name: str, path: Path) -> Stage:
    folders = find_folders([path])
    names = Counter(folder.name for folder in folders)
    if several := [one for one, count in names.items() if count > 1]:
        paths = ", ".join(str(folder) for folder in folders if folder.name == several[0])
        raise DataError(
            f"{path}: stage {name}: holds several results of {several[0]} ({paths}); name the folder of one"
        )
    log.info("stage %s: reading %s", name, ", ".join(names))
    report = collect(folders)
    rows: list[list[tuple[Result, Scored]]] = [[] for _ in report.runs]
    for entry in report.entries:
        rows[entry.run].append((entry.result, entry.scored))
    parts = {
        run.name: Part(run.summary, [result for result, _ in found], [scored for _, scored in found])
        for run, found in zip(report.runs, rows, strict=True)
    }
    unreadable = sum(run.summary.problems.unreadable for run in report.runs)
    return Stage(name, parts, unreadable + report.skipped)


def benchmark_names(stages: Sequence[Stage]) -> list[str]:
    """Of all stages, the known benchmarks first."""
    found = dict.fromkeys(name for stage in stages for name in stage.parts)
    return [name for name in BENCHMARKS if name in found] + [name for name in found if name not in BENCHMARKS]


def rule_of(stages: Sequence[Stage], name: str, rule: str) -> str:
    """The rule asked for, or `corrected` where some stage's results of that benchmark have no scores by it."""
    parts = [stage.parts[name] for stage in stages if name in stage.parts]
    return rule if all(rule in part.summary.scores for part in parts) else CORRECTED


def benchmark_of(part: Part) -> Benchmark:
    return find_benchmark(part.summary.benchmark)
