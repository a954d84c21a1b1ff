"""Captions of mazes and rooms, parsed back and compared with what is drawn."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from vilasr import maze_captions, maze_files, mazes, room_captions, room_files, rooms
from vilasr.maze_layouts import MOVES, Cell, Grid, Maze, Split, step_from, walk
from vilasr.prompts import load_profile
from vilasr.room_pictures import box_of
from vilasr.synthetic_files import write

PROFILE = load_profile(Path(__file__).resolve().parents[1] / "vilasr/profiles/nano.yaml")
POINT = re.compile(r"\((\d+), (\d+)\)")


def mazes_of(side: int, count: int = 12) -> list[tuple[mazes.MazeQuestion, list[tuple[str, str]]]]:
    questions = [mazes.make_question(mazes.Plan(Split.TRAIN, 1), number) for number in range(count)]
    return [(q, maze_captions.caption(q, side, PROFILE, Random(k))) for k, q in enumerate(questions)]


def rooms_of(side: int, count: int = 12) -> list[tuple[rooms.RoomQuestion, list[tuple[str, str]]]]:
    questions = [rooms.make_question(rooms.Plan(Split.TRAIN, 1), number) for number in range(count)]
    return [(q, room_captions.caption(q, side, PROFILE, Random(k))) for k, q in enumerate(questions)]


def cells_at(question: mazes.MazeQuestion, side: int) -> dict[tuple[int, ...], Cell]:
    grid = Grid(question.maze.size, side)
    return {grid.centre((r, c)): (r, c) for r in range(grid.size) for c in range(grid.size)}


def things_of(question: mazes.MazeQuestion) -> dict[str, Cell]:
    things = {"green square": question.path[0], **{f"{name} dot": cell for name, cell in question.dots}}
    return things if question.dots else {**things, "red square": question.path[-1]}


def points(text: str) -> list[tuple[int, ...]]:
    return [tuple(map(int, match)) for match in POINT.findall(text)]


def beyond(maze: Maze, cell: Cell, closed: Cell) -> set[Cell]:
    """All cells that can be reached from `cell` without passing `closed`."""
    found, queue = {cell, closed}, [cell]
    for here in queue:
        ahead = {step_from(here, way) for way in MOVES if maze.is_open(here, step_from(here, way))} - found
        found |= ahead
        queue += ahead
    return found - {closed}


@pytest.mark.parametrize("side", [168, 336])
def test_a_maze_can_be_rebuilt_from_its_description(side: int) -> None:
    for question, turns in mazes_of(side):
        asked, said = turns[-1]
        assert asked == maze_captions.DESCRIBE
        things, columns, *rows = said.split("\n")
        cells = cells_at(question, side)
        told = re.findall(r"(\w+ \w+) (\(\d+, \d+\))", things)
        assert {name: cells[points(point)[0]] for name, point in told} == things_of(question)
        xs = [int(x) for x in columns.removeprefix("x ").split()]
        passages = set()
        for row in rows:
            y, words = re.fullmatch(r"y (\d+): (.*)", row).groups()  # type: ignore[union-attr]
            for x, word in zip(xs, words.split(), strict=True):
                cell = cells[x, int(y)]
                for way in {"both": ("right", "down"), "none": ()}.get(word, (word,)):
                    passages.add((cell, step_from(cell, way)))
        assert Maze(len(xs), frozenset(passages)) == question.maze


def test_short_answers_about_mazes_are_true() -> None:
    asked_for, walls = Counter[str](), Counter[str]()
    for question, turns in mazes_of(168, 60):
        cells, things = cells_at(question, 168), things_of(question)
        assert len({asked for asked, _ in turns}) == len(turns) == maze_captions.SHORT_TURNS + 2
        for asked, said in turns[:-1]:
            asked_for[" ".join(asked.split()[:2]) if asked.startswith("Which") else asked.split()[0]] += 1
            at = [cells[point] for point in points(asked)]
            if asked.startswith("Where"):
                assert cells[points(said)[0]] == things[asked.removeprefix("Where is the ").rstrip("?")]
            elif asked.startswith("What"):
                assert things.get(said) == (at[0] if said != "nothing" else None)
                assert (said == "nothing") == (at[0] not in things.values())
            elif asked.startswith("From"):
                way, moves = re.search(r"go (\w+) (\d+): where", asked).groups()  # type: ignore[union-attr]
                assert walk(question.maze, at[0], [(way, int(moves))]) == cells[points(said)[0]]
            elif asked.startswith("Is"):
                side = re.search(r"a wall (.*) \(", asked)[1]  # type: ignore[index]
                way = {"right of": "right", "left of": "left", "above": "up", "below": "down"}[side]
                ahead = step_from(at[0], way)
                assert ahead in cells.values()
                assert said == ("no" if question.maze.is_open(at[0], ahead) else "yes")
                walls[said] += 1
            elif asked.startswith("Which moves"):
                runs = [(way, int(moves)) for way, moves in re.findall(r"(\w+) (\d+)", said)]
                goal = things[asked.split(" to the ")[1].rstrip("?")]
                assert walk(question.maze, things["green square"], runs) == goal
                assert all(a[0] != b[0] for a, b in pairwise(runs)), "moves in one direction stand together"
            elif asked.startswith("Which way is"):
                ahead = step_from(at[0], said)
                assert question.maze.is_open(at[0], ahead)
                assert things[asked.split(" to the ")[1].rstrip("?")] in beyond(question.maze, ahead, at[0])
            else:
                ways = [way for way in MOVES if question.maze.is_open(at[0], step_from(at[0], way))]
                assert said == ", ".join(ways)
    assert set(asked_for) == {"Where", "What", "From", "Is", "Which moves", "Which way", "Which ways"}
    assert abs(walls["yes"] / walls.total() - 0.5) < 0.2


@pytest.mark.parametrize("side", [84, 588])
def test_a_room_can_be_rebuilt_from_its_list(side: int) -> None:
    for question, turns in rooms_of(side):
        asked, said = turns[-1]
        assert asked == room_captions.DESCRIBE
        listed = [re.fullmatch(r"(\w+ \w+) (\[.*\])", line).groups() for line in said.split("\n")]  # type: ignore[union-attr]
        assert [(n, tuple(json.loads(b))) for n, b in listed] == [(t.name, box_of(t, side)) for t in question.things]


def test_short_answers_about_rooms_are_true() -> None:
    asked_for, there, near = Counter[str](), Counter[str](), Counter[bool]()
    for question, turns in rooms_of(168, 60):
        boxes = [(thing.name, box_of(thing, 168)) for thing in question.things]
        assert len({asked for asked, _ in turns}) == len(turns) == maze_captions.SHORT_TURNS + 1
        for asked, said in turns[:-1]:
            kind = " ".join(asked.split()[:4]) if "corner" in asked else asked.split()[0]
            asked_for[kind] += 1
            if "corner" in asked:
                column, row = (int(n) for n in re.findall(r"\d+", asked))
                assert points(said) == [(column * 24, 48 + (row - 1) * 24)]  # tiles of 12 units, 2 pixels a unit
            elif kind == "Where":
                found = [box for name, box in boxes if name == asked.removeprefix("Where is the ").rstrip("?")]
                assert found == [tuple(json.loads(said))]
            elif kind == "What":
                assert (said, tuple(json.loads(asked.removeprefix("What is in ").rstrip("?")))) in boxes
            elif kind == "Is":
                name = asked.removeprefix("Is there a ").rstrip("?")
                assert said == ("yes" if name in dict(boxes) else "no")
                there[said] += 1
            else:
                (x, y) = points(asked)[0]
                inside = [n for n, (x1, y1, x2, y2) in boxes if x1 - 2 <= x <= x2 + 2 and y1 - 2 <= y <= y2 + 2]
                assert inside == ([] if said == "nothing" else [said])
                near[said == "nothing"] += 1
    assert len(asked_for) == 5
    assert abs(there["yes"] / there.total() - 0.5) < 0.25
    assert abs(near[True] / near.total() - 0.5) < 0.25


def test_thousandths() -> None:
    profile = replace(PROFILE, coordinates="thousandths")
    question = rooms.make_question(rooms.Plan(Split.TRAIN, 1), 0)
    said = room_captions.caption(question, 84, profile, Random(0))[-1][1].split("\n")[0]
    box = json.loads(said[said.index("[") :])
    assert box == [round(1000 * v / 84) for v in box_of(question.things[0], 84)]


@pytest.mark.parametrize("task", ["maze", "room"])
def test_a_caption_file_has_one_image_and_its_own_dataset(tmp_path: Path, task: str) -> None:
    if task == "maze":
        job = maze_files.Job(tmp_path, mazes.Plan(Split.TRAIN, 1, (3,)), 3, 84, (maze_files.Format.CAPTION,), PROFILE)
        write(job)
    else:
        write(room_files.Job(tmp_path, rooms.Plan(Split.TRAIN, 1), 3, 84, (room_files.Format.CAPTION,), PROFILE))
    records = json.loads((tmp_path / f"caption/{task}.json").read_text())
    for record in records:
        turns = record["conversations"]
        assert [turn["role"] for turn in turns] == ["user", "assistant"] * (10 if task == "maze" else 9)
        assert turns[0]["content"].startswith("<image>\nImage 1: 84 wide, 84 high.\n")
        assert sum(turn["content"].count("<image>") for turn in turns) == len(record["images"]) == 1
        assert (tmp_path / record["images"][0]).is_file()
    assert list(json.loads((tmp_path / "dataset_info.json").read_text())) == [f"{task}_caption"]
