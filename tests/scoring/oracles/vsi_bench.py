"""VSI-Bench's scorer: vision-x-nyu/thinking-in-space, lmms_eval/tasks/vsibench/utils.py.

What counts of a reply is what stands before its first space, without the dots at its end, then without white space.
Choices: equal to the letter but for case. Numbers: whatever float() reads, by relative accuracy; the error is divided
by the truth with its sign, so below 0 every number is right, and 0 stops the program unless the reply is no number.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.scoring.oracles import Outcome
from tests.scoring.oracles.relative_accuracy import met

NUMBERS = ("object_abs_distance", "object_counting", "object_size_estimation", "room_size_estimation")
LEVELS = ("object_rel_direction_easy", "object_rel_direction_medium", "object_rel_direction_hard")
CHOICES = (*LEVELS, "object_rel_distance", "route_planning", "obj_appearance_order")
TASKS = (*NUMBERS, *CHOICES)


def score(task: str, answer: str, truth: str) -> Outcome:
    head = answer.partition(" ")[0]
    while head.endswith("."):
        head = head[:-1]
    head = head.strip()
    if task in CHOICES:
        return 1.0 if head.lower() == truth.lower() else 0.0
    if task not in NUMBERS:
        return "ValueError"
    said, right = _number(head), _number(truth)
    if said is None or right is None:
        return 0.0
    if right == 0:
        return "ZeroDivisionError"
    return met(abs(said - right) / right)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def report(rows: Iterable[tuple[str, float]]) -> dict[str, float] | str:
    """From (task, score) of every item: the mean of each type in its place, then "overall", the mean of the types.
    Directions are one type, the mean of three levels; without one of the levels the program stops, and without the
    easy one it takes the others for types of their own."""
    scores: dict[str, list[float]] = {}
    for task, value in rows:
        scores.setdefault(task, []).append(value)
    means = {task: sum(values) / len(values) for task, values in scores.items()}
    if LEVELS[0] in means:
        if any(level not in means for level in LEVELS):
            return "KeyError"
        means["object_rel_direction"] = sum(means.pop(level) for level in LEVELS) / 3
    means["overall"] = sum(means.values()) / len(means)
    return means
