"""Which part of a tensor a process held: arithmetic alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a tensor: where it begins and how long it is in each dimension, in elements."""

    offset: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.size)


def chunk(length: int, parts: int, number: int) -> tuple[int, int]:
    """Offset and length of a part, as torch.chunk cuts: all equal, the last ones shorter or empty."""
    each = -(-length // parts)
    start = min(each * number, length)
    return start, min(start + each, length) - start


def local_box(
    shape: Sequence[int], sharded: Sequence[int | None], mesh: Sequence[int], coordinate: Sequence[int]
) -> Box:
    """The part that the process at `coordinate` of a mesh of processes holds.

    `sharded` says for each dimension of the mesh which dimension of the tensor is cut along it, None for none
    (replicated). Where two cut the same dimension, the earlier one cuts first. Raises ValueError.
    """
    if not len(sharded) == len(mesh) == len(coordinate):
        raise ValueError(f"{len(sharded)} placements on a mesh of {len(mesh)} dimensions")
    offset, size = [0] * len(shape), list(shape)
    for dimension, parts, number in zip(sharded, mesh, coordinate, strict=True):
        if not 0 <= number < parts:
            raise ValueError(f"place {number} of {parts}")
        if dimension is None:
            continue
        if not -len(shape) <= dimension < len(shape):
            raise ValueError(f"cut along dimension {dimension} of a tensor of {len(shape)}")
        start, size[dimension] = chunk(size[dimension], parts, number)
        offset[dimension] += start
    return Box(tuple(offset), tuple(size))


def covers(shape: Sequence[int], boxes: Iterable[Box]) -> bool:
    """Whether the boxes together are the whole tensor, each element once."""
    boxes = [box for box in boxes if box.count]
    if sum(box.count for box in boxes) != math.prod(shape):
        return False
    ends = [tuple(start + length for start, length in zip(box.offset, box.size, strict=True)) for box in boxes]
    if any(end > length for box_end in ends for end, length in zip(box_end, shape, strict=True)):
        return False
    order = sorted(range(len(boxes)), key=lambda number: boxes[number].offset)
    for place, first in enumerate(order):
        for second in order[place + 1 :]:
            if shape and boxes[second].offset[0] >= ends[first][0]:
                break  # sorted: none of the others meets it either
            if all(
                boxes[first].offset[d] < ends[second][d] and boxes[second].offset[d] < ends[first][d]
                for d in range(len(shape))
            ):
                return False
    return True
