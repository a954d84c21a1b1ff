"""Concurrency and endings of a run, with a scripted engine: model behaviour is not at stake here."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.golden import answer, boxes, picture
from vilasr import runner
from vilasr.engines import EngineDied, Sampling, Session, Stopped
from vilasr.messages import FinishReason, Message, Reply
from vilasr.prompts import default_profile
from vilasr.results import ResultsWriter, parse_row, read_lines
from vilasr.runner import Alone, Progress, Run, run_items
from vilasr.tasks import BrokenItem, Example, QuestionType
from vilasr.traces import StopReason

Answer = Callable[[str, int], Reply | Stopped]  # (question's text, turn from 0)


def drawing(question: str, turn: int) -> Reply:
    return Reply(boxes((1, [5, 5, 40, 40], "chair")) if turn == 0 else answer())


class ScriptedEngine:
    """Answers by `script` after a few turns of the event loop, in no particular order; the first time not before
    `company` sessions wait."""

    def __init__(self, script: Answer = drawing, seed: int = 0, company: int = 1) -> None:
        self.script = script
        self._company = company
        self._met = asyncio.Event()
        self.now = self.most = self.replies = 0
        self.seeds: dict[str, int] = {}  # by question
        self._random = random.Random(seed)

    def session(self, seed: int) -> Session:
        return Session(seed)

    async def reply(self, session: Session, new_messages: Sequence[Message]) -> Reply | Stopped:
        if session.state is None:
            session.state = next(m.text() for m in new_messages if m.role == "user")
            [line] = [line for line in session.state.splitlines() if "item" in line]
            self.seeds[line.strip()] = session.seed
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now == self._company:
            self._met.set()
        try:
            await asyncio.wait_for(self._met.wait(), 30)
            for _ in range(self._random.randrange(1, 5)):
                await asyncio.sleep(0)
            outcome = self.script(session.state, session.usage.turns)
        finally:
            self.now -= 1
        session.usage.turns += 1
        session.usage.sampled += 7
        self.replies += 1
        return outcome

    async def aclose(self) -> None:
        pass


@pytest.fixture
def items(tmp_path) -> list[Example]:
    picture(56, 56, 0).save(tmp_path / "image.png")
    return [
        Example(
            id=f"maze-{number}",
            question=f"This is item {number}.",
            options=("left", "right"),
            answer="B",
            image_paths=("image.png",),
            question_type=QuestionType.MULTIPLE_CHOICE,
            source="maze",
        )
        for number in range(20)
    ]


def play(folder: Path, items: Sequence[Example | BrokenItem], engine: ScriptedEngine, concurrency: int = 4) -> Progress:
    """Run the items; results go to `folder`/out."""
    progress = Progress()
    run = Run(default_profile(), Sampling().item_seed, folder / "maze.json", None, concurrency)
    with ResultsWriter(folder / "out", {"seed": 0}) as results:
        asyncio.run(run_items(items, run, Alone(engine), results, progress))
    return progress


def rows(folder: Path) -> dict[str, dict]:
    """Rows by id; an id that stands twice is an error."""
    read = [row for _, row in read_lines(folder / "out" / "results.jsonl")]
    assert not [item for item, count in Counter(row["id"] for row in read).items() if count > 1]
    return {row["id"]: row for row in read}


def test_every_item_gets_one_row(tmp_path, items):
    engine = ScriptedEngine()
    progress = play(tmp_path, items, engine)
    read = rows(tmp_path)
    assert read.keys() == {item.id for item in items}
    assert {row["stop_reason"] for row in read.values()} == {"answered"}
    assert all(row["usage"]["turns"] == 2 and row["usage"]["sampled"] == 14 for row in read.values())
    assert all(len(parse_row(row).trace.images) == 2 for row in read.values())
    assert (progress.done, progress.failed, progress.turns, progress.sampled_tokens) == (20, 0, 40, 280)


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_the_concurrency_is_used_and_kept(tmp_path, items, concurrency):
    engine = ScriptedEngine(company=min(concurrency, len(items)))
    play(tmp_path, items, engine, concurrency)
    assert engine.most == min(concurrency, len(items))


def test_one_stopped_session_leaves_the_others(tmp_path, items):
    def script(question: str, turn: int) -> Reply | Stopped:
        if "item 3." in question and turn == 1:
            return Stopped(StopReason.ENGINE_ERROR, "too many images")
        if "item 5." in question:
            return Stopped(StopReason.CONTEXT_OVERFLOW, "full")
        return drawing(question, turn)

    progress = play(tmp_path, items, ScriptedEngine(script))
    read = rows(tmp_path)
    assert len(read) == 20
    assert (read["maze-3"]["stop_reason"], read["maze-3"]["detail"]) == ("engine_error", "too many images")
    assert len(read["maze-3"]["steps"]) == 1, "what came before the failure is kept"
    assert (read["maze-5"]["stop_reason"], read["maze-5"]["detail"]) == ("context_overflow", "full")
    assert Counter(row["stop_reason"] for row in read.values())["answered"] == 18
    assert progress.failed == 1, "a full context is an ending of the model's, not a failure"


def test_one_exception_leaves_the_others(tmp_path, items):
    def script(question: str, turn: int) -> Reply:
        if "item 3." in question:
            raise ZeroDivisionError("a defect")
        return drawing(question, turn)

    assert play(tmp_path, items, ScriptedEngine(script)).failed == 1
    read = rows(tmp_path)
    assert len(read) == 20
    assert (read["maze-3"]["stop_reason"], read["maze-3"]["detail"]) == ("engine_error", "ZeroDivisionError: a defect")


def test_a_forbidden_token_ends_the_episode_and_is_no_failure(tmp_path, items):
    progress = play(tmp_path, items, ScriptedEngine(lambda q, t: Reply("half", FinishReason.FORBIDDEN_TOKEN)))
    assert {row["stop_reason"] for row in rows(tmp_path).values()} == {"forbidden_token"}
    assert progress.failed == 0


def test_a_dead_engine_stops_the_run_and_keeps_the_rows(tmp_path, items):
    def script(question: str, turn: int) -> Reply:
        if engine.replies >= 20:
            raise EngineDied("out of memory")
        return drawing(question, turn)

    engine = ScriptedEngine(script)
    with pytest.raises(BaseExceptionGroup) as caught:
        play(tmp_path, items, engine)
    assert caught.group_contains(EngineDied, match="out of memory")
    first = rows(tmp_path)
    assert 5 <= len(first) < 20
    assert {row["stop_reason"] for row in first.values()} == {"answered"}, "nothing is recorded for what did not end"
    again = ScriptedEngine()
    progress = play(tmp_path, items, again)
    assert progress.done == 20 - len(first)
    second = rows(tmp_path)
    assert len(second) == 20
    assert all(second[key] == row for key, row in first.items())


def test_a_full_disk_stops_the_run_and_loses_no_row(tmp_path, items):
    """The limit of a file's size stands for the disk's: the write that crosses it is cut short and then fails."""
    play(tmp_path, items[:4], ScriptedEngine())
    path = tmp_path / "out" / "results.jsonl"
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) * 2 + 100, limits[1]))
    try:
        with pytest.raises(BaseExceptionGroup) as caught:
            play(tmp_path, items, ScriptedEngine())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.group_contains(OSError, match=r"File too large: .*results\.jsonl")
    assert path.read_bytes().startswith(before)
    assert path.read_bytes().endswith(b"\n"), "no half line is left"
    assert 4 < len(rows(tmp_path)) < 20
    play(tmp_path, items, ScriptedEngine())
    assert len(rows(tmp_path)) == 20


def test_items_already_done_are_not_run_again(tmp_path, items):
    play(tmp_path, items[:12], ScriptedEngine())
    engine = ScriptedEngine()
    changed = [replace(items[0], question="Another item 0?"), *items[1:]]
    assert play(tmp_path, changed, engine).done == 9, "8 new ones and the changed one"
    assert engine.seeds.keys() == {"Another item 0?", *(f"This is item {n}." for n in range(12, 20))}


def test_broken_items_are_recorded_and_the_others_run(tmp_path, items):
    (tmp_path / "torn.png").write_bytes((tmp_path / "image.png").read_bytes()[:60])
    mixed = [
        BrokenItem("maze-000000", "maze.json: item 0: question: is missing"),
        *items[1:5],
        replace(items[5], image_paths=("gone.png",)),
        replace(items[6], image_paths=("image.png", "torn.png")),
    ]
    engine = ScriptedEngine()
    progress = play(tmp_path, mixed, engine)
    read = rows(tmp_path)
    assert {key for key, row in read.items() if row["stop_reason"] == "input_error"} == {
        "maze-000000",
        "maze-5",
        "maze-6",
    }
    assert read["maze-000000"]["detail"] == "maze.json: item 0: question: is missing"
    assert "item maze-5: image_path: no file 'gone.png'; tried" in read["maze-5"]["detail"]
    assert "torn.png: unreadable image" in read["maze-6"]["detail"]
    assert (read["maze-000000"]["digest"], read["maze-5"]["digest"]) == ("", mixed[5].digest())
    assert (progress.done, progress.failed) == (7, 3)
    again = ScriptedEngine()
    play(tmp_path, mixed, again)
    assert not again.seeds, "failed items are not run again unless asked"


def test_a_defect_while_loading_takes_one_item(tmp_path, items, monkeypatch):
    load = runner.load_frames

    def defective(item, *args):
        if item.id == "maze-2":
            raise IndexError("inside the image library")
        return load(item, *args)

    monkeypatch.setattr(runner, "load_frames", defective)
    assert play(tmp_path, items, ScriptedEngine()).failed == 1
    read = rows(tmp_path)
    assert len(read) == 20
    assert read["maze-2"]["stop_reason"] == "input_error"
    assert "item maze-2: IndexError: inside the image library" in read["maze-2"]["detail"]


def test_seeds_belong_to_items_not_to_the_order(tmp_path, items):
    forward, backward = ScriptedEngine(seed=1), ScriptedEngine(seed=2)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in ("a", "b"):
        picture(56, 56, 0).save(tmp_path / folder / "image.png")
    play(tmp_path / "a", items, forward, concurrency=1)
    play(tmp_path / "b", items[::-1][:15], backward, concurrency=7)
    assert len(set(forward.seeds.values())) == 20
    assert backward.seeds == {key: forward.seeds[key] for key in backward.seeds}
    assert Sampling(seed=1).item_seed("maze-1") != Sampling(seed=0).item_seed("maze-1")
    assert Sampling().item_seed("maze-1", 1) != Sampling().item_seed("maze-1", 0)


def test_no_more_episodes_in_memory_than_run_at_once(tmp_path, items, monkeypatch):
    alive: weakref.WeakSet = weakref.WeakSet()
    most = 0

    class Watched(runner.Episode):
        def __init__(self, *args, **kwargs) -> None:
            nonlocal most
            super().__init__(*args, **kwargs)
            alive.add(self)
            most = max(most, len(alive))

    monkeypatch.setattr(runner, "Episode", Watched)
    play(tmp_path, items, ScriptedEngine(company=3), concurrency=3)
    assert 3 <= most <= 6, "of 20; the threads that drew for three let go of them a moment later"


def test_a_cancelled_run_keeps_its_rows(tmp_path, items):
    async def run() -> None:
        progress = Progress()
        run = Run(default_profile(), Sampling().item_seed, tmp_path / "maze.json", None, 2)
        with ResultsWriter(tmp_path / "out", {"seed": 0}) as results:
            task = asyncio.create_task(run_items(items, run, Alone(ScriptedEngine()), results, progress))
            while progress.done < 5:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert 5 <= len(rows(tmp_path)) < 20


def test_rows_hold_what_scoring_needs(tmp_path, items):
    play(tmp_path, items[:1], ScriptedEngine())
    result = parse_row(json.loads((tmp_path / "out" / "results.jsonl").read_text()))
    assert result.image_files == (str((tmp_path / "image.png").resolve()),)
    assert (result.example.answer, result.trace.answer) == ("B", "B")
    assert result.digest == items[0].digest()
