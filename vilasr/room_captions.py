"""Captions of rooms: short questions about what the picture shows, and a list of all objects.

For pre-training a model that has never seen a picture. Every answer can be read off the picture alone; boxes are as in
the replies, [x1, y1, x2, y2] in the profile's frame. The list is asked for last, so that no short answer can be copied
from it; it has a line "name [box]" for each object, in reading order (top side, then left side).
"""

from __future__ import annotations

from random import Random

from vilasr.maze_captions import short_turns
from vilasr.maze_traces import to_profile
from vilasr.prompts import Profile
from vilasr.room_pictures import box_of, scaled
from vilasr.rooms import COLORS, ROOM, SHAPES, TILE, WALL, RoomQuestion, Thing

DESCRIBE = "List all objects with their boxes."


class _Reader:
    """A room as it lies in the picture."""

    def __init__(self, question: RoomQuestion, side: int, profile: Profile) -> None:
        self.things, self.side, self.profile = question.things, side, profile
        names = [thing.name for thing in self.things]
        self.single = [thing for thing in self.things if names.count(thing.name) == 1]

    def box(self, thing: Thing) -> str:
        x1, y1, x2, y2 = box_of(thing, self.side)
        corners = (*to_profile((x1, y1), self.side, self.profile), *to_profile((x2, y2), self.side, self.profile))
        return "[" + ", ".join(f"{value:.0f}" for value in corners) + "]"

    def point(self, x: int, y: int) -> str:
        """Of a point in units."""
        pixels = (scaled(x, self.side), scaled(y, self.side))
        x_, y_ = to_profile(pixels, self.side, self.profile)
        return f"({x_:.0f}, {y_:.0f})"


def caption(question: RoomQuestion, side: int, profile: Profile, rng: Random) -> list[tuple[str, str]]:
    """(asked, answered) in order; no question twice. `side` is the picture's, in pixels."""
    reader = _Reader(question, side, profile)
    makers = [_where, _where, _where, _what, _what, _point, _point, _is_there, _tile]
    described = "\n".join(f"{thing.name} {reader.box(thing)}" for thing in reader.things)
    return [*short_turns(makers, reader, rng), (DESCRIBE, described)]


def _where(reader: _Reader, rng: Random) -> tuple[str, str]:
    if not reader.single:
        return _what(reader, rng)
    thing = rng.choice(reader.single)
    return f"Where is the {thing.name}?", reader.box(thing)


def _what(reader: _Reader, rng: Random) -> tuple[str, str]:
    thing = rng.choice(reader.things)
    return f"What is in {reader.box(thing)}?", thing.name


def _point(reader: _Reader, rng: Random) -> tuple[str, str]:
    """Half of the points lie well inside an object's square, the others well outside of all."""
    if rng.random() < 0.5:
        thing = rng.choice(reader.things)
        x, y = (round(start + thing.size / 2) for start in (thing.x, thing.y))
        return f"Whose centre is near {reader.point(x, y)}?", thing.name
    while True:  # objects never fill a room
        x, y = rng.randrange(2, ROOM - 1), rng.randrange(WALL, ROOM - 1)
        if all(not (t.x - 2 <= x <= t.x + t.size + 2 and t.y - 2 <= y <= t.y + t.size + 2) for t in reader.things):
            return f"Whose centre is near {reader.point(x, y)}?", "nothing"


def _is_there(reader: _Reader, rng: Random) -> tuple[str, str]:
    """Half of the answers are yes. What is not there shares its colour or shape with something."""
    names = {thing.name for thing in reader.things}
    if rng.random() < 0.5:
        return f"Is there a {rng.choice(sorted(names))}?", "yes"
    like = rng.choice(reader.things)
    absent = [f"{like.color} {shape}" for shape in SHAPES] + [f"{color} {like.shape}" for color in COLORS]
    absent = [name for name in absent if name not in names]
    return f"Is there a {rng.choice(absent)}?", "no"


def _tile(reader: _Reader, rng: Random) -> tuple[str, str]:
    """A corner of a floor tile, inside the picture; rows from the wall on, both counted from 1."""
    column, row = rng.randrange(1, ROOM // TILE), rng.randrange((ROOM - WALL) // TILE)
    corner = reader.point(column * TILE, WALL + row * TILE)
    return f"Where is the top right corner of tile {column} in row {row + 1}?", corner
