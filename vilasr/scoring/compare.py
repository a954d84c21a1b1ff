"""Two runs on the same items: differences with intervals, and paired tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vilasr.scoring.benchmark import Benchmark
from vilasr.scoring.intervals import SEED, Strata, Values
from vilasr.scoring.items import Scored, measures_of

FLIPS = 20_000
SAME = 1e-9  # means of an item's samples that differ by less are equal


@dataclass(frozen=True, slots=True)
class Difference:
    """Second minus first of one measure, its 95 % interval (stratified bootstrap over items) and the p value of the
    sign-flip permutation test."""

    name: str
    count: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """`better`, `worse`, `same` count items by the second run against the first. `mcnemar` is the exact test's p value
    over all items; None where scores are not 0 or 1."""

    benchmark: str
    rule: str
    items: int
    rows: list[Difference]
    better: int
    worse: int
    same: int
    mcnemar: float | None
    only_first: int = 0
    only_second: int = 0


def compare(first: Sequence[Scored], second: Sequence[Scored], benchmark: Benchmark, rule: str) -> Comparison:
    """Pairs items by id and digest; an item's samples are averaged first. Raises ValueError without a common item."""
    a, b = _means(first, rule), _means(second, rule)
    common = [item for item in a if item in b]
    if not common:
        raise ValueError("the two runs have no item in common (same id and same question)")
    task = {one.item: one.task for one in (*second, *first)}
    by_task: dict[str, list[tuple[str, str]]] = {}
    for item in common:
        by_task.setdefault(task[item], []).append(item)
    tasks = sorted(by_task)
    values = [{name: np.array([run[item] for item in by_task[name]]) for name in tasks} for run in (a, b)]
    strata_of = [Strata(v) for v in values]
    differences = {name: values[1][name] - values[0][name] for name in tasks}
    strata = Strata(differences)
    counts = {name: len(v) for name, v in differences.items()}
    rows = []
    for measure in measures_of(benchmark, [one for one in (*second, *first) if one.item in b and one.item in a], rule):
        weights = measure.weights(counts)
        if not weights:
            continue
        low, high = strata.interval(weights)
        rows.append(
            Difference(
                name=measure.name,
                count=sum(counts[name] for name in weights),
                first=strata_of[0].mean(weights),
                second=strata_of[1].mean(weights),
                difference=strata.mean(weights),
                low=low,
                high=high,
                p_value=sign_flip_test(differences, weights),
            )
        )
    every = np.concatenate([differences[name] for name in tasks])
    better, worse = int(np.sum(every > SAME)), int(np.sum(every < -SAME))
    binary = all(value in (0.0, 1.0) for run in (a, b) for value in (run[item] for item in common))
    return Comparison(
        benchmark=benchmark.name,
        rule=rule,
        items=len(common),
        rows=rows,
        better=better,
        worse=worse,
        same=len(every) - better - worse,
        mcnemar=mcnemar_test(better, worse) if binary else None,
        only_first=len(a) - len(common),
        only_second=len(b) - len(common),
    )


def _means(scored: Sequence[Scored], rule: str) -> dict[tuple[str, str], float]:
    samples: dict[tuple[str, str], list[float]] = {}
    for one in scored:
        samples.setdefault(one.item, []).append(one.scores[rule])
    return {item: math.fsum(values) / len(values) for item, values in samples.items()}


def sign_flip_test(differences: Mapping[str, Values], weights: Mapping[str, float], seed: int = SEED) -> float:
    """Two-sided p value of the weighted mean difference under random signs of the item differences (Fisher's
    randomisation test for pairs; Monte Carlo, so never below 1 / 20,001).

    Items of equal weighted difference are alike, so only the number of kept signs among them is drawn, a binomial.
    """
    terms = np.concatenate([weights[name] / len(v) * v for name, v in differences.items() if weights.get(name)])
    sizes, counts = np.unique(np.abs(terms[np.abs(terms) > 0]).round(15), return_counts=True)
    if not len(sizes):
        return 1.0
    rng = np.random.default_rng(seed)
    total = np.zeros(FLIPS)
    for size, count in zip(sizes, counts, strict=True):
        total += size * (2.0 * rng.binomial(count, 0.5, size=FLIPS) - count)
    observed = abs(float(terms.sum()))
    return (1 + int(np.sum(np.abs(total) >= observed - 1e-12))) / (FLIPS + 1)


def mcnemar_test(better: int, worse: int) -> float:
    """Exact two-sided p value (McNemar 1947): binomial(better + worse, 1/2)."""
    total, least = better + worse, min(better, worse)
    tail = sum(math.comb(total, k) for k in range(least + 1))
    return min(1.0, float(2 * tail / 2**total)) if total else 1.0
