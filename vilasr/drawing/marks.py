"""Marks: the labelled boxes and lines a model draws.

Coordinates are absolute pixels of the image as shown to the model, origin at the top left, x to the right and y
down. `index` counts the images of the conversation from 1 in the order shown, drawn images included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled axis-parallel box with corners (x1, y1) top left and (x2, y2) bottom right."""

    index: int
    bbox: tuple[float, float, float, float]
    label: str

    @property
    def points(self) -> tuple[Point, Point]:
        return (self.bbox[0], self.bbox[1]), (self.bbox[2], self.bbox[3])


@dataclass(frozen=True, slots=True)
class Line:
    """A labelled directed line from `start` to `end`."""

    index: int
    start: Point
    end: Point
    label: str

    @property
    def points(self) -> tuple[Point, Point]:
        return self.start, self.end


Mark = Box | Line


def with_points(mark: Mark, first: Point, second: Point) -> Mark:
    """The same mark with other corner or end points."""
    if isinstance(mark, Box):
        return replace(mark, bbox=(*first, *second))
    return replace(mark, start=first, end=second)


def geometry(mark: Mark) -> tuple[str, int, int, int, int]:
    """Kind and whole-pixel geometry: two marks that round to the same pixels are the same operation."""
    (x1, y1), (x2, y2) = mark.points
    return (type(mark).__name__, round(x1), round(y1), round(x2), round(y2))


def _number(value: float) -> float | int:
    return int(value) if float(value).is_integer() else round(value, 2)


def mark_to_json(mark: Mark) -> dict[str, object]:
    """The mark in the reply format: `bbox_2d`, or `start_point_2d` and `end_point_2d`."""
    if isinstance(mark, Box):
        return {"index": mark.index, "bbox_2d": [_number(v) for v in mark.bbox], "label": mark.label}
    return {
        "index": mark.index,
        "start_point_2d": [_number(v) for v in mark.start],
        "end_point_2d": [_number(v) for v in mark.end],
        "label": mark.label,
    }


def mark_from_json(record: dict) -> Mark:
    """The inverse of `mark_to_json`, for our own files. Raises KeyError, TypeError or ValueError on other input."""
    if "bbox_2d" in record:
        x1, y1, x2, y2 = (float(v) for v in record["bbox_2d"])
        return Box(int(record["index"]), (x1, y1, x2, y2), str(record["label"]))
    (x1, y1), (x2, y2) = record["start_point_2d"], record["end_point_2d"]
    return Line(int(record["index"]), (float(x1), float(y1)), (float(x2), float(y2)), str(record["label"]))
