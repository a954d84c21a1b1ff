import math
from dataclasses import replace
from random import Random

import pytest

from tests.data_engine.cases import CHOICE, drawn
from tests.golden import make_example
from vilasr.data_engine.candidate import candidate
from vilasr.data_engine.filters import maze_points
from vilasr.data_engine.maze_points import layout_of, maze_cells
from vilasr.drawing.marks import Box, Line
from vilasr.maze_layouts import Grid, Split
from vilasr.maze_traces import oracle_episode
from vilasr.mazes import Plan, draw_question, make_question
from vilasr.prompts import default_profile
from vilasr.results import parse_row, result_row
from vilasr.tasks import QuestionType

FILTER = maze_points()


def maze(name: str = "maze-train-0-000001", size: int | None = 5, **more):
    return replace(CHOICE, id=name, source="maze", data_type="maze", grid_size=size, **more)


# Worked out by hand for 616 pixels: margins 77, 61, 67 and 73, so 478 x 476 pixels for the cells.
@pytest.mark.parametrize(
    ("geometry", "side", "size", "first", "pitch"),
    [
        ("published", 616, 5, (77 + 47.8, 73 + 47.6), (95.6, 95.2)),
        ("published", 100, 3, (12 + 78 / 6, 12 + 77 / 6), (26, 77 / 3)),
        ("vilasr", 588, 4, (14 + 70, 14 + 70), (140, 140)),
        ("vilasr", 168, 3, (4 + 26, 4 + 26), (53, 53)),  # 160 // 3, and what is left over on both sides
    ],
)
def test_where_the_cells_are(geometry, side, size, first, pitch):
    cells = maze_cells(size, side, side, geometry)
    assert cells is not None
    assert cells.first == pytest.approx(first)
    assert cells.pitch == pytest.approx(pitch)


def test_our_layout_is_that_of_our_pictures():
    for size, side in [(3, 168), (5, 588), (8, 308)]:
        cells, grid = maze_cells(size, side, side, "vilasr"), Grid(size, side)
        centres = [grid.centre((row, column)) for row in range(size) for column in range(size)]
        assert all(cells.nearest(centre) == centre for centre in centres)


def test_the_nearest_centre_is_the_nearest_of_all():
    rng = Random(1)
    cells = maze_cells(4, 300, 400, "published")
    (x, y), (across, down) = cells.first, cells.pitch
    centres = [(x + column * across, y + row * down) for column in range(4) for row in range(4)]
    for _ in range(500):
        point = (rng.uniform(0, 300), rng.uniform(0, 400))
        nearest = min(math.dist(point, centre) for centre in centres)
        assert math.dist(point, cells.nearest(point)) == pytest.approx(nearest)


@pytest.mark.parametrize(("width", "height", "size"), [(100, 100, 0), (100, 100, -3), (30, 100, 50), (100, 30, 50)])
@pytest.mark.parametrize("geometry", ["vilasr", "published"])
def test_cells_that_cannot_be_are_none(width, height, size, geometry):
    assert maze_cells(size, width, height, geometry) is None


@pytest.mark.parametrize(
    ("name", "geometry", "layout"),
    [
        ("maze-train-0-000001", "auto", "vilasr"),
        ("maze-test-7-000001", "auto", "vilasr"),
        ("maze-000001", "auto", "published"),
        ("my-maze-train-1", "auto", "published"),
        ("maze-000001", "vilasr", "vilasr"),
        ("maze-test-7-000001", "published", "published"),
    ],
)
def test_auto_goes_by_the_id(name, geometry, layout):
    assert layout_of(name, geometry) == layout


CENTRE = (84.0, 84.0)  # of the top left cell of 4 x 4 at 588 pixels, cells of 140


@pytest.mark.parametrize(
    ("point", "passes"),
    [
        (CENTRE, True),
        ((84 + 70, 84), True),  # half a cell: the border
        ((84 - 70, 84), True),
        ((84 - 70.5, 84), False),  # beyond the border there is no other cell
        ((84 + 49, 84 + 49), True),
        ((84 + 50, 84 + 50), False),  # 70.7 from the centres around it
        ((84 + 140, 84 + 280), True),
    ],
)
def test_a_point_within_half_a_cell_passes_at_either_end(point, passes):
    for line in (Line(1, CENTRE, point, "p"), Line(1, point, (84, 84.5), "p")):
        assert FILTER.keeps(drawn(maze(size=4), [line], sizes=[(588, 588)])) is passes


def test_every_line_counts_each_in_its_image():
    good, bad = Line(1, CENTRE, (224, 84), "p"), Line(1, CENTRE, (154, 154), "q")
    sizes = [(588, 588), (294, 294)]
    assert FILTER.keeps(drawn(maze(size=4), [good], [good], sizes=sizes))
    assert not FILTER.keeps(drawn(maze(size=4), [good], [good, bad], sizes=sizes))
    assert not FILTER.keeps(drawn(maze(size=4), [replace(good, start=(7, 7))], sizes=sizes))
    assert not FILTER.keeps(drawn(maze(size=4), [replace(good, start=(7, 7), index=2)], sizes=sizes))
    half = Line(2, (150, 182), (112, 42), "p")  # as large as it is, the first image has no centre near (150, 182)
    assert not FILTER.keeps(drawn(maze(size=4), [replace(half, index=1)], sizes=sizes))
    assert FILTER.keeps(drawn(maze(size=4), [half], sizes=sizes))
    assert not FILTER.keeps(drawn(maze(size=4), [replace(half, index=3)], sizes=sizes)), "no such image"
    assert FILTER.keeps(drawn(maze(size=4), [Box(1, (0, 0, 150, 150), "b")], sizes=sizes)), "boxes are free"


def test_each_layout_refuses_what_the_other_lets_pass():
    # In the published layout the top left cell of 4 x 4 lies around (132, 127).
    line, far = Line(1, (132, 127), (246, 127), "p"), Line(1, (20, 20), (224, 84), "p")
    theirs, ours = maze("maze-000001", 4), maze(size=4)
    assert FILTER.keeps(drawn(theirs, [line], sizes=[(588, 588)]))
    assert not FILTER.keeps(drawn(theirs, [far], sizes=[(588, 588)]))
    assert FILTER.keeps(drawn(ours, [replace(far, start=(70, 70))], sizes=[(588, 588)]))
    assert maze_points("vilasr").keeps(drawn(theirs, [Line(1, (40, 84), (224, 84), "p")], sizes=[(588, 588)]))
    assert not maze_points("published").keeps(drawn(ours, [Line(1, (40, 84), (224, 84), "p")], sizes=[(588, 588)]))


def test_what_is_no_maze_passes_and_a_maze_of_unknown_grid_does_not():
    line = [Line(1, (1, 1), (9, 9), "p")]
    assert FILTER.keeps(drawn(CHOICE, line))
    assert not FILTER.keeps(drawn(maze(size=None), line))
    assert not FILTER.keeps(drawn(maze(size=None)))
    assert not FILTER.keeps(drawn(maze(size=0), line))
    assert "grid_size" in FILTER.says
    with pytest.raises(ValueError, match="maze_points: 'round' is not one of auto, vilasr, published"):
        maze_points("round")


@pytest.mark.parametrize("errs", [False, True])
def test_oracle_episodes_on_our_mazes_pass(errs):
    plan = Plan(Split.TRAIN, 3, sizes=(3, 5, 8))
    for number in range(12):
        question = make_question(plan, number)
        example = replace(
            make_example(question.id, [(588, 588)]),
            question=question.text,
            options=question.options,
            answer=question.answer,
            question_type=QuestionType.MULTIPLE_CHOICE,
            data_type="maze",
            grid_size=question.maze.size,
            frames=(draw_question(question, 588),),
        )
        trace = oracle_episode(question, example, default_profile(), Random(number), errs).trace()
        found = candidate(parse_row(result_row(example, trace, "c0ffee")))
        assert found is not None
        assert found.trace.lines
        assert FILTER.keeps(found)
        step = found.trace.steps[0]
        astray = replace(step, marks=(replace(step.marks[0], start=(2.0, 2.0)), *step.marks[1:]))
        assert not FILTER.keeps(replace(found, trace=replace(trace, steps=(astray, *trace.steps[1:]))))
