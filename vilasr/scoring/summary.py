"""From results to a summary: scores with intervals, endings, drawing statistics, and what is missing."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vilasr.reflect import reflection
from vilasr.results import Result
from vilasr.reward import reward_of
from vilasr.scoring import Benchmark, Group
from vilasr.scoring.intervals import share
from vilasr.scoring.items import CORRECTED, Scored, best_by_task, score, values_by_task
from vilasr.scoring.measures import estimate
from vilasr.scoring.reading import PUBLISHED, ReadResults

log = logging.getLogger(__name__)

_SHOWN = 20  # errors of items that are logged one by one


@dataclass(frozen=True)
class Drawing:
    """Means an item (steps, boxes, lines) and shares of items (the rest, with intervals)."""

    steps: float
    boxes: float
    lines: float
    shares: list[Group]


@dataclass(frozen=True)
class Problems:
    """What keeps a score from being the benchmark's. All zero on a complete, clean run."""

    missing: int = 0  # (item, sample) pairs of the benchmark without a row
    unknown: int = 0  # rows whose item the benchmark lacks, or has in another wording
    duplicates: int = 0
    failed: int = 0  # items that could not be read, run or scored; they count as wrong
    unreadable: int = 0  # lines that are no result
    unparsed: int = 0  # answers that name no option, no number, no move; they count as wrong
    configurations: int = 1  # different settings in one file

    def any(self, unparsed_allowed: int = 0) -> bool:
        counts = (self.missing, self.unknown, self.duplicates, self.failed, self.unreadable)
        return any(counts) or self.unparsed > unparsed_allowed or self.configurations > 1


@dataclass(frozen=True)
class Summary:
    """`scores` holds the reported groups by rule ("corrected", "official", ...), the overall number first."""

    benchmark: str
    items: int
    samples: int  # an item
    scores: dict[str, list[Group]]
    reward: float
    drawing: Drawing
    stop_reasons: dict[str, int]
    errors: dict[str, int]
    usage: dict[str, float]
    problems: Problems
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(
    read: ReadResults, benchmark: Benchmark, expected: Collection[tuple[str, str]] | None = None
) -> tuple[Summary, list[Scored]]:
    """Score results. `expected` are the (id, digest) of all the benchmark's items; rows of other items are counted as
    unknown and not scored. Without them nothing is known to be missing or unknown. An item that failed, or whose own
    answer cannot be read, counts as wrong."""
    results = read.results
    if expected is not None:
        wanted = set(expected)
        results = [r for r in results if (r.id, r.digest) in wanted]
    scored = [score(result, benchmark) for result in results]
    failed = [one for one in scored if one.problem is not None]
    for one in failed[:_SHOWN]:
        log.error("%s: %s; it counts as wrong", read.path, one.problem)
    if len(failed) > _SHOWN:
        log.error("%s: %d more items failed", read.path, len(failed) - _SHOWN)
    samples = 1 + max((one.sample for one in scored), default=0)
    items = len({one.item for one in scored})
    pairs = samples * (items if expected is None else len(set(expected)))
    problems = Problems(
        missing=pairs - len(scored) if expected is not None or samples > 1 else 0,
        unknown=len(read.results) - len(results),
        duplicates=read.duplicates,
        failed=len(failed),
        unreadable=read.unreadable,
        unparsed=sum(one.unreadable for one in scored),
        configurations=max(1, len({r.config for r in results})),
    )
    endings = Counter(str(r.trace.stop_reason) if r.trace else "input_error" for r in results)
    steps = [step for r in results if r.trace for step in r.trace.steps]
    summary = Summary(
        benchmark=benchmark.name,
        items=items,
        samples=samples,
        scores=_groups(benchmark, scored, samples),
        reward=_reward(results, scored),
        drawing=_drawing([r for r in results if r.trace is not None]),
        stop_reasons=dict(endings),
        errors=dict(Counter(step.error for step in steps if step.error).most_common()),
        usage=_usage(results),
        problems=problems,
        notes=_notes(benchmark, items, {one.task for one in scored}),
    )
    return summary, scored


def _groups(benchmark: Benchmark, scored: Sequence[Scored], samples: int) -> dict[str, list[Group]]:
    if not scored:
        return {CORRECTED: [share("overall", [], [])]}
    tasks = sorted({one.task for one in scored})
    measures = benchmark.measures(tasks)
    published = benchmark.published_measures(tasks) if benchmark.published_measures else measures
    groups = {
        rule: estimate(published if rule == PUBLISHED else measures, values_by_task(scored, rule))
        for rule in scored[0].scores
    }
    if samples > 1:
        groups[f"{CORRECTED}, best of {samples}"] = estimate(measures, best_by_task(scored, CORRECTED))
    return groups


def _reward(results: Sequence[Result], scored: Sequence[Scored]) -> float:
    rewards = [
        reward_of(one.scores[CORRECTED], result.trace).total if result.trace else 0.0
        for result, one in zip(results, scored, strict=True)
    ]
    return sum(rewards) / len(rewards) if rewards else 0.0


def _drawing(results: Sequence[Result]) -> Drawing:
    items = [(r.id, r.digest) for r in results]
    traces = [r.trace for r in results if r.trace is not None]
    count = max(1, len(traces))
    reflections = [reflection(trace) for trace in traces]
    shares = {
        "drew at least one mark": [float(bool(t.marks)) for t in traces],
        "every step well-formed": [float(t.well_formed) for t in traces],
        "at least one unusable step": [float(t.tool_errors > 0) for t in traces],
        "reflection (Eq. 5)": [float(r.loose) for r in reflections],
        "reflection, strict": [float(r.strict) for r in reflections],
    }
    return Drawing(
        steps=sum(len(t.steps) for t in traces) / count,
        boxes=sum(t.boxes for t in traces) / count,
        lines=sum(t.lines for t in traces) / count,
        shares=[share(name, items, values) for name, values in shares.items()],
    )


def _usage(results: Sequence[Result]) -> dict[str, float]:
    """Tokens of all results together."""
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.usage)
    return dict(total)


def _notes(benchmark: Benchmark, items: int, tasks: Collection[str]) -> list[str]:
    notes = []
    if not benchmark.items:
        notes.append("no benchmark of that name: scores are pooled over all items")
    elif items != benchmark.items:
        notes.append(f"{benchmark.items} items in the published benchmark, {items} here")
    lacking = [name for name in benchmark.tasks if name not in tasks and not _stands_in(name, benchmark.tasks, tasks)]
    if lacking:
        notes.append(f"no items of {', '.join(lacking)}; macro means leave them out")
    return notes


def _stands_in(name: str, known: Collection[str], tasks: Collection[str]) -> bool:
    """Whether items of a task's coarser or finer name are there, as VSI-Bench's directions without their level."""
    others = [other for other in tasks if other in known and other != name]
    return any(other.startswith(name) or name.startswith(other) for other in others)
