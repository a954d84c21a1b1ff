"""From a results file to a summary: scores with intervals, endings, drawing statistics, and what is missing."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vilasr.reflect import reflection
from vilasr.results import Result, read_results
from vilasr.reward import reward_of
from vilasr.scoring import Group, Scored, find_benchmark
from vilasr.scoring.benchmark import proportion
from vilasr.tasks import DataError
from vilasr.traces import StopReason, Trace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drawing:
    """Means an item (steps, boxes, lines) and shares of items (the rest, with intervals)."""

    steps: float
    boxes: float
    lines: float
    drew: Group
    well_formed: Group
    tool_error: Group
    reflection: Group
    reflection_strict: Group


@dataclass(frozen=True)
class Problems:
    """What keeps a score from being the benchmark's. All zero on a complete, clean run."""

    missing: int = 0  # items of the benchmark without a row
    unknown: int = 0  # rows whose item the benchmark lacks, or has in another wording
    duplicates: int = 0
    failed: int = 0  # items that could not be read, run or scored; they count as wrong
    unreadable: int = 0  # lines that are no result
    configurations: int = 1  # different settings in one file

    @property
    def any(self) -> bool:
        return bool(self.missing or self.unknown or self.duplicates or self.failed or self.unreadable) or (
            self.configurations > 1
        )


@dataclass(frozen=True)
class Summary:
    benchmark: str
    items: int
    corrected: list[Group]
    official: list[Group] | None
    reward: float
    drawing: Drawing
    stop_reasons: dict[str, int]
    errors: dict[str, int]
    problems: Problems
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(path: Path, name: str, expected: Collection[tuple[str, str]] | None = None) -> Summary:
    """Score the results in `path` as benchmark `name`. `expected` are the (id, digest) of all its items; rows of other
    items are counted as unknown and not scored. Without them nothing is known to be missing or unknown. An item that
    failed, or whose own answer cannot be read, counts as wrong. Raises DataError for an unknown benchmark or a file
    that cannot be read."""
    benchmark = find_benchmark(name)
    found, unreadable, duplicates = _read(path)
    results = found if expected is None else [r for r in found if (r.id, r.digest) in expected]
    scores: list[Scored] = []
    traces: list[Trace] = []
    rewards: list[float] = []
    failed = not_run = 0
    for result in results:
        example, trace = result.example, result.trace
        if example is None or trace is None:
            not_run += 1
            failed += 1
            scores.append(Scored(result.id, "(not run)", 0.0, 0.0))
            rewards.append(0.0)
            continue
        try:
            corrected = benchmark.corrected(example, trace.answer)
        except ValueError as exc:
            log.error("%s: %s; it counts as wrong", path, exc)
            corrected, failed = 0.0, failed + 1
        failed += trace.stop_reason is StopReason.ENGINE_ERROR
        official = None
        if benchmark.official is not None:
            official = benchmark.official(example, trace.last_reply if trace.answer is None else trace.answer)
        scores.append(Scored(result.id, example.task, corrected, official))
        traces.append(trace)
        rewards.append(reward_of(corrected, trace).total)
    problems = Problems(
        missing=len(set(expected) - {(r.id, r.digest) for r in found}) if expected is not None else 0,
        unknown=len(found) - len(results),
        duplicates=duplicates,
        failed=failed,
        unreadable=unreadable,
        configurations=max(1, len({r.config for r in results})),
    )
    return Summary(
        benchmark=name,
        items=len(results),
        corrected=benchmark.aggregate(scores, "corrected"),
        official=benchmark.aggregate(scores, "official") if benchmark.official else None,
        reward=sum(rewards) / len(rewards) if rewards else 0.0,
        drawing=_drawing(traces),
        stop_reasons=dict(
            Counter(str(t.stop_reason) for t in traces) + Counter({"input_error": not_run} if not_run else {})
        ),
        errors=dict(Counter(step.error for trace in traces for step in trace.steps if step.error).most_common()),
        problems=problems,
        notes=[f"{benchmark.items} items in the published benchmark, {len(results)} here"]
        if len(results) != benchmark.items
        else [],
    )


def _read(path: Path) -> tuple[list[Result], int, int]:
    """(results, unreadable lines, duplicates left out)."""
    results: dict[tuple[str, str], Result] = {}
    unreadable = duplicates = 0
    try:
        for result in read_results(path):
            if isinstance(result, DataError):
                unreadable += 1
                log.error("%s", result)
                continue
            duplicates += (result.id, result.digest) in results
            results.setdefault((result.id, result.digest), result)
    except FileNotFoundError as exc:
        raise DataError(f"{path}: no results there; run eval/infer.sh first, with the same MODE") from exc
    except OSError as exc:
        raise DataError(f"{path}: cannot be read ({exc})") from exc
    if not results:
        raise DataError(f"{path}: holds no results; run eval/infer.sh first, with the same MODE")
    return list(results.values()), unreadable, duplicates


def _drawing(traces: list[Trace]) -> Drawing:
    count = max(1, len(traces))
    reflections = [reflection(trace) for trace in traces]
    return Drawing(
        steps=sum(len(t.steps) for t in traces) / count,
        boxes=sum(t.boxes for t in traces) / count,
        lines=sum(t.lines for t in traces) / count,
        drew=proportion("drew at least one mark", [float(bool(t.marks)) for t in traces]),
        well_formed=proportion("every step well-formed", [float(t.well_formed) for t in traces]),
        tool_error=proportion("at least one unusable step", [float(t.tool_errors > 0) for t in traces]),
        reflection=proportion("reflection (Eq. 5)", [float(r.loose) for r in reflections]),
        reflection_strict=proportion("reflection, strict", [float(r.strict) for r in reflections]),
    )
