"""The training reward: S = 1[accuracy > beta] * (accuracy + format) / 2 (the paper's Eq. 2, halved to lie in [0, 1]).

Accuracy is the `corrected` score that the evaluation reports; format is 1 if every reply parses and every mark could
be drawn. No answer is no reward.
"""

from __future__ import annotations

from dataclasses import dataclass

from vilasr.scoring import corrected_accuracy
from vilasr.tasks import Example
from vilasr.traces import Trace


@dataclass(frozen=True, slots=True)
class Reward:
    total: float
    accuracy: float
    format: float


def reward_of(accuracy: float, trace: Trace, beta: float = 0.0) -> Reward:
    """The reward of a trace whose accuracy is known."""
    form = float(trace.well_formed)
    earned = trace.answer is not None and accuracy > beta
    return Reward((accuracy + form) / 2 if earned else 0.0, accuracy, form)


def reward(example: Example, trace: Trace, beta: float = 0.0) -> Reward:
    """Raises ValueError where the item's own answer cannot be read (see `corrected_accuracy`)."""
    return reward_of(corrected_accuracy(example, trace.answer), trace, beta)
