"""SPAR-Bench's scorer: LogosRoboticsGroup/SPAR, lmms-eval/lmms_eval/tasks/sparbench/utils.py.

Choices: the reply is right if it is the letter, if it is found in the letter, or if it begins with it, without case.
Numbers: runs of digits, with a point and more digits where they follow, that no "^" precedes; no sign; the first of
them, of a multi-view task the last, and -1 there without any. Every one found has to be a number Python can hold.
View changes: pairs name:number between commas; five axes; the accuracy of the truth as if it were the prediction.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np

from tests.scoring.oracles import Outcome
from tests.scoring.oracles.relative_accuracy import met

_VIEWS = ("oc", "oo")
SINGLE_VIEW = tuple(f"{what}_prediction_{view}" for what in ("depth", "distance") for view in _VIEWS)
MULTI_VIEW = tuple(f"{name}_mv" for name in SINGLE_VIEW)
VIEW_CHANGE = "view_change_infer"
LEVELS = {
    "Low": {*SINGLE_VIEW, *MULTI_VIEW},
    # The code finds the level of a task by cutting the last word off the name of its metric. That of the view changes
    # is called vci_metric, of which "vci" remains, so they are of no level.
    "Middle": {"position_matching", "camera_motion_infer"},
    "High": {
        *("obj_spatial_relation_oo", "obj_spatial_relation_oc_mv", "obj_spatial_relation_oo_mv"),
        *(f"spatial_imagination_{view}{many}" for view in _VIEWS for many in ("", "_mv")),
        *("distance_infer_center_oo", "distance_infer_center_oo_mv"),
    },
}
CHOICES = tuple(sorted(LEVELS["Middle"] | LEVELS["High"]))
TASKS = (*SINGLE_VIEW, *MULTI_VIEW, VIEW_CHANGE, *CHOICES)
_AXES = ("move right left", "move up down", "move forward backward", "rotate right left", "rotate up down")


def score(task: str, answer: str, truth: str) -> Outcome:
    if task in CHOICES:
        said, letter = answer.lower(), truth.lower()
        return 1.0 if letter.find(said) >= 0 or (said.startswith(letter) and len(letter) == 1) else 0.0
    if task == VIEW_CHANGE:
        said, right = _moves(answer), _moves(truth)
        if said is None or right is None:
            return 0.0
        return sum(_accuracy(r, s) for s, r in zip(said, right, strict=True)) / 5
    if task not in LEVELS["Low"]:
        return "KeyError"
    return _number_score(answer, truth, task in MULTI_VIEW)


def _number_score(answer: str, truth: str, multi_view: bool) -> float:
    runs = list(_digit_runs(answer))
    if any("." not in run and len(run) > sys.get_int_max_str_digits() for run in runs):
        return 0.0
    if multi_view:
        runs = [runs[-1]] if runs else ["-1"]
    try:
        if not runs or ("." not in runs[0] and float(runs[0]) == float("inf")):  # an int that is no float
            return 0.0
        return _accuracy(float(runs[0]), float(truth))
    except ValueError:
        return 0.0


def _digit_runs(text: str) -> Iterable[str]:
    at = 0
    while at < len(text):
        if not text[at].isdecimal() or (at and text[at - 1] == "^"):
            at += 1
            continue
        end = _after_digits(text, at)
        if text[end : end + 1] == "." and text[end + 1 : end + 2].isdecimal():
            end = _after_digits(text, end + 1)
        yield text[at:end]
        at = end


def _after_digits(text: str, at: int) -> int:
    while at < len(text) and text[at].isdecimal():
        at += 1
    return at


def _accuracy(said: float, right: float) -> float:
    return met(abs(said - right) if right == 0 else abs((said - right) / right))


def _moves(text: str) -> list[float] | None:
    named: dict[str, float] = {}
    for piece in text.split(","):
        if piece.count(":") != 1:
            return None
        name, value = piece.split(":")
        try:
            named[name] = float(value)
        except ValueError:
            return None
    axes = []
    for axis in _AXES:
        verb, plus, minus = axis.split()
        axes.append(named.get(f"{verb}_{plus}", 0.0) - named.get(f"{verb}_{minus}", 0.0))
    return axes


def report(rows: Iterable[tuple[str, float]]) -> dict[str, float]:
    """From (task, score) of every item: the mean of each task, "overall", their mean, and of each level the mean of the
    means of its tasks; nan for a level without any."""
    scores: dict[str, list[float]] = {}
    for task, value in rows:
        scores.setdefault(task, []).append(value)
    means = {task: sum(values) / len(values) for task, values in scores.items()}
    levels = {}
    for level, tasks in LEVELS.items():
        found = [mean for task, mean in means.items() if task in tasks]
        levels[level] = float(np.mean(found)) if found else float("nan")
    return {**means, **levels, "overall": sum(means.values()) / len(means)}
