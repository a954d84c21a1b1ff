"""Runs of one benchmark compared item by item, with the tests and texts of `eval/evaluate.py --compare`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any

from vilasr.scoring import find_benchmark
from vilasr.scoring.benchmark import CORRECTED
from vilasr.scoring.compare import SAME, Comparison, Difference, compare
from vilasr.scoring.intervals import by_item
from vilasr.scoring.items import Scored
from vilasr.scoring.table import p_text

Item = tuple[str, str]  # id and digest of the question


class Change(StrEnum):
    """An item's score in one run against that in another; a letter each, as the page holds one for every trace."""

    FIXED = "f"  # higher
    BROKEN = "b"  # lower
    SAME_RIGHT = "r"
    SAME_PARTLY = "p"
    SAME_WRONG = "w"
    ONLY = "o"  # the other run lacks the item
    NONE = "-"  # the run is compared with none


class Against(StrEnum):
    """Which run of its benchmark a run is compared with."""

    FIRST = "first"
    BEFORE = "before"


@dataclass(frozen=True)
class Pair:
    """Two runs by their numbers in the report. `changes` tells of every item of the second run."""

    first: int
    second: int
    against: tuple[Against, ...]
    comparison: Comparison
    changes: Mapping[Item, Change]

    def record(self) -> dict[str, Any]:
        """What the overview shows, in the figures that `eval/evaluate.py --compare` prints."""
        told = self.comparison
        counts = Counter(self.changes.values())
        return {
            "benchmark": told.benchmark,
            "rule": told.rule,
            "first": self.first,
            "second": self.second,
            "against": list(self.against),
            "items": told.items,
            "rows": [difference_texts(row) for row in told.rows],
            "changes": {change: counts[change] for change in Change if change not in (Change.ONLY, Change.NONE)},
            "mcnemar": None if told.mcnemar is None else p_text(told.mcnemar),
            "only_first": told.only_first,
            "only_second": told.only_second,
        }


@dataclass(frozen=True)
class Comparisons:
    """`apart`: runs of one benchmark that have no item in common. `changed`: (benchmark, item) whose scores differ
    between any two runs."""

    pairs: tuple[Pair, ...] = ()
    apart: tuple[tuple[int, int], ...] = ()
    changed: frozenset[tuple[str, Item]] = field(default=frozenset())

    @cached_property
    def runs(self) -> frozenset[int]:
        """Those that share items with another."""
        return frozenset(run for pair in self.pairs for run in (pair.first, pair.second))

    def change(self, against: Against, run: int, item: Item) -> Change:
        changes = self._changes.get((against, run))
        return Change.NONE if changes is None else changes[item]

    @cached_property
    def _changes(self) -> dict[tuple[Against, int], Mapping[Item, Change]]:
        return {(against, pair.second): pair.changes for pair in self.pairs for against in pair.against}


def compare_runs(names: Sequence[str], scored: Sequence[Sequence[Scored]]) -> Comparisons:
    """Compares the runs of each benchmark, in the order given: each with the first one and with the one before it.
    `names` are the runs' benchmarks."""
    pairs: list[Pair] = []
    apart: list[tuple[int, int]] = []
    changed: set[tuple[str, Item]] = set()
    for name, count in Counter(names).items():
        if count < 2:
            continue
        runs = [number for number, other in enumerate(names) if other == name]
        means = {run: item_means(scored[run]) for run in runs}
        for (first, second), against in _wanted(runs).items():
            if means[first].keys().isdisjoint(means[second]):
                apart.append((first, second))
                continue
            comparison = compare(scored[first], scored[second], find_benchmark(name), CORRECTED)
            changes = {item: _change(means[first].get(item), mean) for item, mean in means[second].items()}
            pairs.append(Pair(first, second, against, comparison, changes))
        changed |= {(name, item) for item in _differing(list(means.values()))}
    return Comparisons(tuple(pairs), tuple(apart), frozenset(changed))


def item_means(scored: Sequence[Scored]) -> dict[Item, float]:
    """Each item's score by the corrected rule, the mean of its samples."""
    items = [one.item for one in scored]
    return dict(zip(dict.fromkeys(items), by_item(items, [one.scores[CORRECTED] for one in scored]), strict=True))


def difference_texts(row: Difference) -> list[str | int]:
    """Name, count, first, second, difference, its interval, p value."""
    return [
        row.name,
        row.count,
        f"{100 * row.first:.1f}",
        f"{100 * row.second:.1f}",
        f"{100 * row.difference:+.1f}",
        f"[{100 * row.low:+.1f}, {100 * row.high:+.1f}]",
        p_text(row.p_value),
    ]


def _wanted(runs: Sequence[int]) -> dict[tuple[int, int], tuple[Against, ...]]:
    wanted: dict[tuple[int, int], tuple[Against, ...]] = {}
    for before, run in pairwise(runs):
        wanted[runs[0], run] = (Against.FIRST,)
        wanted[before, run] = (*wanted.get((before, run), ()), Against.BEFORE)
    return wanted


def _change(first: float | None, second: float) -> Change:
    if first is None:
        return Change.ONLY
    if abs(second - first) > SAME:
        return Change.FIXED if second > first else Change.BROKEN
    if second >= 1 - SAME:
        return Change.SAME_RIGHT
    return Change.SAME_PARTLY if second > SAME else Change.SAME_WRONG


def _differing(runs: Sequence[Mapping[Item, float]]) -> set[Item]:
    low: dict[Item, float] = {}
    high: dict[Item, float] = {}
    for means in runs:
        for item, mean in means.items():
            low[item], high[item] = min(mean, low.get(item, mean)), max(mean, high.get(item, mean))
    return {item for item, least in low.items() if high[item] - least > SAME}
