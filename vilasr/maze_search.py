"""The search for a maze's one path, written down so that each word follows from a few words before it or one look.

From the goal back to the start, breadth first. A line for each cell looked at, in the order in which they were found:
its number and, numbered on, the neighbours found from it, each with the way that leads from there towards the goal.
Then the path: from the start, the number of each cell, the way from it, and how many moves in a row go that way.

    From (70, 14) back to (14, 42).
    0: 1 (42, 14) right, 2 (70, 42) up
    1:
    2: 3 (42, 42) right
    3: 4 (14, 42) right
    4 right 1, 3 right 2, 2 up 1, 0
    Right 2, up 1.

Telling the path at a glance takes a model as many hops as the path has cells; here no word takes more than two.
"""

from __future__ import annotations

from collections.abc import Callable

from vilasr.maze_layouts import MOVES, OPPOSITE, Cell, Maze, runs_of, spell, step_from


def search_text(maze: Maze, start: Cell, goal: Cell, spell_cell: Callable[[Cell], str]) -> str:
    """`spell_cell` gives a cell's centre as "(x, y)". `start` and `goal` are two cells."""
    number, way = {goal: 0}, dict[Cell, str]()
    lines = [f"From {spell_cell(goal)} back to {spell_cell(start)}."]
    queue = [goal]
    for cell in queue:
        found = []
        for name in MOVES:
            beside = step_from(cell, name)
            if beside in number or not maze.is_open(cell, beside):
                continue
            number[beside], way[beside] = len(number), OPPOSITE[name]
            queue.append(beside)
            found.append(f" {number[beside]} {spell_cell(beside)} {way[beside]}")
            if beside == start:
                break
        lines.append(f"{number[cell]}:{','.join(found)}")
        if start in number:
            break
    path, moves = [start], 0
    steps = []
    while (cell := path[-1]) != goal:
        moves = moves + 1 if len(path) > 1 and way[path[-2]] == way[cell] else 1
        steps.append(f"{number[cell]} {way[cell]} {moves}")
        path.append(step_from(cell, way[cell]))
    lines.append(", ".join([*steps, "0"]))
    lines.append(spell(runs_of(path)).capitalize() + ".")
    return "\n".join(lines)
