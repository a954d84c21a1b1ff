"""Oracle episodes on mazes: the real `Episode` answered by one who knows the path.

The path is drawn corridor by corridor with the labels "step 1", "step 2", ... on the latest image. An episode that errs
first draws one line wrongly, and in the next turn says so and draws it again from the same start with the same label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from vilasr.drawing.marks import Line
from vilasr.drawing.spelling import spell_answer, spell_call
from vilasr.episode import Continue, Done, Episode
from vilasr.maze_layouts import MOVES, OPPOSITE, Cell, Run, join_runs, runs_of, spell, step_from, walk
from vilasr.maze_search import search_text
from vilasr.mazes import LETTERS, Kind, MazeQuestion
from vilasr.messages import Reply
from vilasr.prompts import Profile
from vilasr.reflect import reflection
from vilasr.tasks import Example
from vilasr.traces import EventKind, StopReason

LEAST_BUDGET = 4  # calls and images: wrong line, redrawn line, the rest, the answer
MAX_LINES = 3  # a call, where the budget allows

_FIRST = ("From the green square go {moves}.", "I start at the green square: {moves}.", "First {moves}.")
_NEXT = ("Then {moves}.", "Next {moves}.", "Go on: {moves}.")
_REDRAW = (
    "In image {image} {label} {fault}. I redraw it: {moves}.",
    "{label} {fault} in image {image}. It should be {moves}.",
    "Looking at image {image}, {label} {fault}. Again: {moves}.",
)
_ANSWER = {
    Kind.DESTINATION: ("The last line ends on the {right} dot: {letter}.", "I end on the {right} dot, so {letter}."),
    Kind.ROUTE: ("The lines match option {letter}.", "Option {letter} has the moves of the lines."),
    Kind.LENGTH: ("The path has {right} moves: {letter}.", "{right} moves in all, so {letter}."),
    Kind.TURNS: ("The path turns {right} times: {letter}.", "{right} turns in all, so {letter}."),
}
_BUDGETS = {EventKind.CALL_BUDGET, EventKind.IMAGE_BUDGET}


@dataclass(frozen=True, slots=True)
class Slip:
    """Run number `place` (from 0) is first drawn as `run`, which `fault` describes."""

    place: int
    run: Run
    fault: str


@dataclass(frozen=True, slots=True)
class Call:
    """Runs `first` to `last` (from 0, both included) are drawn, `slip` in place of the last; or that one is redrawn."""

    first: int
    last: int
    slip: Slip | None = None
    redraw: Slip | None = None


def oracle_episode(
    question: MazeQuestion, example: Example, profile: Profile, rng: Random, errs: bool, search: bool = False
) -> Episode:
    """A finished episode with the right answer, well-formed, reflective exactly if `errs`. `search`: where the path is
    not told by the question, the first thought is the search for it (`vilasr.maze_search`).

    `example` is the question as a reader of its file gets it, with its one frame, square, loaded."""
    episode = Episode(example, profile)
    runs = runs_of(question.path)
    slip = _slip(question, runs, rng) if errs else None
    room = min(episode.limits.calls, episode.limits.images) - 1  # one call is the answer, one image the question's
    lines = rng.randint(1, MAX_LINES)
    calls = _calls(len(runs), slip, lines)
    while len(calls) > room and lines < len(runs):
        lines += 1
        calls = _calls(len(runs), slip, lines)
    before = _searched(question, episode) if search and question.kind is not Kind.DESTINATION else ""
    for call in calls:
        step = episode.advance(Reply(_drawing(question, runs, call, episode, rng, before)))
        before = ""
        assert isinstance(step, Continue), f"{question.id}: ended early"
    right = question.options[LETTERS.index(question.answer)]
    thought = rng.choice(_ANSWER[question.kind]).format(right=right, letter=question.answer)
    thought = thought.replace("turns 1 times", "turns 1 time")
    done = episode.advance(Reply(spell_answer(thought, question.answer)))
    trace = episode.trace()
    assert done == Done(StopReason.ANSWERED), f"{question.id}: {done}"
    assert trace.answer == question.answer, f"{question.id}: wrong answer"
    assert trace.well_formed, f"{question.id}: {trace.events}"
    assert {event.kind for event in trace.events} <= _BUDGETS, f"{question.id}: {trace.events}"
    assert reflection(trace).strict is errs, f"{question.id}: {reflection(trace)}"
    return episode


def _slip(question: MazeQuestion, runs: Sequence[Run], rng: Random) -> Slip:
    """A wrong line in place of one of the runs: through a wall, too far or in a wrong direction; inside the square."""
    size, place = question.maze.size, rng.randrange(len(runs))
    start = _blind_end(question.path[0], runs[:place])
    name, moves = runs[place]
    back = OPPOSITE[runs[place - 1][0]] if place else ""
    slips = []
    for wrong in [(name, moves + 1), *((other, m) for other in MOVES if other not in (name, back) for m in (1, moves))]:
        row, column = step_from(start, *wrong)
        if 0 <= row < size and 0 <= column < size:
            if walk(question.maze, start, [wrong]) is None:
                fault = "crosses a wall"
            else:
                fault = "goes too far" if wrong[0] == name else "goes the wrong way"
            slips.append(Slip(place, wrong, fault))
    if not slips:  # in a corner, where only the way back is left
        slips = [Slip(place, (back, 1), "goes the wrong way")]
    return rng.choice(slips)


def _blind_end(start: Cell, runs: Sequence[Run]) -> Cell:
    for name, moves in runs:
        start = step_from(start, name, moves)
    return start


def _calls(runs: int, slip: Slip | None, lines: int) -> list[Call]:
    """The drawing calls with at most `lines` lines each. A wrong line is the last of its call, its redrawing alone."""
    if slip is None:
        return _chunks(0, runs, lines)
    before = _chunks(0, slip.place + 1, lines)
    before[-1] = replace(before[-1], slip=slip)
    return [*before, Call(slip.place, slip.place, redraw=slip), *_chunks(slip.place + 1, runs, lines)]


def _chunks(first: int, stop: int, lines: int) -> list[Call]:
    return [Call(k, min(k + lines, stop) - 1) for k in range(first, stop, lines)]


def _searched(question: MazeQuestion, episode: Episode) -> str:
    image = episode.scene.nodes[-1]
    grid = question.grid(image.width)

    def spelled(cell: Cell) -> str:
        x, y = to_profile(grid.centre(cell), image.width, episode.profile)
        return f"({x:.0f}, {y:.0f})"

    return search_text(question.maze, question.path[0], question.path[-1], spelled) + "\n"


def _drawing(
    question: MazeQuestion, runs: Sequence[Run], call: Call, episode: Episode, rng: Random, before: str
) -> str:
    """The reply of one drawing call, on the latest image; `before` begins the thought."""
    image = episode.scene.nodes[-1]
    shown = list(runs[call.first : call.last + 1])
    if call.slip is not None:
        shown[-1] = call.slip.run
    marks: list[Line] = []
    cell = _blind_end(question.path[0], runs[: call.first])
    grid = question.grid(image.width)
    for number, run in enumerate(shown, call.first + 1):
        ahead = step_from(cell, *run)
        start, end = (to_profile(grid.centre(c), image.width, episode.profile) for c in (cell, ahead))
        marks.append(Line(image.index, start, end, f"step {number}"))
        cell = ahead
    templates, fault = (_NEXT if call.first else _FIRST), ""
    if call.redraw is not None:
        templates, fault = _REDRAW, call.redraw.fault
    thought = rng.choice(templates).format(
        moves=spell(shown), image=image.index, label=f"step {call.first + 1}", fault=fault
    )
    thought = thought[0].upper() + thought[1:] + _tally(question.kind, [*runs[: call.first], *shown])
    return spell_call(before + thought, marks)


def to_profile(point: tuple[int, int], side: int, profile: Profile) -> tuple[float, float]:
    """(x, y) in the profile's frame, of a point in pixels: pixels, or whole thousandths of the side."""
    if profile.coordinates == "pixels":
        return point
    return round(1000 * point[0] / side), round(1000 * point[1] / side)


def _tally(kind: Kind, runs: Sequence[Run]) -> str:
    """The running count, where one is asked for."""
    if kind is Kind.LENGTH:
        return f" Moves so far: {sum(moves for _, moves in runs)}."
    if kind is Kind.TURNS:
        return f" Turns so far: {len(join_runs(runs)) - 1}."
    return ""
