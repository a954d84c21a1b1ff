"""The images of one episode and what is drawn on each.

Marks belong to images: drawing on image i makes a new image that shows i's live marks and the new ones, rendered
from the clean root frame. So a revised box moves instead of leaving its old self behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from PIL import Image

from vilasr.drawing.canvas import render
from vilasr.drawing.marks import Box, Line, Mark, Point, with_points
from vilasr.drawing.parser import ErrorCode, ReplyError

CLAMP_SHARE = 0.02  # of the side: so far outside the image a point is moved to the edge


class DrawingPolicy(StrEnum):
    """`revise` (default): a later step's box replaces earlier boxes of its label, a line one of its label and start.
    `released`: as in the published code; within one call the last mark of a label counts, nothing is ever removed."""

    REVISE = "revise"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class ImageNode:
    """One image of the conversation. `index` and `root` count from 1; `parent` is None for a question's own image.
    `marks` are the live marks, all shown on the clean frame of `root`."""

    index: int
    root: int
    parent: int | None
    width: int
    height: int
    marks: tuple[Mark, ...] = ()


def live_marks(old: Sequence[Mark], new: Sequence[Mark], policy: DrawingPolicy) -> tuple[Mark, ...]:
    """What an image shows after `new` was drawn, in one step, on an image that shows `old`."""
    if policy is DrawingPolicy.RELEASED:
        last = {mark.label: mark for mark in new}
        return (*old, *last.values())
    box_labels = {mark.label for mark in new if isinstance(mark, Box)}
    line_keys = {_line_key(mark) for mark in new if isinstance(mark, Line)}
    kept = [
        mark
        for mark in old
        if (mark.label not in box_labels if isinstance(mark, Box) else _line_key(mark) not in line_keys)
    ]
    return (*kept, *new)


def _line_key(line: Line) -> tuple[str, int, int]:
    """Label and start in whole pixels, as `vilasr.drawing.marks.geometry` rounds."""
    return line.label, round(line.start[0]), round(line.start[1])


class Scene:
    """The growing list of images. `frames` are the question's images as the model sees them (RGB, final size)."""

    def __init__(self, frames: Sequence[Image.Image], policy: DrawingPolicy = DrawingPolicy.REVISE) -> None:
        self._frames = tuple(frames)
        self.policy = policy
        self.nodes = [ImageNode(i, i, None, frame.width, frame.height) for i, frame in enumerate(frames, 1)]

    def resolve(self, marks: Sequence[Mark]) -> tuple[tuple[Mark, ...], int] | ReplyError:
        """(marks inside their images, how many were clamped), or why they cannot be drawn."""
        resolved, clamped = [], 0
        for number, mark in enumerate(marks, 1):
            if not 1 <= mark.index <= len(self.nodes):
                return ReplyError(
                    ErrorCode.UNKNOWN_IMAGE,
                    f"Mark {number}: there is no image {str(mark.index)[:12]}; images 1 to {len(self.nodes)} exist.",
                )
            node = self.nodes[mark.index - 1]
            points = [_clamp(point, node) for point in mark.points]
            first, second = points
            if first is None or second is None:
                return ReplyError(
                    ErrorCode.OUT_OF_IMAGE,
                    f"Mark {number} ({mark.label!r}) lies outside image {node.index}, "
                    f"which is {node.width} wide and {node.height} high.",
                )
            if isinstance(mark, Box) and not (first[0] < second[0] and first[1] < second[1]):
                return ReplyError(
                    ErrorCode.BAD_GEOMETRY,
                    f"Mark {number} ({mark.label!r}): bbox_2d is [left, top, right, bottom] with an area.",
                )
            if first == second:
                return ReplyError(ErrorCode.BAD_GEOMETRY, f"Mark {number} ({mark.label!r}): start and end are equal.")
            clamped += mark.points != (first, second)
            resolved.append(with_points(mark, first, second))
        return tuple(resolved), clamped

    def draw(self, marks: Sequence[Mark]) -> list[ImageNode]:
        """Draw resolved marks; one new image for each image touched, in order of first touch. Returns the new nodes."""
        touched: dict[int, list[Mark]] = {}
        for mark in marks:
            touched.setdefault(mark.index, []).append(mark)
        new = []
        for index, drawn in touched.items():
            parent = self.nodes[index - 1]
            node = replace(
                parent,
                index=len(self.nodes) + 1,
                parent=index,
                marks=live_marks(parent.marks, drawn, self.policy),
            )
            self.nodes.append(node)
            new.append(node)
        return new

    def image(self, index: int) -> Image.Image:
        """Image `index` (from 1) as the model sees it; drawn anew at each call."""
        node = self.nodes[index - 1]
        frame = self._frames[node.root - 1]
        return render(frame, node.marks) if node.marks else frame


def _clamp(point: Point, node: ImageNode) -> Point | None:
    """The point moved to the edge if at most 2 % of the side outside, None if further."""
    inside = []
    for value, side in zip(point, (node.width, node.height), strict=True):
        slack = CLAMP_SHARE * side
        if not -slack <= value <= side + slack:
            return None
        inside.append(min(max(value, 0.0), float(side)))
    return inside[0], inside[1]
