"""SpatialEval's scorer, jiayuww/SpatialEval, evals/evaluation.py, on its real-image task.

The program takes `--task spatialreal`, but has no branch that reads an answer of that task: the first line stops it.
So there is no official number for SpatialEval-Real, and what the paper of ViLaSR reports is by that project's own rule.
"""

from __future__ import annotations

from tests.scoring.oracles import Outcome
from tests.scoring.oracles.maze import published

__all__ = ["TASKS", "published", "score"]

TASKS = ("spatialreal",)


def score(task: str, answer: str, truth: str) -> Outcome:
    return "UnboundLocalError"
