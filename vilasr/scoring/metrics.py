"""Metrics and their intervals."""

from __future__ import annotations

import math

import numpy as np

# 0.50, 0.55, ..., 0.95. Built from whole numbers: np.arange and np.linspace give other last bits.
MRA_THRESHOLDS = np.arange(50, 100, 5) / 100


def mean_relative_accuracy(predicted: float, truth: float) -> float:
    """MRA (VSI-Bench, arXiv 2412.14171, Eq. 1): the share of thresholds t in 0.50..0.95 with relative error <= 1 - t.

    In float64. The paper of ViLaSR writes `<`; VSI-Bench's own code and ours have `<=`. For truth 0 the absolute
    error stands in for the relative one, as in SPAR-Bench's code.
    """
    if not (math.isfinite(predicted) and math.isfinite(truth)):
        return 0.0
    error = abs(predicted - truth) / (abs(truth) if truth else 1.0)
    return float(np.mean(error <= 1.0 - MRA_THRESHOLDS))


def wilson_interval(successes: float, total: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927). (0, 1) for no trials."""
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    centre = share + z * z / (2 * total)
    margin = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)
