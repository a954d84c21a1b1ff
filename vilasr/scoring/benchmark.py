"""What a benchmark is: two rules for an item, and how item scores become the numbers it reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vilasr.scoring.metrics import wilson_interval
from vilasr.tasks import Example


@dataclass(frozen=True, slots=True)
class Scored:
    """One item's scores. `official` is None where the benchmark has no official scorer for it."""

    item_id: str
    task: str
    corrected: float
    official: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A reported number: mean of `count` items in [0, 1] with its 95 % interval."""

    name: str
    count: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`corrected(example, answer)` scores the parsed answer, None without one; `official(example, text)` follows the
    benchmark's own scorer and gets the answer, or the raw last reply without one. `aggregate(scores, rule)` gives the
    reported groups, the overall number first; `rule` is "corrected" or "official"."""

    name: str
    items: int
    corrected: Callable[[Example, str | None], float]
    official: Callable[[Example, str], float] | None
    aggregate: Callable[[Sequence[Scored], str], list[Group]]


def proportion(name: str, values: Sequence[float]) -> Group:
    """The pooled mean over items, with Wilson's interval."""
    total = sum(values)
    low, high = wilson_interval(total, len(values))
    return Group(name, len(values), total / len(values) if values else 0.0, low, high)


def pooled_with_tasks(scores: Sequence[Scored], rule: str) -> list[Group]:
    """Micro average over all items, then one group a task in alphabetical order."""
    values = [(s.task, s.corrected if rule == "corrected" else (s.official or 0.0)) for s in scores]
    overall = proportion("overall", [value for _, value in values])
    tasks = sorted({task for task, _ in values})
    return [overall, *(proportion(task, [value for t, value in values if t == task]) for task in tasks)]
