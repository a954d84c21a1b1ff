"""Mean relative accuracy, the metric of numbers."""

from __future__ import annotations

import math

import numpy as np

# 1 - t for the ten thresholds t = 0.50, 0.55, ..., 0.95. The last bits decide cases on the boundary (14 for 10, or 11
# for 20), so they are those of VSI-Bench's code: np.linspace, subtracted from 1 in float64.
MRA_LIMITS: tuple[float, ...] = tuple((1 - np.linspace(0.5, 0.95, 10)).tolist())


def share_within(error: float) -> float:
    """The share of the ten limits that a relative error meets (`<=`); 0 for nan."""
    return sum(error <= limit for limit in MRA_LIMITS) / len(MRA_LIMITS)


def mean_relative_accuracy(predicted: float, truth: float) -> float:
    """MRA (VSI-Bench, arXiv 2412.14171, Eq. 1): the share of thresholds t in 0.50..0.95 with relative error <= 1 - t.

    In float64. The paper of ViLaSR writes `<`; VSI-Bench's own code and ours have `<=`. For truth 0 the absolute
    error stands in for the relative one, as in SPAR-Bench's code.
    """
    if not (math.isfinite(predicted) and math.isfinite(truth)):
        return 0.0
    return share_within(abs(predicted - truth) / (abs(truth) if truth else 1.0))
