"""Captions of mazes: short questions about what the picture shows, and a description of all of it.

For pre-training a model that has never seen a picture. Every answer can be read off the picture alone and nearly every
one holds coordinates: (x, y) of a cell's centre, in the profile's frame. Some ask for the way to a place, which is what
all questions about mazes come down to. The description is asked for last, so that no answer can be copied from it.

A description is the start, the end or the dots, the x of the columns, and a line for each row of cells with the y of
its centres and a word for each cell: which of the two sides "right" and "down" is open ("both", "none"). Each wall
inside the square stands there once. An 8 x 8 maze takes about 200 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from vilasr.maze_layouts import MOVES, Cell, path_to, runs_of, spell, step_from, tree_from, walk
from vilasr.maze_search import search_text
from vilasr.maze_traces import to_profile
from vilasr.mazes import MazeQuestion
from vilasr.prompts import Profile

SHORT_TURNS = 8
R = TypeVar("R")
DESCRIBE = "Describe the maze: for each cell what is open, right, down, both or none."
_OPEN = {(True, True): "both", (True, False): "right", (False, True): "down", (False, False): "none"}


class _Reader:
    """A maze as it lies in the picture."""

    def __init__(self, question: MazeQuestion, side: int, profile: Profile) -> None:
        self.maze, grid = question.maze, question.grid(side)
        self.cells = [(r, c) for r in range(grid.size) for c in range(grid.size)]
        self.points = {cell: to_profile(grid.centre(cell), side, profile) for cell in self.cells}
        self.things = {"green square": question.path[0]}  # start and end or dots, by name
        self.things |= {f"{name} dot": cell for name, cell in question.dots}
        if not question.dots:
            self.things["red square"] = question.path[-1]

    def spell(self, cell: Cell) -> str:
        x, y = self.points[cell]
        return f"({x:.0f}, {y:.0f})"

    def open_ways(self, cell: Cell) -> list[str]:
        return [name for name in MOVES if self.maze.is_open(cell, step_from(cell, name))]


def caption(
    question: MazeQuestion, side: int, profile: Profile, rng: Random, search: bool = False
) -> list[tuple[str, str]]:
    """(asked, answered) in order; no question twice. `side` is the picture's, in pixels. `search`: the way is told
    after a search (`vilasr.maze_search`), and is the only long answer of every second maze."""
    reader = _Reader(question, side, profile)
    makers = [_where, _what, _go, _go, _wall, _wall, _ways, _toward, _toward]
    turns = [*short_turns(makers, reader, rng), _path(reader, rng, search)]
    return turns if search and rng.random() < 0.5 else [*turns, (DESCRIBE, _description(reader))]


def short_turns(
    makers: Sequence[Callable[[R, Random], tuple[str, str]]], reader: R, rng: Random
) -> list[tuple[str, str]]:
    """`SHORT_TURNS` of what randomly chosen makers ask and answer, none asked twice."""
    turns: dict[str, str] = {}
    while len(turns) < SHORT_TURNS:
        asked, said = rng.choice(makers)(reader, rng)
        turns.setdefault(asked, said)
    return list(turns.items())


def _where(reader: _Reader, rng: Random) -> tuple[str, str]:
    name = rng.choice(sorted(reader.things))
    return f"Where is the {name}?", reader.spell(reader.things[name])


def _what(reader: _Reader, rng: Random) -> tuple[str, str]:
    names = {cell: name for name, cell in reader.things.items()}
    cell = rng.choice(sorted(names) if rng.random() < 0.5 else reader.cells)
    return f"What is at {reader.spell(cell)}?", names.get(cell, "nothing")


def _go(reader: _Reader, rng: Random) -> tuple[str, str]:
    cell = rng.choice(reader.cells)
    way = rng.choice(reader.open_ways(cell))
    far = 1
    while walk(reader.maze, cell, [(way, far + 1)]) is not None:
        far += 1
    moves = rng.randint(1, far)
    return f"From {reader.spell(cell)} go {way} {moves}: where?", reader.spell(step_from(cell, way, moves))


def _wall(reader: _Reader, rng: Random) -> tuple[str, str]:
    """Between neighbours inside the square; half of the answers are yes."""
    beside = [(a, way) for a in reader.cells for way in MOVES if step_from(a, way) in reader.points]
    walled = rng.random() < 0.5
    cell, way = rng.choice([(a, way) for a, way in beside if (way not in reader.open_ways(a)) is walled])
    side = {"right": "right of", "left": "left of", "up": "above", "down": "below"}[way]
    return f"Is there a wall {side} {reader.spell(cell)}?", "yes" if walled else "no"


def _ways(reader: _Reader, rng: Random) -> tuple[str, str]:
    cell = rng.choice(reader.cells)
    return f"Which ways are open at {reader.spell(cell)}?", ", ".join(reader.open_ways(cell))


def _toward(reader: _Reader, rng: Random) -> tuple[str, str]:
    """The first move of the one path."""
    name = rng.choice(sorted(reader.things))
    goal = reader.things[name]
    cell = rng.choice([cell for cell in reader.cells if cell != goal])
    way = runs_of(path_to(tree_from(reader.maze, cell), goal))[0][0]
    return f"Which way is it from {reader.spell(cell)} to the {name}?", way


def _path(reader: _Reader, rng: Random, search: bool) -> tuple[str, str]:
    start = reader.things["green square"]
    name = rng.choice(sorted(reader.things.keys() - {"green square"}))
    asked = f"Which moves lead from the green square to the {name}?"
    if search:
        return asked, search_text(reader.maze, start, reader.things[name], reader.spell)
    return asked, spell(runs_of(path_to(tree_from(reader.maze, start), reader.things[name])))


def _description(reader: _Reader) -> str:
    things = ", ".join(f"{name} {reader.spell(reader.things[name])}" for name in sorted(reader.things))
    size = reader.maze.size
    lines = [f"{things}.", "x " + " ".join(f"{reader.points[0, column][0]:.0f}" for column in range(size))]
    for row in range(size):
        cells = ((row, column) for column in range(size))
        words = (_OPEN["right" in ways, "down" in ways] for ways in map(reader.open_ways, cells))
        lines.append(f"y {reader.points[row, 0][1]:.0f}: {' '.join(words)}")
    return "\n".join(lines)
