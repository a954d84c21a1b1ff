"""Whether the lines of a maze episode go from cell to cell: where the cells lie, and how far from them a point may be.

The published project keeps such a check (calculate_grid_centers and check_path_tracer in its eval/infer.py) that
nothing calls; its author says that maze paths of the cold-start data were filtered so. A picture made with matplotlib
has wide margins, our own mazes hardly any (`vilasr.maze_layouts.Grid`): one layout for each.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from vilasr.drawing.marks import Line, Point
from vilasr.maze_layouts import Grid
from vilasr.tasks import Example
from vilasr.traces import Trace

Geometry = Literal["auto", "vilasr", "published"]
GEOMETRIES: tuple[str, ...] = get_args(Geometry)

# Shares of the side, as the published code has them.
LEFT, RIGHT, BOTTOM, TOP = 0.125, 0.1, 0.11, 0.12
_OURS = re.compile(r"maze-(train|test)-")  # ids of tools/make_mazes.py


@dataclass(frozen=True, slots=True)
class Cells:
    """`size` x `size` cells of `pitch` (x, y) pixels in an image; `first` is the centre of the top left one."""

    size: int
    first: Point
    pitch: tuple[float, float]

    def nearest(self, point: Point) -> Point:
        """The cell centre nearest to a point, which may lie outside of all cells."""
        columns, rows = (
            min(max(round((value - first) / pitch), 0), self.size - 1)
            for value, first, pitch in zip(point, self.first, self.pitch, strict=True)
        )
        return self.first[0] + columns * self.pitch[0], self.first[1] + rows * self.pitch[1]

    def is_near(self, point: Point) -> bool:
        """Within half a cell of a centre: so far along the axes as a cell goes, less in its corners."""
        return math.dist(point, self.nearest(point)) <= sum(self.pitch) / 4


def maze_cells(size: int, width: int, height: int, geometry: Literal["vilasr", "published"]) -> Cells | None:
    """The cells of a maze in an image of that size; None where they would be smaller than a pixel or none at all."""
    if size < 1:
        return None
    if geometry == "vilasr":
        across, down = Grid(size, width), Grid(size, height)  # the same, unless the image was squeezed
        first, pitch = (across.centre((0, 0))[0], down.centre((0, 0))[1]), (across.pitch, down.pitch)
    else:
        left, top = int(width * LEFT), int(height * TOP)
        pitch = (
            (width - left - int(width * RIGHT)) / size,
            (height - top - int(height * BOTTOM)) / size,
        )
        first = (left + pitch[0] / 2, top + pitch[1] / 2)
    return Cells(size, first, pitch) if min(pitch) >= 1 else None


def layout_of(example_id: str, geometry: Geometry) -> Literal["vilasr", "published"]:
    """The layout itself, or for "auto" that which the item's id tells."""
    if geometry == "auto":
        return "vilasr" if _OURS.match(example_id) else "published"
    return geometry


def lines_near_cells(example: Example, trace: Trace, geometry: Geometry) -> bool:
    """Whether both ends of every line lie near a cell centre of the image it was drawn on. False where that cannot be
    told: `grid_size` is missing or not possible for the image, or the trace lacks the image."""
    if example.grid_size is None:
        return False
    layout = layout_of(example.id, geometry)
    for mark in trace.marks:
        if not isinstance(mark, Line):
            continue
        if not 1 <= mark.index <= len(trace.images):
            return False
        image = trace.images[mark.index - 1]
        cells = maze_cells(example.grid_size, image.width, image.height, layout)
        if cells is None or not all(map(cells.is_near, mark.points)):
            return False
    return True
