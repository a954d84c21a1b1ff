"""The record of one training episode: its reward, its numbers for the logs, and its line of a results file."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vilasr.reflect import reflection
from vilasr.results import broken_row, result_row
from vilasr.reward import Reward, reward
from vilasr.tasks import Example
from vilasr.traces import StopReason, Trace

log = logging.getLogger(__name__)

CONFIG = "grpo"  # what stands in a results file where inference puts the hash of its settings
_COUNTS = ("reflection", "reflection_strict", "steps", "boxes", "lines", "tool_errors")


@dataclass(frozen=True)
class Record:
    """An episode that is over. `trace` is None where the question could not be read; `detail` then says why.
    `sample` counts the question's episodes from 0; `usage` is in tokens."""

    example: Example
    trace: Trace | None
    detail: str = ""
    files: tuple[str, ...] = ()
    sample: int = 0
    beta: float = 0.0
    usage: Mapping[str, int] | None = None

    @property
    def reward(self) -> Reward:
        """By the same functions as the evaluation; 0 without a trace."""
        return self._rewarded[0]

    @property
    def seconds(self) -> float:
        """That it took to find the reward."""
        return self._rewarded[1]

    @functools.cached_property
    def _rewarded(self) -> tuple[Reward, float]:
        started = time.perf_counter()
        found = self._find_reward()
        return found, time.perf_counter() - started

    def _find_reward(self) -> Reward:
        if self.trace is None:
            return Reward(0.0, 0.0, 0.0)
        try:
            return reward(self.example, self.trace, self.beta)
        except ValueError as exc:  # the truth cannot be read; the dataset leaves such questions out
            log.error("item %s: answer: %s", self.example.id, exc)
            return Reward(0.0, 0.0, 0.0)

    @property
    def stop_reason(self) -> StopReason:
        ended = self.trace.stop_reason if self.trace else None
        return ended or StopReason.INPUT_ERROR

    def scores(self) -> dict[str, float]:
        """verl averages them over the validation set, by data source; `acc` is the name it knows. `stop_...` is 1 for
        the ending this episode had."""
        counts = dict.fromkeys(_COUNTS, 0.0)
        if self.trace is not None:
            reflected = reflection(self.trace)
            values = (reflected.loose, reflected.strict, len(self.trace.steps), self.trace.boxes, self.trace.lines)
            counts = dict(zip(_COUNTS, map(float, (*values, self.trace.tool_errors)), strict=True))
        endings = {f"stop_{reason}": float(reason is self.stop_reason) for reason in StopReason}
        return {"acc": self.reward.accuracy, "format": self.reward.format, **counts, **endings}

    def row(self) -> dict[str, Any]:
        """A line of a results file (`vilasr.results`), the reward beside."""
        extra = {"reward": asdict(self.reward), "usage": dict(self.usage or {})}
        ex = self.example
        if self.trace is None:
            row = broken_row(ex.id, ex.digest(), ex.source, CONFIG, self.detail, self.sample, ex.task)
            return {**row, "data_type": ex.data_type, **extra}
        return result_row(ex, self.trace, CONFIG, self.files, self.sample, **extra)
