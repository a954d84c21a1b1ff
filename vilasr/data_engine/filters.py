"""What an episode must be to become training data: one named test each, put in a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vilasr.data_engine.candidate import Candidate
from vilasr.data_engine.maze_points import GEOMETRIES, Geometry, lines_near_cells
from vilasr.drawing.marks import geometry as mark_geometry
from vilasr.tasks import QuestionType
from vilasr.traces import EventKind, StopReason, Trace

# Their accuracy is a mean relative accuracy (of a view change: the mean of five), which seldom is 1.
GRADED = frozenset({QuestionType.NUMERICAL, QuestionType.REGRESSION, QuestionType.VCI})
_ROUNDING = 1e-9  # a mean of tenths that is 0.9 on paper may miss it by a last bit


@dataclass(frozen=True, slots=True)
class Filter:
    """`says`: what it lets pass, in one line for a report."""

    name: str
    keeps: Callable[[Candidate], bool]
    says: str


def first_refusal(filters: Sequence[Filter], candidate: Candidate) -> str | None:
    """The name of the first filter that refuses the candidate, None where all keep it. Raises ValueError where two
    filters have one name."""
    filter_names(filters)
    return next((one.name for one in filters if not one.keeps(candidate)), None)


def filter_names(filters: Sequence[Filter]) -> tuple[str, ...]:
    """In order. Raises ValueError where two filters have one name: a report could not tell them apart."""
    names = tuple(one.name for one in filters)
    if len(set(names)) < len(names):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"filters: {', '.join(twice)}: used more than once; names must be unique")
    return names


def parsed() -> Filter:
    """The episode ended with an answer that could be parsed, not at a budget, a failure or a forbidden token."""
    return Filter("parsed", lambda c: c.trace.stop_reason is StopReason.ANSWERED, "ended with an answer")


def correct(min_accuracy: float = 1.0, min_regression: float = 0.9) -> Filter:
    """The answer is right by the evaluation's `corrected` rule (the paper's S_accuracy, Eq. 2): at least
    `min_regression` for types with a mean relative accuracy (`GRADED`), at least `min_accuracy` for the others.
    A question whose own answer cannot be read never passes.

    The default 0.9 lets nine of the ten thresholds be met: a number off by at most 10 %. Raises ValueError for a
    threshold outside (0, 1].
    """
    for name, value in (("min_accuracy", min_accuracy), ("min_regression", min_regression)):
        if not 0 < value <= 1:
            raise ValueError(f"{name}: {value} is not above 0 and at most 1")

    def keeps(c: Candidate) -> bool:
        least = min_regression if c.example.question_type in GRADED else min_accuracy
        return c.accuracy is not None and c.accuracy >= least - _ROUNDING

    return Filter("correct", keeps, f"accuracy at least {min_accuracy:g}, of numbers {min_regression:g}")


def well_formed() -> Filter:
    """Every reply follows the format and every mark could be drawn (the paper's S_format, see `Trace.well_formed`)."""
    return Filter("well_formed", lambda c: c.trace.well_formed, "every reply parses and every mark could be drawn")


def reflective(strict: bool = False) -> Filter:
    """A mark of an earlier step is revised: the paper's Eq. 5, or with `strict` its narrower form, see
    `vilasr.reflect.Reflection`. One name for both: a list has one of them."""
    if strict:
        return Filter("reflective", lambda c: c.reflection.strict, "revises an own mark on the same object")
    return Filter("reflective", lambda c: c.reflection.loose, "marks one label anew in a later step (Eq. 5)")


def min_steps(k: int) -> Filter:
    """At least `k` replies, the answer included (the paper's cold start: 3). Raises ValueError below 1."""
    _positive("min_steps", k)
    return Filter("min_steps", lambda c: len(c.trace.steps) >= k, f"at least {k} replies")


def max_steps(k: int) -> Filter:
    """At most `k` replies, the answer included. Raises ValueError below 1."""
    _positive("max_steps", k)
    return Filter("max_steps", lambda c: len(c.trace.steps) <= k, f"at most {k} replies")


def max_words(n: int) -> Filter:
    """At most `n` words in all replies together (`Candidate.words`). Raises ValueError below 1."""
    _positive("max_words", n)
    return Filter("max_words", lambda c: c.words <= n, f"at most {n} words in all replies")


def max_images(n: int) -> Filter:
    """At most `n` images in the conversation, the question's included. Raises ValueError below 1."""
    _positive("max_images", n)
    return Filter("max_images", lambda c: len(c.trace.images) <= n, f"at most {n} images, the question's included")


def no_repeated_mark() -> Filter:
    """No mark is drawn twice: kind, question image, label and whole-pixel geometry, the rule that ends an RL episode.

    The events tell what the episode itself refused to draw; the marks are compared besides, for traces that were
    written elsewhere."""
    return Filter("no_repeated_mark", lambda c: not _repeats(c.trace), "draws no mark twice")


def draws() -> Filter:
    """At least one mark was drawn."""
    return Filter("draws", lambda c: bool(c.trace.marks), "draws at least one mark")


def maze_points(geometry: Geometry = "auto") -> Filter:
    """Lines on a maze start and end within half a cell of a cell centre (`vilasr.data_engine.maze_points`).

    `geometry`: "vilasr" for mazes of tools/make_mazes.py, "published" for those of the published data, "auto" to
    tell them by their ids. What is no maze passes. A maze without `grid_size` cannot be checked and is refused, as its
    lines may be anywhere: results of older runs have none, sample them again or leave the filter out. Raises
    ValueError for another geometry.
    """
    if geometry not in GEOMETRIES:
        raise ValueError(f"maze_points: {geometry!r} is not one of {', '.join(GEOMETRIES)}")

    def keeps(c: Candidate) -> bool:
        return not c.example.is_maze or lines_near_cells(c.example, c.trace, geometry)

    return Filter("maze_points", keeps, "lines on mazes end near cell centres (grid_size must be known)")


def _repeats(trace: Trace) -> bool:
    if any(event.kind is EventKind.REPEATED_MARK for event in trace.events):
        return True
    roots = {node.index: node.root for node in trace.images}
    keys = [(roots.get(mark.index), mark.label, *mark_geometry(mark)) for mark in trace.marks]
    return len(set(keys)) < len(keys)


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}: {value} is less than 1")
