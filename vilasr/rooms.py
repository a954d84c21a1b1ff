"""Questions about objects in a room: pure functions of a plan and a question's number.

A room is a square of `ROOM` units with its origin at the top left, x to the right and y down, seen straight from the
front: a back wall above, a floor of square tiles of `TILE` units below. At sides that are multiples of 84 pixels (84,
168, ... 588) a unit is a whole number of pixels. An object fills a square that touches no other object's.

Everything that is asked is about the objects' squares in the picture: their centres, their sizes, their number. Which
answer is right is decided by a margin, so that it can be seen at any size.

Train and test never share a room: where the objects lie and how large they are, mirrored or not, decides the split.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from vilasr.maze_layouts import Split
from vilasr.mazes import LETTERS, dealt

ROOM, TILE, WALL = 84, 12, 24  # the wall is as high as two tiles
MIN_SIZE, MAX_SIZE = 9, 20  # of an object
MIN_OBJECTS, MAX_OBJECTS = 5, 9
GAP = 2  # units between objects, and to the picture's edge
COLORS = ("red", "green", "blue", "yellow", "purple", "black")
SHAPES = ("ball", "cube", "cone", "ring", "cross", "diamond")

_MAX_TRIES = 60  # placings of one object before the room is begun anew
_BESIDE = 5  # how far left or right of another centre a centre clearly is
_NEARER = 1.25  # the second nearest is so many times as far, the second largest so many times smaller
_DISTANCES = tuple(1.25 * 1.4**k for k in range(6))  # tiles; spans between them are dealt, so no one guess is near most


class Kind(StrEnum):
    """What is asked about the objects; all are answered by drawing boxes around them."""

    COUNT = "count"  # how many of a colour or shape
    NEAREST = "nearest"  # which of four is nearest to another
    LEFT_OF = "left_of"  # which of four is left (or right) of another
    LARGER = "larger"  # which of four is the largest
    DISTANCE = "distance"  # how many tiles between two: a number


@dataclass(frozen=True, slots=True)
class Plan:
    """All questions of a run. Question `number` depends on the plan and its number alone."""

    split: Split
    seed: int
    objects: tuple[int, ...] = tuple(range(MIN_OBJECTS, MAX_OBJECTS + 1))
    kinds: tuple[Kind, ...] = tuple(Kind)


@dataclass(frozen=True, slots=True)
class Thing:
    """An object: the square from (x, y) to (x + size, y + size), in units."""

    color: str
    shape: str
    x: int
    y: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.size / 2, self.y + self.size / 2


@dataclass(frozen=True, slots=True)
class RoomQuestion:
    """`things` are all objects of the room, in reading order (by the top of their squares, then the left side).
    `asked` are those the question is about: the counted ones in reading order, else the one compared with (where there
    is one), then the four options in their order, or the other end of the distance. `side` is "left" or "right" for
    `left_of`; `group` is the colour or shape counted. A `distance` has no options; its answer is a number in tiles."""

    id: str
    kind: Kind
    things: tuple[Thing, ...]
    asked: tuple[Thing, ...]
    text: str
    options: tuple[str, ...]
    answer: str
    side: str = ""
    group: str = ""


def make_question(plan: Plan, number: int) -> RoomQuestion:
    """Question `number` (from 0). Kinds take turns; numbers of objects and answer letters are dealt evenly within each
    kind, and so are the right counts' ranks among their options and the spans of distances."""
    kind = plan.kinds[number % len(plan.kinds)]
    turn = number // len(plan.kinds)
    objects = dealt(plan.objects, turn, f"{plan.seed} {kind} objects")
    letter = dealt(LETTERS, turn, f"{plan.seed} {kind} letter")
    rng = Random(f"{plan.seed} {plan.split} {number}")  # noqa: S311
    name = f"room-{plan.split}-{plan.seed}-{number:06d}"
    # What is chosen before the room is kept: a harder one is not given up for an easier.
    least = rng.randint(1, 3)  # the four counts to choose from; the right one is any of them
    count = least + dealt(range(4), turn, f"{plan.seed} rank")
    span = dealt(range(len(_DISTANCES) - 1), turn, f"{plan.seed} span")
    side = rng.choice(("left", "right"))
    by_color = rng.random() < 0.5
    while True:
        if kind is Kind.COUNT:
            group = rng.choice(COLORS if by_color else SHAPES)
            things = _room(_names_with(group, count, max(objects, count + 1), rng), rng)
            if split_of(things) is plan.split:
                asked = tuple(thing for thing in things if group in (thing.color, thing.shape))
                options = [str(least + k) for k in range(4)]
                right = options.pop(count - least)
                rng.shuffle(options)
                options.insert(LETTERS.index(letter), right)
                text = f"How many {f'{group} objects' if by_color else plural(group)} are there?"
                return RoomQuestion(name, kind, things, asked, text, tuple(options), letter, group=group)
            continue
        names = [(color, shape) for color in COLORS for shape in SHAPES]
        things = _room(rng.sample(names, objects), rng)
        chosen = rng.sample(things, {Kind.LARGER: 4, Kind.DISTANCE: 2}.get(kind, 5))
        if split_of(things) is not plan.split:
            continue
        if kind is Kind.DISTANCE:
            if _DISTANCES[span] <= apart(*chosen) / TILE < _DISTANCES[span + 1]:
                text = f"How many tiles is the {chosen[0].name} from the {chosen[1].name}, from centre to centre?"
                tiles = f"{apart(*chosen) / TILE:.1f}"
                return RoomQuestion(name, kind, things, tuple(chosen), text, (), tiles)
            continue
        found = _right(kind, side, chosen)
        if found is not None:
            base, others = chosen[:-4], [thing for thing in chosen[-4:] if thing is not found]
            others.insert(LETTERS.index(letter), found)
            text = {
                Kind.NEAREST: "Which is nearest to the {0}, from centre to centre?",
                Kind.LEFT_OF: "The centre of which is {1} of the centre of the {0}?",
                Kind.LARGER: "Which is the largest?",
            }[kind].format(base[0].name if base else "", side)
            options = tuple(thing.name for thing in others)
            return RoomQuestion(name, kind, things, (*base, *others), text, options, letter, side=side)


def apart(a: Thing, b: Thing) -> float:
    """The distance of the centres, in units."""
    return math.dist(a.centre, b.centre)


def plural(shape: str) -> str:
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def _right(kind: Kind, side: str, chosen: list[Thing]) -> Thing | None:
    """The right one of the last four, None where not exactly one clearly is."""
    base, four = chosen[0], chosen[-4:]
    if kind is Kind.LEFT_OF:
        sign = -1 if side == "left" else 1
        ahead = [sign * (thing.centre[0] - base.centre[0]) for thing in four]
        if any(abs(step) < _BESIDE for step in ahead) or sum(step > 0 for step in ahead) != 1:
            return None
        return four[ahead.index(max(ahead))]
    if kind is Kind.NEAREST:
        measure = [1 / apart(base, thing) for thing in four]
    else:
        measure = [float(thing.size) for thing in four]
    first, second = sorted(measure, reverse=True)[:2]
    return four[measure.index(first)] if first >= _NEARER * second else None


def _names_with(group: str, count: int, total: int, rng: Random) -> list[tuple[str, str]]:
    """Colours and shapes of `total` objects, `count` of them of that colour or shape; names may stand twice."""
    names = [(color, shape) for color in COLORS for shape in SHAPES]
    inside = [name for name in names if group in name]
    outside = [name for name in names if group not in name]
    return rng.choices(inside, k=count) + rng.choices(outside, k=total - count)


def _room(names: list[tuple[str, str]], rng: Random) -> tuple[Thing, ...]:
    """Objects of these names at random places, at least half of each before the floor, in reading order."""
    while True:
        squares: list[tuple[int, int, int]] = []
        for _ in names:
            for _ in range(_MAX_TRIES):
                size = rng.randint(MIN_SIZE, MAX_SIZE)
                x = rng.randint(GAP, ROOM - GAP - size)
                y = rng.randint(WALL - size // 2, ROOM - GAP - size)
                if all(_clear(x, y, size, *other) for other in squares):
                    squares.append((x, y, size))
                    break
        if len(squares) == len(names):
            things = (Thing(*name, *square) for name, square in zip(names, squares, strict=True))
            return tuple(sorted(things, key=lambda thing: (thing.y, thing.x)))


def _clear(x: int, y: int, size: int, x2: int, y2: int, size2: int) -> bool:
    beside = x + size + GAP <= x2 or x2 + size2 + GAP <= x
    return beside or y + size + GAP <= y2 or y2 + size2 + GAP <= y


def layout_hash(things: tuple[Thing, ...]) -> str:
    """16 hex digits of the objects' squares, whatever they are; the same for a room and its mirror image."""
    plain = sorted((thing.x, thing.y, thing.size) for thing in things)
    mirrored = sorted((ROOM - thing.x - thing.size, thing.y, thing.size) for thing in things)
    return hashlib.sha256(repr(min(plain, mirrored)).encode()).hexdigest()[:16]


def split_of(things: tuple[Thing, ...]) -> Split:
    """One room in five is for testing, whatever seed or count a file was made with."""
    return Split.TEST if int(layout_hash(things), 16) % 5 == 0 else Split.TRAIN
