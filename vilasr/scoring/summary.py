"""From results to a summary: scores with intervals, endings, drawing statistics, and what is missing."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vilasr.one_line import one_line
from vilasr.reflect import reflection
from vilasr.results import Result
from vilasr.reward import reward_of
from vilasr.scoring import Benchmark, Group
from vilasr.scoring.benchmark import CORRECTED
from vilasr.scoring.intervals import share
from vilasr.scoring.items import Scored, best_by_task, measures_of, score, values_by_task
from vilasr.scoring.measures import estimate
from vilasr.scoring.reading import ReadResults
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

_UNUSABLE = (TypeError, ValueError, AttributeError, KeyError, IndexError, ArithmeticError, RecursionError)
_SHOWN = 20  # errors of items that are logged one by one
_NAMED = 5  # ids in a list of problems


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
    ids: dict[str, list[str]] = field(default_factory=dict)  # the first of each kind

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
    answer cannot be read, scores 0. Raises DataError if no row is of an item expected."""
    results, unknown = read.results, []
    if expected is not None:
        wanted = set(expected)
        results = [r for r in read.results if (r.id, r.digest) in wanted]
        unknown = [r.id for r in read.results if (r.id, r.digest) not in wanted]
        if not results:
            raise DataError(
                f"{read.path}: none of its {len(unknown)} items, such as {unknown[0]!r}, is in the benchmark's file in "
                "the same wording; name the file that was run by --benchmark-dir"
            )
    scored = [score(result, benchmark) for result in results]
    failed = [one for one in scored if one.problem is not None]
    for one in failed[:_SHOWN]:
        log.error("%s: %s; it scores 0", read.path, one.problem)
    if len(failed) > _SHOWN:
        log.error("%s: %d more items failed", read.path, len(failed) - _SHOWN)
    samples = 1 + max((one.sample for one in scored), default=0)
    found = Counter(item for item, _ in {(one.item, one.sample) for one in scored})
    items = list(dict.fromkeys(one.item for one in scored))
    missing = {item: samples - found[item] for item in expected or items if found[item] < samples}
    named = {
        "missing": [item_id for item_id, _ in missing],
        "unknown": unknown,
        "failed": [one.item[0] for one in failed],
        "unparsed": [one.item[0] for one in scored if one.unreadable],
    }
    problems = Problems(
        missing=sum(missing.values()),
        unknown=len(unknown),
        duplicates=read.duplicates,
        failed=len(failed),
        unreadable=read.unreadable,
        unparsed=sum(one.unreadable for one in scored),
        configurations=max(1, len({r.config for r in results})),
        ids={kind: list(dict.fromkeys(ids))[:_NAMED] for kind, ids in named.items() if ids},
    )
    endings = Counter(str(r.trace.stop_reason) if r.trace else "input_error" for r in results)
    steps = [step for r in results if r.trace for step in r.trace.steps]
    summary = Summary(
        benchmark=benchmark.name,
        items=len(items),
        samples=samples,
        scores=_groups(benchmark, scored, samples),
        reward=_reward(results, scored),
        drawing=drawing_of(results),
        stop_reasons=dict(endings),
        errors=dict(Counter(step.error for step in steps if step.error).most_common()),
        usage=_usage(results),
        problems=problems,
        notes=_notes(benchmark, len(items), {one.task for one in scored}),
    )
    return summary, scored


def summarise_usable(
    read: ReadResults, benchmark: Benchmark, expected: Collection[tuple[str, str]] | None = None
) -> tuple[ReadResults, Summary, list[Scored]]:
    """As `summarise`, with what was scored. Rows that no scorer can take, as none of an episode is, are told and count
    as unreadable. Raises DataError as `summarise`, and where there is no other row."""
    try:
        return read, *summarise(read, benchmark, expected)
    except DataError:
        raise
    except _UNUSABLE:
        pass
    usable = []
    for result in read.results:
        try:
            summarise(ReadResults(read.path, [result], 0, 0), benchmark)
            usable.append(result)
        except _UNUSABLE as exc:
            told = f"{read.path}: item {result.id}: cannot be scored ({type(exc).__name__}: {exc})"
            log.error("%s", one_line(told))
    if not usable:
        raise DataError(
            f"{read.path}: none of its {len(read.results)} results can be scored, as told above; run "
            "eval/infer.sh again"
        )
    read = replace(read, results=usable, unreadable=read.unreadable + len(read.results) - len(usable))
    try:
        return read, *summarise(read, benchmark, expected)
    except DataError:
        raise
    except _UNUSABLE as exc:
        raise DataError(f"{read.path}: cannot be scored ({type(exc).__name__}: {exc})") from exc


def _groups(benchmark: Benchmark, scored: Sequence[Scored], samples: int) -> dict[str, list[Group]]:
    if not scored:
        return {CORRECTED: [share("overall", [], [])]}
    groups = {
        rule: estimate(measures_of(benchmark, scored, rule), values_by_task(scored, rule)) for rule in scored[0].scores
    }
    if samples > 1:
        best = best_by_task(scored, CORRECTED)
        groups[f"{CORRECTED}, best of {samples}"] = estimate(measures_of(benchmark, scored, CORRECTED), best)
    return groups


def _reward(results: Sequence[Result], scored: Sequence[Scored]) -> float:
    rewards = [
        reward_of(one.scores[CORRECTED], result.trace).total if result.trace else 0.0
        for result, one in zip(results, scored, strict=True)
    ]
    return sum(rewards) / len(rewards) if rewards else 0.0


def drawing_of(results: Sequence[Result]) -> Drawing:
    """Of those that have a trace."""
    items = [(r.id, r.digest) for r in results if r.trace is not None]
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
