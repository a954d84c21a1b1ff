"""The search for a maze's path: every word of it is checked by a reader that knows the maze's walls alone."""

from __future__ import annotations

import json
import re
from collections import deque
from pathlib import Path
from random import Random

import pytest

from tests.conftest import load_script
from vilasr.maze_captions import DESCRIBE, caption
from vilasr.maze_layouts import MOVES, Split, runs_of, spell, step_from
from vilasr.maze_search import search_text
from vilasr.mazes import Kind, MazeQuestion, Plan, make_question
from vilasr.prompts import load_profile

ROOT = Path(__file__).parents[1]
PROFILE = ROOT / "vilasr/profiles/nano_search.yaml"
PLAN = Plan(Split.TRAIN, 0, cell=28)
ENTRY = re.compile(r"(\d+) \((\d+), (\d+)\) (\w+)")
STEP = re.compile(r"(\d+) (\w+) (\d+)")


def check(text: str, question: MazeQuestion) -> None:
    """Reads a search in cells of 10 by its words, against the walls and the known path."""
    first, *lines, walked, told = text.split("\n")
    start, goal = question.path[0], question.path[-1]
    assert first == f"From ({goal[1]}, {goal[0]}) back to ({start[1]}, {start[0]})."
    cells, ways = {0: goal}, dict[int, str]()
    asked = deque([0])
    for line in lines:
        head, found = line.split(":")
        assert int(head) == asked.popleft(), "cells are looked at in the order in which they were found"
        beside = {step_from(cells[int(head)], name) for name in MOVES}
        beside = {cell for cell in beside if question.maze.is_open(cells[int(head)], cell)} - set(cells.values())
        for number, x, y, way in ENTRY.findall(found):
            cell = (int(y), int(x))
            assert cell in beside, "open, and new"
            assert int(number) == len(cells), "numbered on"
            assert step_from(cell, way) == cells[int(head)]
            cells[int(number)], ways[int(number)] = cell, way
            beside -= {cell}
            asked.append(int(number))
        assert not beside or start in cells.values(), "none is left out"
    assert list(cells.values())[-1] == start, "it ends when the start is found"
    path, moves = [], dict[str, int]()
    for number, way, so_far in STEP.findall(walked):
        assert ways[int(number)] == way
        moves = {way: moves.get(way, 0) + 1}
        assert int(so_far) == moves[way]
        path.append(cells[int(number)])
    assert walked.endswith(", 0")
    assert tuple([*path, goal]) == question.path
    assert told.lower() == spell(runs_of(question.path)) + "."


@pytest.mark.parametrize("first", range(0, 240, 24))
def test_every_word_of_a_search_is_right(first: int) -> None:
    for number in range(first, first + 24):
        question = make_question(PLAN, number)
        text = search_text(question.maze, question.path[0], question.path[-1], lambda cell: f"({cell[1]}, {cell[0]})")
        check(text, question)


def test_a_wrong_search_would_be_seen() -> None:
    question = make_question(PLAN, 3)
    text = search_text(question.maze, question.path[0], question.path[-1], lambda cell: f"({cell[1]}, {cell[0]})")
    changes = [("right", "left"), ("1:", "2:"), (" 2 (", " 3 ("), (" 1, ", " 2, ")]
    for old, new in changes:
        assert old in text
        with pytest.raises((AssertionError, KeyError)):
            check(text.replace(old, new, 1), question)
    lines = text.split("\n")
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check("\n".join([*lines[:2], *lines[3:]]), question)


def test_captions_tell_the_way_after_a_search_and_describe_every_second_maze() -> None:
    profile, described = load_profile(PROFILE), 0
    for number in range(60):
        question = make_question(PLAN, number)
        turns = caption(question, 28 * question.maze.size, profile, Random(number), search=True)
        said = dict(turns)
        described += DESCRIBE in said
        way = next(answer for asked, answer in turns if asked.startswith("Which moves"))
        assert re.match(r"From \(\d+, \d+\) back to ", way)
        if not question.dots:
            assert way.split("\n")[-1].lower() == spell(runs_of(question.path)) + "."
    assert 15 < described < 45


def test_the_tool_searches_before_it_draws_unless_the_moves_are_told(tmp_path: Path) -> None:
    made = ("--split", "train", "--count", "12", "--formats", "cold_start", "--workers", "1", "--cell-size", "28")
    tool = load_script("tools/make_mazes.py")
    assert tool.main(["--out", str(tmp_path), *made, "--search", "--err-share", "0.5", "--profile", str(PROFILE)]) == 0
    items = json.loads((tmp_path / "cold_start/maze.json").read_text())
    assert len(items) == 12
    for number, item in enumerate(items):
        replies = [m["content"] for m in item["conversations"] if m["role"] == "assistant"]
        searched = ["back to" in reply for reply in replies]
        assert searched == [PLAN.kinds[number % 4] is not Kind.DESTINATION] + [False] * (len(replies) - 1)


def test_its_profile_is_the_nanos_with_longer_replies() -> None:
    nano, search = (path.read_text() for path in (ROOT / "vilasr/profiles/nano.yaml", PROFILE))
    body = [text[text.index("\nname: ") :] for text in (nano, search)]
    assert body[0].replace("nano-1", "nano-search-1").replace("turn_tokens: 256", "turn_tokens: 1024") == body[1]
