"""The filters of the paper's two data sets that are made by sampling, and what a user may change about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vilasr.data_engine import filters as make
from vilasr.data_engine.filters import Filter
from vilasr.data_engine.maze_points import Geometry
from vilasr.data_engine.selection import Field, check_balance


@dataclass(frozen=True, slots=True)
class Settings:
    """None or False leaves a filter or selection out; answered, correct and well-formed an episode must always be.

    `reflective` asks for reflection, with `strict` in its narrower form; `maze_points` says how mazes are laid out.
    `per_question` episodes of a question are kept at most. `balance` names the fields by which groups are made even,
    to `ratio` times the smallest or, with `limit`, to so many in all; `limit` without `balance` is a plain limit.
    The filters' own docstrings (`vilasr.data_engine.filters`, `selection`) say the rest.

    Raises ValueError naming the field, before any work is done.
    """

    min_accuracy: float = 1.0
    min_regression: float = 0.9
    reflective: bool = False
    strict: bool = False
    min_steps: int | None = None
    max_steps: int | None = None
    max_words: int | None = None
    max_images: int | None = None
    draws: bool = False
    no_repeats: bool = False
    maze_points: Geometry | None = None
    per_question: int | None = None
    balance: tuple[Field, ...] = ()
    ratio: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.strict and not self.reflective:
            raise ValueError("strict: is a form of reflective; ask for that too")
        if None not in (self.min_steps, self.max_steps) and (self.min_steps or 0) > (self.max_steps or 0):
            raise ValueError(
                f"max_steps: {self.max_steps} is less than min_steps, {self.min_steps}; nothing could pass"
            )
        for name in ("per_question", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is less than 1")
        if self.balance:
            check_balance(self.balance, self.limit, self.ratio)
        elif self.ratio is not None:
            raise ValueError("ratio: is one of balance; name its fields too")
        filters(self)


def filters(settings: Settings) -> tuple[Filter, ...]:
    """Always in this order, so that the numbers of two runs can be compared stage by stage."""
    chosen = [make.parsed(), make.correct(settings.min_accuracy, settings.min_regression), make.well_formed()]
    if settings.reflective:
        chosen.append(make.reflective(settings.strict))
    if settings.min_steps is not None:
        chosen.append(make.min_steps(settings.min_steps))
    if settings.draws:
        chosen.append(make.draws())
    if settings.no_repeats:
        chosen.append(make.no_repeated_mark())
    if settings.maze_points is not None:
        chosen.append(make.maze_points(settings.maze_points))
    if settings.max_steps is not None:
        chosen.append(make.max_steps(settings.max_steps))
    if settings.max_words is not None:
        chosen.append(make.max_words(settings.max_words))
    if settings.max_images is not None:
        chosen.append(make.max_images(settings.max_images))
    return tuple(chosen)


PRESETS: dict[str, Settings] = {
    # Eq. 6: right, well-formed and, by Eq. 5, reflective.
    "reflective": Settings(reflective=True),
    # Accuracy and format of Eq. 2 and at least three steps; near cell centres as the published project's author says.
    "cold_start": Settings(min_steps=3, maze_points="auto"),
}


def preset_settings(name: str, **changes: Any) -> Settings:
    """The settings of that name, with some fields changed. Raises ValueError for an unknown name or a bad value."""
    if name not in PRESETS:
        raise ValueError(f"preset: {name!r} is not one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)


def preset(name: str, **changes: Any) -> tuple[Filter, ...]:
    """The filters of that name, with some fields of its settings changed. Raises as `preset_settings`."""
    return filters(preset_settings(name, **changes))
