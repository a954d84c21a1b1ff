import numpy as np
import pytest
from PIL import Image

from vilasr.drawing import Box, Line, render
from vilasr.drawing.canvas import PALETTE, label_color


def luma(color) -> float:
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def test_the_frame_stays_clean():
    frame = Image.new("RGB", (112, 112), "white")
    render(frame, [Box(1, (10, 10, 50, 50), "a")])
    assert frame.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("background", ["black", "white", (128, 128, 128), *PALETTE])
@pytest.mark.parametrize("side", [56, 168, 616])
def test_marks_stand_out_on_any_background(background, side):
    frame = Image.new("RGB", (side, side), background)
    marks = [Box(1, (0.2 * side, 0.3 * side, 0.8 * side, 0.9 * side), "b"), Line(1, (4, 4), (side - 9, 9), "l")]
    for mark in marks:
        drawn = np.asarray(render(frame, [mark]), dtype=float) @ [0.299, 0.587, 0.114]
        ground = np.asarray(frame, dtype=float) @ [0.299, 0.587, 0.114]
        assert (np.abs(drawn - ground) > 60).sum() >= side  # at least a line's worth of clearly different pixels


def test_the_direction_of_a_line_is_visible():
    frame = Image.new("RGB", (168, 168), "white")
    there = np.asarray(render(frame, [Line(1, (30, 80), (130, 80), "x")]))[40:76]
    back = np.asarray(render(frame, [Line(1, (130, 80), (30, 80), "x")]))[40:76]
    assert (there != back).any()
    dark = (there != 255).any(axis=2).sum(axis=0)
    assert dark[100:].sum() > dark[:60].sum()  # the head lies at the end


@pytest.mark.parametrize("side", [56, 168, 616])
def test_labels_are_sized_to_the_image_and_stay_inside(side):
    frame = Image.new("RGB", (side, side), "white")
    for box in ((0, 0, side, side), (side - 10, side - 10, side, side), (0, 0, 5, 5)):
        image = render(frame, [Box(1, box, "a very long label that cannot fit " * 3)])
        plate = (np.asarray(image) == label_color("a very long label that cannot fit " * 3)).all(axis=2)
        rows = np.flatnonzero(plate.sum(axis=1) > side // 3)
        assert side // 40 <= len(rows), "the label's plate is visible"


def test_labels_of_neighbours_do_not_cover_each_other():
    frame = Image.new("RGB", (336, 336), "white")
    marks = [Box(1, (100, 100, 200, 200), "first"), Box(1, (102, 101, 201, 203), "other")]
    image = np.asarray(render(frame, marks))
    for mark in marks:
        assert (image == label_color(mark.label)).all(axis=2).sum() > 400


def test_equal_labels_have_equal_colours_in_every_process():
    assert label_color("chair") == (0, 110, 220) or label_color("chair") in PALETTE
    assert label_color("chair") == label_color("chair")
    assert len({label_color(f"object {i}") for i in range(50)}) > 4


def test_strange_labels_are_drawn():
    frame = Image.new("RGB", (112, 112), "white")
    for label in ("Tür", "门", "\u202eabc", "\u0000", "a" * 80, "👍"):
        render(frame, [Box(1, (10, 40, 80, 90), label)])
