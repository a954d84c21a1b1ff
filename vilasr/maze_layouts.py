"""Maze layouts: perfect mazes on a square of cells, paths through them, and where they lie in a picture.

Cells are (row, column), from 0 at the top left; a move goes one cell right, down, left or up. Pixels have their
origin at the top left, x to the right and y down.

Train and test never share a layout: the walls themselves, whichever way they are turned or mirrored, decide the split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from random import Random

Cell = tuple[int, int]
Run = tuple[str, int]  # a direction and how many moves: ("right", 2)
Tree = dict[Cell, tuple[Cell | None, int]]  # for every cell the one before it, and the distance in moves

MIN_SIZE, MAX_SIZE = 3, 8
MOVES = {"right": (0, 1), "down": (1, 0), "left": (0, -1), "up": (-1, 0)}
OPPOSITE = {"right": "left", "left": "right", "up": "down", "down": "up"}


class Split(StrEnum):
    TRAIN = "train"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Maze:
    """`size` x `size` cells; `passages` are the pairs of neighbours without a wall between, smaller cell first.
    They form a spanning tree, so there is exactly one path between any two cells."""

    size: int
    passages: frozenset[tuple[Cell, Cell]]

    def is_open(self, a: Cell, b: Cell) -> bool:
        return _pair(a, b) in self.passages


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the cells lie in a square image of `side` pixels: equal cells of `pitch` pixels inside `margin`. They are
    as large as fits within a small margin, or `cell` pixels a side."""

    size: int
    side: int
    cell: int | None = None

    @property
    def pitch(self) -> int:
        return self.cell or (self.side - 2 * (self.side // 40)) // self.size

    @property
    def margin(self) -> int:
        return (self.side - self.size * self.pitch) // 2

    def centre(self, cell: Cell) -> tuple[int, int]:
        """(x, y) in pixels."""
        row, column = cell
        return (
            self.margin + column * self.pitch + self.pitch // 2,
            self.margin + row * self.pitch + self.pitch // 2,
        )


def _pair(a: Cell, b: Cell) -> tuple[Cell, Cell]:
    return (a, b) if a < b else (b, a)


@lru_cache(maxsize=4096)
def around(cell: Cell, size: int) -> tuple[Cell, ...]:
    """The cells beside `cell` inside the square, walls or not."""
    beside = [(cell[0] + dr, cell[1] + dc) for dr, dc in MOVES.values()]
    return tuple((r, c) for r, c in beside if 0 <= r < size and 0 <= c < size)


def random_maze(size: int, rng: Random) -> Maze:
    """Every perfect maze is equally likely (Wilson's algorithm: loop-erased random walks)."""
    cells = [(r, c) for r in range(size) for c in range(size)]
    tree = {rng.choice(cells)}
    passages = set()
    for start in cells:
        step: dict[Cell, Cell] = {}
        cell = start
        while cell not in tree:  # a later step from the same cell overwrites the earlier: loops vanish
            step[cell] = rng.choice(around(cell, size))
            cell = step[cell]
        cell = start
        while cell not in tree:
            tree.add(cell)
            passages.add(_pair(cell, step[cell]))
            cell = step[cell]
    return Maze(size, frozenset(passages))


@lru_cache(maxsize=16)
def _bits(size: int) -> dict[tuple[Cell, Cell], tuple[int, ...]]:
    """One bit for each possible passage, as it lies under each of the eight symmetries of the square."""
    m = size - 1
    cells = [(r, c) for r in range(size) for c in range(size)]
    pairs = sorted({_pair(cell, other) for cell in cells for other in around(cell, size)})
    bit = {pair: 1 << k for k, pair in enumerate(pairs)}

    def images(cell: Cell) -> list[Cell]:
        r, c = cell
        return [(r, c), (r, m - c), (m - r, c), (m - r, m - c), (c, r), (c, m - r), (m - c, r), (m - c, m - r)]

    return {(a, b): tuple(bit[_pair(x, y)] for x, y in zip(images(a), images(b), strict=True)) for a, b in pairs}


def layout_hash(maze: Maze) -> str:
    """16 hex digits, the same for all eight rotations and reflections of a layout."""
    bits = _bits(maze.size)
    form = min(map(sum, zip(*(bits[pair] for pair in maze.passages), strict=True)))
    return hashlib.sha256(f"{maze.size}:{form}".encode()).hexdigest()[:16]


def split_of(maze: Maze) -> Split:
    """One layout in five is for testing, whatever seed, sizes or count a file was made with."""
    return Split.TEST if int(layout_hash(maze), 16) % 5 == 0 else Split.TRAIN


def tree_from(maze: Maze, start: Cell) -> Tree:
    """All ways from `start`."""
    found: Tree = {start: (None, 0)}
    queue = [start]
    for cell in queue:
        for other in around(cell, maze.size):
            if other not in found and maze.is_open(cell, other):
                found[other] = (cell, found[cell][1] + 1)
                queue.append(other)
    return found


def path_to(tree: Tree, end: Cell) -> tuple[Cell, ...]:
    path, cell = [], end
    while cell is not None:
        path.append(cell)
        cell = tree[cell][0]
    return tuple(reversed(path))


def step_from(cell: Cell, direction: str, moves: int = 1) -> Cell:
    dr, dc = MOVES[direction]
    return cell[0] + dr * moves, cell[1] + dc * moves


def runs_of(path: Sequence[Cell]) -> tuple[Run, ...]:
    """The straight corridors of a path, in order."""
    names = {delta: name for name, delta in MOVES.items()}
    return join_runs((names[b[0] - a[0], b[1] - a[1]], 1) for a, b in pairwise(path))


def join_runs(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Neighbouring runs in one direction become one."""
    joined: list[Run] = []
    for name, moves in runs:
        if joined and joined[-1][0] == name:
            joined[-1] = (name, joined[-1][1] + moves)
        else:
            joined.append((name, moves))
    return tuple(joined)


def walk(maze: Maze, start: Cell, runs: Iterable[Run]) -> Cell | None:
    """The cell where the moves end, None if they cross a wall."""
    cell = start
    for name, moves in runs:
        for _ in range(moves):
            ahead = step_from(cell, name)
            if not maze.is_open(cell, ahead):
                return None
            cell = ahead
    return cell


def spell(runs: Iterable[Run]) -> str:
    return ", ".join(f"{name} {moves}" for name, moves in runs)
