"""The published project's rules for one answer, as they are, quirks included.

The first character is the choice, numbers are compared in float32, and an empty choice stops the whole program: kept
so that published numbers can be compared with. Our own rules are in `vilasr.scoring`.
"""

from __future__ import annotations

import numpy as np

from vilasr.scoring.vci import strict_axes
from vilasr.tasks import QuestionType


def extracted_answer(text: str) -> str:
    """What stands in the first complete <answer>, stripped; the same text without one."""
    start = text.find("<answer>")
    end = text.find("</answer>", start + len("<answer>")) if start >= 0 else -1
    return text if end < 0 else text[start + len("<answer>") : end].strip()


def published_score(output: str, truth: str, question_type: str) -> float:
    """The score of a last reply. Raises what the published code raises: IndexError for an empty choice, TypeError or
    AttributeError where a field is no text."""
    if not isinstance(output, str) or not isinstance(truth, str):
        raise TypeError("expected a text")
    said, right = extracted_answer(output), extracted_answer(truth)
    if question_type == QuestionType.MULTIPLE_CHOICE:
        return float(said.strip()[0].lower() == right.strip()[0].lower())
    if question_type == QuestionType.VCI:
        return _moves_score(said, right)
    if question_type not in (QuestionType.NUMERICAL, QuestionType.REGRESSION):
        return 0.0
    if question_type == QuestionType.NUMERICAL and _has_point(said) != _has_point(right):
        return 0.0
    number, target = _number(said), _number(right)
    if number is None or target is None:
        return 0.0
    if question_type == QuestionType.NUMERICAL:
        return float(round(number, 2) == round(target, 2))
    return float32_accuracy(number, target)


def _has_point(text: str) -> bool:
    return "." in text or "," in text


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


_ONE, _TINY, _TEN = np.float32(1), np.float32(1e-8), np.float32(10)
_LIMITS = _ONE - np.array([0.5 + 0.05 * i for i in range(10)], dtype=np.float32)


def float32_accuracy(number: float, target: float) -> float:
    """Mean relative accuracy over ten thresholds, each operation in float32: at the limits that decides."""
    with np.errstate(all="ignore"):
        said, right = np.float32(number), np.float32(target)
        error = np.abs(said - right) / (np.abs(right) + _TINY)
        return float(np.float32(np.count_nonzero(error <= _LIMITS)) / _TEN)


def _moves_score(said: str, right: str) -> float:
    """Mean accuracy over five axes, each the difference of its two directions; 0 where one entry cannot be read."""
    try:
        return float(np.mean(list(map(float32_accuracy, strict_axes(said), strict_axes(right)))))
    except ValueError:
        return 0.0
