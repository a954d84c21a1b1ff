"""Questions about mazes and their pictures: pure functions of a plan and a question's number.

Every question is about the one path between two cells. Cells, moves and pixels as in `vilasr.maze_layouts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TypeVar

from PIL import Image, ImageDraw

from vilasr.maze_layouts import (
    MAX_SIZE,
    MIN_SIZE,
    MOVES,
    OPPOSITE,
    Cell,
    Grid,
    Maze,
    Run,
    Split,
    join_runs,
    path_to,
    random_maze,
    runs_of,
    spell,
    split_of,
    step_from,
    tree_from,
    walk,
)

T = TypeVar("T")

LETTERS = "ABCD"
MIN_PITCH = 12  # pixels a cell: below, walls and dots run into each other
PAPER, WALL = (255, 255, 255), (25, 25, 25)
START, END = (0, 150, 60), (225, 30, 30)
DOTS = {"red": END, "blue": (30, 90, 230), "orange": (255, 165, 0), "purple": (150, 50, 190)}


class Kind(StrEnum):
    """What is asked about the path; all are answered by drawing it."""

    DESTINATION = "destination"  # where do these moves end
    ROUTE = "route"  # which moves lead to the end
    LENGTH = "length"  # how many moves
    TURNS = "turns"  # how many turns


@dataclass(frozen=True, slots=True)
class Plan:
    """All questions of a run. Question `number` depends on the plan and its number alone."""

    split: Split
    seed: int
    sizes: tuple[int, ...] = tuple(range(MIN_SIZE, MAX_SIZE + 1))
    kinds: tuple[Kind, ...] = tuple(Kind)
    cell: int | None = (
        None  # pixels a side of a cell, the picture as large as the maze; None: as the picture's side has it
    )


@dataclass(frozen=True, slots=True)
class MazeQuestion:
    """`path` runs from the start to the end, both included. `dots` are the four of a `destination` question. `cell` as
    in the plan."""

    id: str
    kind: Kind
    maze: Maze
    path: tuple[Cell, ...]
    text: str
    options: tuple[str, ...]
    answer: str
    dots: tuple[tuple[str, Cell], ...] = ()
    cell: int | None = None

    def grid(self, side: int) -> Grid:
        """Where its cells lie in its picture of `side` pixels."""
        return Grid(self.maze.size, side, self.cell)


def make_question(plan: Plan, number: int) -> MazeQuestion:
    """Question `number` (from 0). Kinds take turns; sizes and answer letters are dealt evenly within each kind."""
    kind = plan.kinds[number % len(plan.kinds)]
    turn = number // len(plan.kinds)
    size = dealt(plan.sizes, turn, f"{plan.seed} {kind} size")
    letter = dealt(LETTERS, turn, f"{plan.seed} {kind} letter")
    rng = Random(f"{plan.seed} {plan.split} {number}")  # noqa: S311
    maze = random_maze(size, rng)
    while split_of(maze) is not plan.split:
        maze = random_maze(size, rng)
    start = rng.choice([(r, c) for r in range(size) for c in range(size)])
    tree = tree_from(maze, start)
    far = min(size, max(distance for _, distance in tree.values()))
    path = path_to(tree, rng.choice([cell for cell, (_, distance) in tree.items() if distance >= far]))
    dots: tuple[tuple[str, Cell], ...] = ()
    if kind is Kind.DESTINATION:
        text = f"Start at the green square and go {spell(runs_of(path))}. On which dot do you end?"
        dots = _dots(path, size, rng)
        right, wrong = dots[0][0], [name for name, _ in dots[1:]]
        dots = tuple(sorted(dots))  # so that the order of drawing tells nothing
    elif kind is Kind.ROUTE:
        text = "Which moves lead from the green square to the red square without crossing a wall?"
        right, wrong = spell(runs_of(path)), [spell(runs) for runs in _wrong_routes(maze, path, rng)]
    elif kind is Kind.LENGTH:
        text = "How many moves is the path from the green square to the red square? A move goes to the next cell."
        # Steps of two: between two cells all ways have the same parity, so parity gives nothing away.
        right, wrong = _numbers(len(path) - 1, 2, 1, rng)
    else:
        text = "How many turns does the path from the green square to the red square make?"
        right, wrong = _numbers(len(runs_of(path)) - 1, 1, 0, rng)
    rng.shuffle(wrong)
    options = list(wrong)
    options.insert(LETTERS.index(letter), right)
    name = f"maze-{plan.split}-{plan.seed}-{number:06d}"
    return MazeQuestion(name, kind, maze, path, text, tuple(options), letter, dots, plan.cell)


def dealt(items: Sequence[T], number: int, key: str) -> T:
    """Item `number` of an endless sequence of shuffled decks."""
    block, place = divmod(number, len(items))
    deck = list(items)
    Random(f"{key} {block}").shuffle(deck)  # noqa: S311
    return deck[place]


def _numbers(right: int, step: int, least: int, rng: Random) -> tuple[str, list[str]]:
    """The right number and three others around it, `step` apart; its rank among the four is random."""
    below = rng.randint(0, min(3, (right - least) // step))
    return str(right), [str(right + step * k) for k in range(-below, 4 - below) if k]


def _dots(path: Sequence[Cell], size: int, rng: Random) -> tuple[tuple[str, Cell], ...]:
    """Four coloured dots, the right one first: one other where a changed move would end, two anywhere."""
    start, end = path[0], path[-1]
    free = [(r, c) for r in range(size) for c in range(size) if (r, c) not in (start, end)]
    slips = [cell for runs in _changed(runs_of(path)) if (cell := _blind_end(start, runs)) in free]
    taken = [end, rng.choice(slips or free)]
    taken += rng.sample([cell for cell in free if cell not in taken], 2)
    return tuple(zip(rng.sample(sorted(DOTS), 4), taken, strict=True))


def _blind_end(start: Cell, runs: Iterable[Run]) -> Cell:
    """Where the moves end if walls are ignored, perhaps outside the square."""
    cell = start
    for name, moves in runs:
        cell = step_from(cell, name, moves)
    return cell


def _changed(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """All move lists with one run turned round, or one move longer or shorter."""
    changed = []
    for k, (name, moves) in enumerate(runs):
        for other in ((OPPOSITE[name], moves), (name, moves + 1), (name, moves - 1)):
            if other[1]:
                changed.append((*runs[:k], other, *runs[k + 1 :]))
    return changed


def _wrong_routes(maze: Maze, path: Sequence[Cell], rng: Random) -> list[tuple[Run, ...]]:
    """Three move lists that fail: the path with a slip, a decoy, and the decoy with a slip. So the right one cannot be
    told by being most like the others. The decoy is a true path elsewhere, or goes to the end whatever the walls."""
    start, end = path[0], path[-1]
    tree = tree_from(maze, start)
    decoy = _blind_runs(start, end, rng)
    elsewhere = [cell for cell in tree if cell not in (start, end) and abs(tree[cell][1] - len(path) + 1) <= 2]
    if elsewhere and rng.random() < 0.75:
        decoy = runs_of(path_to(tree, rng.choice(elsewhere)))
    slips = _changed(runs_of(path))
    rng.shuffle(slips)
    wrong = []
    for runs in (slips[0], decoy, rng.choice(_changed(decoy)), *slips[1:]):
        if walk(maze, start, runs) != end and runs not in wrong:
            wrong.append(runs)
    return wrong[:3]


def _blind_runs(start: Cell, end: Cell, rng: Random) -> tuple[Run, ...]:
    """A shortest way as if there were no walls."""
    moves = [("right" if end[1] > start[1] else "left", 1)] * abs(end[1] - start[1])
    moves += [("down" if end[0] > start[0] else "up", 1)] * abs(end[0] - start[0])
    rng.shuffle(moves)
    return join_runs(moves)


def draw_question(question: MazeQuestion, side: int) -> Image.Image:
    """The maze as a square RGB image of `side` pixels: dark walls on white, the start a green square, the end a red
    one, or four coloured dots."""
    grid = question.grid(side)
    image = Image.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(image)
    thick = max(2, round(grid.pitch / 8))
    for row in range(grid.size):
        for column in range(grid.size):
            for direction, (dr, dc) in MOVES.items():
                if not question.maze.is_open((row, column), (row + dr, column + dc)):
                    draw.rectangle(_wall(grid, (row, column), direction, thick), fill=WALL)
    half = round(0.27 * grid.pitch)
    for name, cell in question.dots:
        x, y = grid.centre(cell)
        draw.ellipse((x - half, y - half, x + half, y + half), fill=DOTS[name])
    ends = [(START, question.path[0])] + ([] if question.dots else [(END, question.path[-1])])
    for color, cell in ends:
        x, y = grid.centre(cell)
        draw.rectangle((x - half, y - half, x + half, y + half), fill=color)
    return image


def _wall(grid: Grid, cell: Cell, direction: str, thick: int) -> tuple[int, int, int, int]:
    """The rectangle (inclusive pixels) of the wall on one side of a cell, corners included."""
    left, top = grid.margin + cell[1] * grid.pitch, grid.margin + cell[0] * grid.pitch
    right, bottom = left + grid.pitch, top + grid.pitch
    x1, y1, x2, y2 = {
        "right": (right, top, right, bottom),
        "left": (left, top, left, bottom),
        "down": (left, bottom, right, bottom),
        "up": (left, top, right, top),
    }[direction]
    before = thick // 2
    after = thick - before - 1
    return x1 - before, y1 - before, x2 + after, y2 + after
