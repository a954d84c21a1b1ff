"""The steps' table against steps written by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import tests.inference.steps as module
from tests.inference.steps import StepLog


def plan(tokens: dict[str, int], images: dict[str, list[int]] | None = None) -> Any:
    return SimpleNamespace(
        num_scheduled_tokens=tokens,
        total_num_scheduled_tokens=sum(tokens.values()),
        scheduled_encoder_inputs=images or {},
    )


def test_steps_are_told_by_what_is_in_them(monkeypatch):
    """A step lasts to the next scheduling; what is last, and what a pause follows, is not counted."""
    plans = iter(
        [
            (0.00, plan({"a": 1, "b": 1})),
            (0.01, plan({"a": 1, "b": 1, "c": 500}, {"c": [0]})),
            (0.09, plan({"a": 1, "d": 600, "e": 700}, {"d": [0, 1], "e": [0]})),
            (0.19, plan({"a": 1})),
            (0.22, plan({"f": 40})),
            (0.25, plan({"f": 1})),
            (9.00, plan({"g": 1})),
        ]
    )
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def schedule(throttle: bool) -> Any:
        now[0], made = next(plans)
        return made

    scheduler = SimpleNamespace(schedule=schedule)
    log = StepLog()
    log.watch(scheduler)
    for _ in range(7):
        scheduler.schedule(False)
    table = {row["steps"]: row for row in log.table()}
    assert [(name, row["count"], row["median ms"]) for name, row in table.items()] == [
        ("decode only", 2, 20.0),
        ("0 to 0 images", 1, 30.0),
        ("1 to 1 images", 1, 80.0),
        ("2 to 3 images", 1, 100.0),
    ]
    assert table["1 to 1 images"]["prefill tokens"] == 499
    assert table["2 to 3 images"]["running"] == 3
    assert table["decode only"]["seconds"] == 0.04
