"""95 % intervals of means: Wilson's for proportions, a seeded bootstrap for everything else."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REPLICATES = 10_000
SEED = 20250612
_CHUNK = 4_000_000  # numbers drawn at once, to bound memory

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Group:
    """A reported number: the mean of `count` items, and its 95 % interval by `method` ("wilson" or "bootstrap")."""

    name: str
    count: int
    mean: float
    low: float
    high: float
    method: str = "wilson"


def wilson_interval(successes: float, total: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927). (0, 1) for no trials."""
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    centre = share + z * z / (2 * total)
    margin = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


def resampled_means(values: Values, seed: int = SEED, replicates: int = REPLICATES) -> Values:
    """Means of `replicates` bootstrap samples of the values, shape (replicates,).

    How often each distinct value is drawn is multinomial, so only those counts are drawn: the same distribution as
    drawing item by item, and a benchmark of 100,000 items takes milliseconds.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) == 1:
        return np.full(replicates, distinct[0])
    rng = np.random.default_rng(seed)
    shares = counts / len(values)
    rows = max(1, _CHUNK // len(distinct))
    pieces = [
        rng.multinomial(len(values), shares, size=min(rows, replicates - start)) @ distinct
        for start in range(0, replicates, rows)
    ]
    return np.concatenate(pieces) / len(values)


class Strata:
    """Item values by stratum (a benchmark's task). Gives means over weighted strata with bootstrap intervals, where
    every stratum is resampled by itself and always in the same way, so that a total and its parts agree."""

    def __init__(self, values: Mapping[str, Values], seed: int = SEED) -> None:
        self.values = {name: v for name, v in values.items() if len(v)}
        self.means = {name: float(np.mean(v)) for name, v in self.values.items()}
        self._seed = seed
        self._resampled: dict[str, Values] = {}

    def mean(self, weights: Mapping[str, float]) -> float:
        return sum(weight * self.means[name] for name, weight in weights.items())

    def interval(self, weights: Mapping[str, float]) -> tuple[float, float]:
        """The 2.5 and 97.5 percentiles of the weighted mean over bootstrap samples, stratified."""
        total = sum(weight * self._draw(name) for name, weight in weights.items())
        low, high = np.percentile(np.asarray(total), [2.5, 97.5])
        return float(low), float(high)

    def _draw(self, name: str) -> Values:
        if name not in self._resampled:
            self._resampled[name] = resampled_means(self.values[name], self._seed ^ zlib.crc32(name.encode()))
        return self._resampled[name]


def by_item(items: Sequence[object], values: Sequence[float]) -> Values:
    """One value an item: the mean of its samples. So that several samples of an item count as one cluster."""
    order = {item: number for number, item in enumerate(dict.fromkeys(items))}
    index = np.fromiter((order[item] for item in items), dtype=np.int64, count=len(items))
    array = np.asarray(values, dtype=np.float64)
    return np.bincount(index, weights=array, minlength=len(order)) / np.bincount(index, minlength=len(order))


def share(name: str, items: Sequence[object], values: Sequence[float]) -> Group:
    """The mean over items. Wilson's interval where every value is 0 or 1, the bootstrap's over items elsewhere."""
    if not values:
        return Group(name, 0, 0.0, 0.0, 1.0)
    means = by_item(items, values)
    mean = float(np.mean(means))
    if is_binary(means):
        return Group(name, len(means), mean, *wilson_interval(float(means.sum()), len(means)))
    return Group(name, len(means), mean, *Strata({name: means}).interval({name: 1.0}), method="bootstrap")


def is_binary(values: Values) -> bool:
    return bool(np.all((values == 0) | (values == 1)))
