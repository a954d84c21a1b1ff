"""What a benchmark reports: means over the items of tasks (pooled), or means of such means (macro)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vilasr.scoring.intervals import Group, Strata, Values, is_binary, wilson_interval


@dataclass(frozen=True, slots=True)
class Measure:
    """`tasks`: pooled over their items, each item counting the same. `parts`: the mean of those parts that have items,
    each part counting the same. One of the two is set."""

    name: str
    tasks: tuple[str, ...] = ()
    parts: tuple[Measure, ...] = ()

    def weights(self, counts: Mapping[str, int]) -> dict[str, float]:
        """The measure as a weighted mean of task means: weight by task, summing to 1; empty without any item.
        `counts` are the items of each task."""
        if self.tasks:
            present = {task: counts[task] for task in self.tasks if counts.get(task)}
            total = sum(present.values())
            return {task: count / total for task, count in present.items()}
        found = [weights for part in self.parts if (weights := part.weights(counts))]
        merged: dict[str, float] = {}
        for weights in found:
            for task, weight in weights.items():
                merged[task] = merged.get(task, 0.0) + weight / len(found)
        return merged

    @property
    def covers(self) -> set[str]:
        """Every task that counts in it."""
        return set(self.tasks).union(*(part.covers for part in self.parts))


def task(name: str) -> Measure:
    """The mean over one task's items."""
    return Measure(name, tasks=(name,))


def macro(name: str, parts: Sequence[Measure | str]) -> Measure:
    """The mean of the parts' means; a text stands for that task."""
    return Measure(name, parts=tuple(task(part) if isinstance(part, str) else part for part in parts))


def pooled(name: str, tasks: Sequence[str]) -> Measure:
    return Measure(name, tasks=tuple(tasks))


def estimate(measures: Sequence[Measure], values: Mapping[str, Values], seed: int | None = None) -> list[Group]:
    """Mean and interval of each measure that has items. `values` are the item scores by task, shape (items,).

    A pooled mean of zeros and ones gets Wilson's interval, every other one the stratified bootstrap's.
    """
    strata = Strata(values) if seed is None else Strata(values, seed)
    counts = {name: len(v) for name, v in strata.values.items()}
    groups = []
    for measure in measures:
        weights = measure.weights(counts)
        if not weights:
            continue
        count = sum(counts[name] for name in weights)
        mean = strata.mean(weights)
        if measure.tasks and all(is_binary(strata.values[name]) for name in weights):
            right = sum(float(np.sum(strata.values[name])) for name in weights)
            groups.append(Group(measure.name, count, mean, *wilson_interval(right, count)))
        else:
            groups.append(Group(measure.name, count, mean, *strata.interval(weights), method="bootstrap"))
    return groups
