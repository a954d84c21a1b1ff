"""View changes (SPAR-Bench's view_change_infer): moves and turns as `name:value` pairs, scored on five signed axes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vilasr.scoring.metrics import mean_relative_accuracy
from vilasr.scoring.numbers import MAX_ANSWER_CHARS, plain_minus

# Each axis is its first direction minus its second, as in SPAR's compute_vci_metric.
AXES: tuple[tuple[str, str], ...] = (
    ("move_right", "move_left"),
    ("move_up", "move_down"),
    ("move_forward", "move_backward"),
    ("rotate_right", "rotate_left"),
    ("rotate_up", "rotate_down"),
)
_DIRECTIONS = "|".join(name for axis in AXES for name in axis)
_PAIR = re.compile(rf"\b({_DIRECTIONS})\b[\s\"'`*]*[:=][\s\"'`*]*([-+]?(?:\d+\.?\d*|\.\d+))", re.IGNORECASE)


def signed_axes(text: str) -> tuple[float, ...] | None:
    """The five signed values (metres, degrees) of the pairs found in the text; a direction that is not named is 0.
    None where no pair is found. Of a direction named twice the last counts, as in SPAR's code."""
    moves = {m[1].lower(): float(m[2]) for m in _PAIR.finditer(plain_minus(text[:MAX_ANSWER_CHARS]))}
    if not moves:
        return None
    return _signed(moves)


def strict_axes(text: str) -> tuple[float, ...]:
    """The five signed values as SPAR's parse_instruction reads them, and the code made after it: name:value pairs
    between commas and nothing else; a name it does not know counts nothing. Raises ValueError."""
    moves = {}
    for piece in text.split(","):
        name, value = piece.split(":")
        moves[name] = float(value)
    return _signed(moves)


def _signed(moves: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(moves.get(plus, 0.0) - moves.get(minus, 0.0) for plus, minus in AXES)


def view_change_accuracy(answer: str, truth: str) -> float:
    """Mean MRA over the five axes; an axis that does not change is scored by its absolute error. Raises ValueError
    where the truth has no pair."""
    wanted = signed_axes(truth)
    if wanted is None:
        raise ValueError(f"{truth!r} is no list of name:value pairs")
    given = signed_axes(answer)
    if given is None:
        return 0.0
    return sum(map(mean_relative_accuracy, given, wanted)) / len(AXES)
