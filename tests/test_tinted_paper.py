"""Pictures for small models: paper whose colour tells the place, cells as large as a visual token."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from tests.conftest import load_script
from vilasr import maze_captions
from vilasr.maze_files import Format, Job
from vilasr.maze_layouts import Split
from vilasr.mazes import PAPER, WALL, Plan, draw_question, make_question
from vilasr.prompts import load_profile
from vilasr.room_pictures import PAPER as ROOM_PAPER
from vilasr.room_pictures import draw_room
from vilasr.rooms import Plan as RoomPlan
from vilasr.rooms import make_question as make_room
from vilasr.synthetic_task import JobError, check_job
from vilasr.tinted_paper import on_tinted_paper

NANO = load_profile(Path(__file__).parents[1] / "vilasr/profiles/nano.yaml")
NORMALIZED = replace(NANO, coordinates="normalized")


def tinted(image: Image.Image, profile=NANO, paper=(PAPER,)) -> np.ndarray:
    return np.asarray(on_tinted_paper(image, paper, profile)).astype(int)


def test_red_tells_x_and_blue_tells_y() -> None:
    found = tinted(Image.new("RGB", (112, 112), PAPER))
    assert (found[..., 1] == 255).all()
    assert (found[..., 0] == found[0, :, 0]).all()
    assert (found[..., 2] == found[:, :1, 2]).all()
    assert (np.diff(found[0, :, 0]) <= 0).all()
    assert found[0, 0].tolist() == [255, 255, 255]
    assert len(set(found[0, ::4, 0])) == 28, "places four pixels apart differ"


def test_a_colour_belongs_to_a_coordinate_of_the_profile() -> None:
    small, large = (tinted(Image.new("RGB", (side, side), PAPER)) for side in (84, 224))
    assert (small == large[:84, :84]).all(), "pixels: whatever the picture's size"
    small, large = (tinted(Image.new("RGB", (side, side), PAPER), NORMALIZED) for side in (84, 168))
    assert (small == large[::2, ::2]).all(), "thousandths of the side: whatever its pixels"


def test_only_the_paper_is_tinted() -> None:
    question = make_question(Plan(Split.TRAIN, 0, (4,), cell=28), 1)
    plain = np.asarray(draw_question(question, 112)).astype(int)
    found = tinted(draw_question(question, 112))
    paper = (plain == PAPER).all(-1)
    assert (found[~paper] == plain[~paper]).all()
    assert (plain[~paper] == WALL).all(-1).any()
    assert (found[paper] != plain[paper]).any(-1).mean() > 0.9
    room = draw_room(make_room(RoomPlan(Split.TRAIN, 0), 0).things, 168)
    empty = draw_room((), 168)
    assert (np.asarray(empty)[None] == np.array(ROOM_PAPER)[:, None, None]).all(-1).any(0).all(), "all of it is paper"
    objects = (np.asarray(room) != np.asarray(empty)).any(-1)
    changed = (tinted(room, paper=ROOM_PAPER) != np.asarray(room)).any(-1)
    assert not changed[objects].any()
    assert changed[~objects].mean() > 0.9


@pytest.mark.parametrize("size", [3, 8])
def test_a_cell_is_a_visual_token(size) -> None:
    question = make_question(Plan(Split.TRAIN, 0, (size,), cell=28), 1)
    assert question.maze == make_question(Plan(Split.TRAIN, 0, (size,)), 1).maze
    grid = question.grid(28 * size)
    assert (grid.margin, grid.pitch) == (0, 28)
    pixels = np.asarray(draw_question(question, 28 * size))
    for row, column in grid_cells(size):
        x, y = grid.centre((row, column))
        assert (x, y) == (28 * column + 14, 28 * row + 14)
        right = (pixels[y, min(28 * column + 27, 28 * size - 1)] == WALL).all()
        assert bool(right) is not question.maze.is_open((row, column), (row, column + 1))
    said = maze_captions.caption(question, 28 * size, NANO, Random(0))[-1][1]
    assert said.split("\n")[1] == "x " + " ".join(str(28 * column + 14) for column in range(size))


def grid_cells(size: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(size) for column in range(size)]


def test_the_tools_take_them(tmp_path) -> None:
    made = ("--split", "train", "--count", "6", "--formats", "caption,cold_start", "--workers", "1", "--tinted")
    profile = ("--profile", str(Path(__file__).parents[1] / "vilasr/profiles/nano.yaml"))
    sizes = ("--sizes", "3-5", "--cell-size", "28")
    assert load_script("tools/make_mazes.py").main(["--out", str(tmp_path), *made, *profile, *sizes]) == 0
    rooms = ("--out", str(tmp_path), *made, *profile, "--image-size", "168")
    assert load_script("tools/make_rooms.py").main([*rooms]) == 0
    sides = set()
    for task in ("maze", "room"):
        for item in json.loads((tmp_path / f"caption/{task}.json").read_text()):
            image = Image.open(tmp_path / item["images"][0])
            sides |= {(task, image.width)}
            assert f"{image.width} wide" in item["conversations"][0]["content"]
            assert len(image.convert("RGB").getcolors(100_000) or []) > 200, "plain paper has few colours"
    assert sides == {("maze", 84), ("maze", 112), ("maze", 140), ("room", 168)}
    trace = json.loads((tmp_path / "cold_start/maze.json").read_text())[0]
    reply = next(m["content"] for m in trace["conversations"] if m["role"] == "assistant")
    line = json.loads(reply.split("```json")[1].split("```")[0])[0]
    assert {value % 28 for value in (*line["start_point_2d"], *line["end_point_2d"])} == {14}


@pytest.mark.parametrize(
    ("cell", "said"), [(8, "cell-size: a cell has at least 12 pixels"), (20, "would resize 60 to 56 pixels")]
)
def test_cells_that_cannot_be(tmp_path, cell, said) -> None:
    job = Job(tmp_path, Plan(Split.TRAIN, 0, (3, 5), cell=cell), 4, 588, (Format.RL,), NANO)
    with pytest.raises(JobError, match=said):
        check_job(job)
