"""The arithmetic of shards."""

from __future__ import annotations

import random

import pytest

from vilasr.merging.layout import Box, chunk, covers, local_box


def test_chunks_are_equal_and_the_last_ones_shorter_or_empty() -> None:
    assert [chunk(10, 4, n) for n in range(4)] == [(0, 3), (3, 3), (6, 3), (9, 1)]
    assert [chunk(2, 4, n) for n in range(4)] == [(0, 1), (1, 1), (2, 0), (2, 0)]


@pytest.mark.parametrize("mesh", [(4,), (2, 3), (3, 2, 2)])
def test_the_boxes_of_all_processes_are_the_tensor(mesh: tuple[int, ...]) -> None:
    chosen = random.Random(3)
    for _ in range(200):
        shape = [chosen.randrange(1, 9) for _ in range(chosen.randrange(1, 4))]
        sharded = [chosen.choice([None, *range(len(shape))]) for _ in mesh]
        boxes = {local_box(shape, sharded, mesh, coordinate) for coordinate in _coordinates(mesh)}
        elements = [element for box in boxes for element in _elements(box)]
        assert len(elements) == len(set(elements))
        assert set(elements) == set(_elements(Box((0,) * len(shape), tuple(shape))))
        assert covers(shape, boxes)
        full = max(boxes, key=lambda box: box.count)
        assert not covers(shape, boxes - {full})


def test_boxes_that_overlap_or_stick_out_do_not_cover() -> None:
    assert not covers([4], [Box((0,), (3,)), Box((2,), (1,))])
    assert not covers([4], [Box((0,), (2,)), Box((3,), (2,))])
    assert not covers([2, 2], [Box((0, 0), (2, 1)), Box((0, 0), (2, 1))])
    assert covers([2, 2], [Box((0, 0), (2, 1)), Box((0, 1), (1, 1)), Box((1, 1), (1, 1)), Box((2, 0), (0, 2))])
    assert covers([], [Box((), ())])


def test_what_makes_no_sense_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 placements on a mesh of 1"):
        local_box([4], [0, None], [2], [1])
    with pytest.raises(ValueError, match="cut along dimension 1 of a tensor of 1"):
        local_box([4], [1], [2], [1])
    with pytest.raises(ValueError, match="place 2 of 2"):
        local_box([4], [0], [2], [2])


def _coordinates(mesh: tuple[int, ...]) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for parts in mesh:
        found = [(*before, number) for before in found for number in range(parts)]
    return found


def _elements(box: Box) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for offset, size in zip(box.offset, box.size, strict=True):
        found = [(*before, number) for before in found for number in range(offset, offset + size)]
    return found
