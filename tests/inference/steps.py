"""What vLLM's steps take, by what is in them. For engines whose steps run in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

BOUNDS = (0, 1, 2, 4, 8, 16, 1 << 30)  # of images that a step encodes


@dataclass(frozen=True, slots=True)
class Step:
    """From one scheduling to the next. `prefill` counts tokens that are no running sequence's one new token."""

    seconds: float
    running: int
    prefill: int
    images: int


@dataclass
class StepLog:
    """Put around `schedule` of vLLM's scheduler. A pause of over half a second is no step."""

    steps: list[Step] = field(default_factory=list)
    _last: tuple[float, int, int, int] | None = None

    def watch(self, scheduler: Any) -> None:
        schedule = scheduler.schedule

        def watched(*args: Any, **kwargs: Any) -> Any:
            plan = schedule(*args, **kwargs)
            running = len(plan.num_scheduled_tokens)
            images = sum(map(len, plan.scheduled_encoder_inputs.values()))
            self.add(time.perf_counter(), running, plan.total_num_scheduled_tokens - running, images)
            return plan

        scheduler.schedule = watched

    def add(self, now: float, running: int, prefill: int, images: int) -> None:
        if self._last is not None and now - self._last[0] < 0.5:
            self.steps.append(Step(now - self._last[0], *self._last[1:]))
        self._last = (now, running, prefill, images)

    def table(self) -> list[dict[str, Any]]:
        """Steps that only decode, then those that also take turns up, by the images in them."""
        groups = {"decode only": [step for step in self.steps if not step.prefill]}
        for low, high in pairwise(BOUNDS):
            name = f"{low} to {high - 1} images" if high < BOUNDS[-1] else f"{low} images and more"
            groups[name] = [step for step in self.steps if step.prefill and low <= step.images < high]
        return [
            {
                "steps": name,
                "count": len(steps),
                "seconds": round(sum(step.seconds for step in steps), 2),
                "median ms": round(1e3 * median(step.seconds for step in steps), 1),
                "running": round(sum(step.running for step in steps) / len(steps), 1),
                "prefill tokens": round(sum(step.prefill for step in steps) / len(steps)),
            }
            for name, steps in groups.items()
            if steps
        ]
