"""Oracle episodes in rooms: the real `Episode` answered by one who knows where everything is.

Boxes go around what the question needs, one or a few a call, on the latest image. Numbers are read off a box in the
thought after it was drawn: a model can look at what it wrote. An episode that errs first draws one box wrongly, and in
the next turn says so and draws it again with the same label. The wrong box overlaps the right one (IoU above 0 and
below 0.5), as `vilasr.reflect` demands of a strict reflection; so a box around another object alone never stands there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from vilasr.drawing.marks import Box
from vilasr.drawing.spelling import spell_answer, spell_call
from vilasr.episode import Continue, Done, Episode
from vilasr.maze_traces import to_profile
from vilasr.mazes import LETTERS
from vilasr.messages import Reply
from vilasr.prompts import Profile
from vilasr.reflect import reflection
from vilasr.room_pictures import Rect, box_of, tile_box
from vilasr.rooms import ROOM, TILE, WALL, Kind, RoomQuestion
from vilasr.tasks import Example
from vilasr.traces import EventKind, StopReason

LEAST_BUDGET = 4  # calls and images: wrong box, redrawn box, the rest, the answer
MAX_BOXES = 2  # a call, where the budget allows
MAX_IOU = 0.5  # of a wrong box with the right one

_FIRST = ("First {names}.", "I box {names}.", "I look at {names}.")
_NEXT = ("Next {names}.", "Then {names}.", "Now {names}.")
_REDRAW = (
    "In image {image} the box of {names} {fault}. I redraw it.",
    "The box of {names} {fault} in image {image}. Again.",
)
_BUDGETS = {EventKind.CALL_BUDGET, EventKind.IMAGE_BUDGET}


@dataclass(frozen=True, slots=True)
class Target:
    """What gets a box: pixels, as `vilasr.room_pictures` has them."""

    label: str
    box: Rect


@dataclass(frozen=True, slots=True)
class Wrong:
    """A box drawn in place of the right one, and what is wrong with it."""

    box: Rect
    fault: str


@dataclass(frozen=True, slots=True)
class _Call:
    """Targets `first` to `stop` (from 0, the last not included) are boxed, the last wrongly or again."""

    first: int
    stop: int
    wrong: bool = False
    again: bool = False


def oracle_episode(question: RoomQuestion, example: Example, profile: Profile, rng: Random, errs: bool) -> Episode:
    """A finished episode with the right answer, well-formed, reflective exactly if `errs`.

    `example` is the question as a reader of its file gets it, with its one frame, square, loaded."""
    episode = Episode(example, profile)
    side = example.frames[0].width
    targets = targets_of(question, side)
    place = rng.randrange(len(targets)) if errs else None
    room = min(episode.limits.calls, episode.limits.images) - 1  # one call is the answer, one image the question's
    boxes = rng.randint(1, MAX_BOXES)
    while len(calls := _calls(len(targets), place, boxes)) > room and boxes < len(targets):
        boxes += 1
    wrong = None if place is None else wrong_box(question, targets[place], side, rng)
    notes, unread = _Notes(question, profile, side), list[Target]()
    for call in calls:
        shown = list(targets[call.first : call.stop])
        names = ", ".join(target.label for target in shown)
        image = episode.scene.nodes[-1].index
        if call.again:
            assert wrong is not None
            opening = rng.choice(_REDRAW).format(names=names, fault=wrong.fault, image=image)
        else:
            opening = notes.read(unread) + rng.choice(_NEXT if call.first else _FIRST).format(names=names)
            unread = []
        unread += shown
        if call.wrong:
            assert wrong is not None
            shown[-1], _ = Target(shown[-1].label, wrong.box), unread.pop()
        marks = [Box(image, _in_profile(target.box, side, profile), target.label) for target in shown]
        step = episode.advance(Reply(spell_call(opening, marks)))
        assert isinstance(step, Continue), f"{question.id}: ended early"
    done = episode.advance(Reply(spell_answer(notes.read(unread) + notes.conclusion(), question.answer)))
    trace = episode.trace()
    assert done == Done(StopReason.ANSWERED), f"{question.id}: {done}"
    assert trace.answer == question.answer, f"{question.id}: wrong answer"
    assert trace.well_formed, f"{question.id}: {trace.events}"
    assert {event.kind for event in trace.events} <= _BUDGETS, f"{question.id}: {trace.events}"
    assert reflection(trace).strict is errs, f"{question.id}: {reflection(trace)}"
    return episode


def targets_of(question: RoomQuestion, side: int) -> list[Target]:
    """What is boxed, in order. Counted objects are numbered in their labels, and a distance needs a tile as its
    ruler: the first of those that are covered least."""
    if question.kind is Kind.COUNT:
        return [Target(f"{question.group} {k}", box_of(thing, side)) for k, thing in enumerate(question.asked, 1)]
    targets = [Target(thing.name, box_of(thing, side)) for thing in question.asked]
    if question.kind is Kind.DISTANCE:
        tiles = [tile_box(row, column, side) for row in range((ROOM - WALL) // TILE) for column in range(ROOM // TILE)]
        boxes = [box_of(thing, side) for thing in question.things]
        targets.append(Target("tile", min(tiles, key=lambda tile: sum(_common(tile, box) for box in boxes))))
    return targets


def wrong_box(question: RoomQuestion, target: Target, side: int, rng: Random) -> Wrong:
    """A box that is shifted, too small, or holds a neighbour too; inside the picture."""
    x1, y1, x2, y2 = target.box
    size = x2 - x1
    others = [(thing, box) for thing in question.things if (box := box_of(thing, side)) != target.box]
    thing, near = min(others, key=lambda other: math.dist(other[1][:2], target.box[:2]))
    both = (min(x1, near[0]), min(y1, near[1]), max(x2, near[2]), max(y2, near[3]))
    found = [Wrong(both, f"holds the {thing.name} too")]
    for _ in range(6):
        step = round(size * rng.uniform(0.4, 0.7))
        dx, dy = rng.choice([(step, step), (step, -step), (-step, step), (-step, -step), (step, 0), (-step, 0)])
        found.append(Wrong((x1 + dx, y1 + dy, x2 + dx, y2 + dy), "misses a part of it"))
        part = round(size * rng.uniform(0.45, 0.65))
        left, top = x1 + rng.choice((0, size - part)), y1 + rng.choice((0, size - part))
        found.append(Wrong((left, top, left + part, top + part), "is too small"))
    fit = [w for w in found if min(w.box) >= 0 and max(w.box) <= side and 0 < iou(w.box, target.box) < MAX_IOU]
    # Each fault as often as the others; a part of the object always fits.
    return rng.choice([w for fault in [rng.choice(sorted({w.fault for w in fit}))] for w in fit if w.fault == fault])


def iou(a: Rect, b: Rect) -> float:
    """Intersection over union."""
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return _common(a, b) / (sum(areas) - _common(a, b))


def _common(a: Rect, b: Rect) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _calls(targets: int, place: int | None, boxes: int) -> list[_Call]:
    """The drawing calls with at most `boxes` boxes each. A wrong box is the last of its call, its redrawing alone."""
    if place is None:
        return [_Call(k, min(k + boxes, targets)) for k in range(0, targets, boxes)]
    before = _calls(place + 1, None, boxes)
    before[-1] = _Call(before[-1].first, place + 1, wrong=True)
    after = [_Call(k, min(k + boxes, targets)) for k in range(place + 1, targets, boxes)]
    return [*before, _Call(place, place + 1, again=True), *after]


def _in_profile(box: Rect, side: int, profile: Profile) -> tuple[float, float, float, float]:
    return (*to_profile(box[:2], side, profile), *to_profile(box[2:], side, profile))


class _Notes:
    """What is read off the boxes drawn so far, in the profile's numbers."""

    def __init__(self, question: RoomQuestion, profile: Profile, side: int) -> None:
        self.question, self.profile, self.side = question, profile, side
        self.boxes: dict[str, tuple[float, float, float, float]] = {}
        self.base = question.asked[0].name if question.asked else ""

    def read(self, targets: Sequence[Target]) -> str:
        """A few words on each box that is new."""
        for target in targets:
            self.boxes[target.label] = _in_profile(target.box, self.side, self.profile)
        if not targets:
            return ""
        if self.question.kind is Kind.COUNT:
            return f"{len(self.boxes)} so far. "
        return ", ".join(self._number(target.label) for target in targets) + ". "

    def _centre(self, label: str) -> tuple[float, float]:
        x1, y1, x2, y2 = self.boxes[label]
        return (x1 + x2) / 2, (y1 + y2) / 2

    def _number(self, label: str) -> str:
        kind, (x, y) = self.question.kind, self._centre(label)
        if kind is Kind.LARGER or label == "tile":
            return f"{label} {self.boxes[label][2] - self.boxes[label][0]:g}"
        if kind is Kind.LEFT_OF:
            return f"{label} x {x:g}"
        said = f"{label} ({x:g}, {y:g})"
        if kind is Kind.NEAREST and label != self.base:
            said += f" {math.dist((x, y), self._centre(self.base)):.0f} away"
        return said

    def conclusion(self) -> str:
        question = self.question
        if question.kind is Kind.DISTANCE:
            (x, y), (x2, y2) = (self._centre(thing.name) for thing in question.asked)
            tile = self.boxes["tile"][2] - self.boxes["tile"][0]
            apart = math.hypot(x - x2, y - y2)
            return f"{abs(x - x2):g} across, {abs(y - y2):g} down: {apart:.1f}. / {tile:g} = {question.answer}."
        right = question.options[LETTERS.index(question.answer)]
        if question.kind is Kind.COUNT:
            return f"That is all: {question.answer}."
        if question.kind is Kind.LEFT_OF:
            x = self._centre(self.base)[0]
            return f"{question.side.capitalize()} of {x:g} is {right}: {question.answer}."
        return f"{'Nearest' if question.kind is Kind.NEAREST else 'Largest'} is {right}: {question.answer}."
