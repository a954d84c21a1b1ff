"""How a pool lives through deaths, with engines that are made up: no Ray, no model."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vilasr.engines import EngineDied, Sampling
from vilasr.engines.pool import IN_A_ROW, EnginePool, RemoteDied
from vilasr.engines.pool_ray import start_pool
from vilasr.engines.pool_size import PoolSize
from vilasr.feedback import FeedbackMode
from vilasr.prompts import default_profile
from vilasr.results import ResultsWriter, parse_row, read_lines
from vilasr.runner import Outcome, Progress, Run, run_items
from vilasr.tasks import DataError, Example, QuestionType

Script = Callable[[str, int], None]  # (item, number of the start from 0); raises RemoteDied


class Fake:
    """An engine that takes a few turns of the event loop for an episode, and dies as its script says."""

    made = 0
    most: Counter[int]

    def __init__(self, number: int, script: Script) -> None:
        self.number, self.start = number, Fake.made
        Fake.made += 1
        self.script = script
        self.dead = self.closed = self.up = False
        self.now: list[str] = []

    async def started(self) -> str:
        await asyncio.sleep(0)
        self.script("", self.start)
        self.up = True
        return f"node {self.start}"

    async def play(self, item: Example, sample: int, run: Run, config: str) -> Outcome:
        assert self.up
        if self.dead:
            raise RemoteDied("it ended")
        self.now.append(item.id)
        Fake.most[self.number] = max(Fake.most[self.number], len(self.now))
        for _ in range(random.Random(item.id).randrange(1, 6)):
            await asyncio.sleep(0)
            if self.dead:
                raise RemoteDied("it ended")
        try:
            self.script(item.id, self.start)
        except RemoteDied:
            self.dead = True
            raise
        self.now.remove(item.id)
        return Outcome({"id": item.id, "sample": sample, "stop_reason": "answered", "config": config}, turns=1)

    def kill(self) -> None:
        self.dead = True

    async def close(self) -> None:
        assert not self.dead
        self.closed = True


def items(count: int) -> list[Example]:
    kind = QuestionType.MULTIPLE_CHOICE
    return [Example(f"maze-{n}", "Which?", ("left", "right"), "B", ("a.png",), kind) for n in range(count)]


def play(folder: Path, script: Script, engines: int = 2, count: int = 40, share: int = 4) -> Progress:
    """Two event loops, one after the other: half of the items in each."""
    Fake.made, Fake.most = 0, Counter()
    ends: list[bool] = []
    pool = EnginePool(lambda number: Fake(number, script), engines, share, ends.append)
    run = Run(default_profile(), Sampling().item_seed, folder / "maze.json", None, share)
    progress = Progress()
    try:
        with ResultsWriter(folder, {"seed": 0}) as results:
            for part in (items(count)[: count // 2], items(count)[count // 2 :]):
                asyncio.run(run_items(part, run, pool, results, progress))
    finally:
        asyncio.run(pool.aclose())
        assert ends == [any(slot.deaths for slot in pool._slots) or Fake.made > engines]
        assert not pool._pending
    return progress


def rows(folder: Path) -> dict[str, dict]:
    read = [row for _, row in read_lines(folder / "results.jsonl")]
    assert max(Counter(row["id"] for row in read).values(), default=1) == 1
    return {row["id"]: row for row in read}


def test_every_item_is_played_once_and_all_engines_are_used(tmp_path):
    progress = play(tmp_path, lambda item, start: None, engines=3)
    assert rows(tmp_path).keys() == {item.id for item in items(40)}
    assert (progress.done, progress.failed, progress.turns, Fake.made) == (40, 0, 40, 3)
    assert Fake.most == {0: 4, 1: 4, 2: 4}


def test_a_death_is_made_good(tmp_path, caplog):
    """The first engine dies with its third episode, and its first successor at once."""
    seen = Counter()

    def script(item: str, start: int) -> None:
        seen[start] += bool(item)
        if (start == 0 and seen[0] == 3) or start == 2:
            raise RemoteDied("out of memory")

    assert play(tmp_path, script).failed == 0
    assert len(rows(tmp_path)) == 40
    assert Fake.made == 4
    assert "engine 0 (node 0): out of memory; it is started again" in caplog.text
    assert "engine 0 (not up yet): out of memory; it is started again" in caplog.text
    assert "it is given up" not in caplog.text


@pytest.mark.parametrize("engines", [1, 3])
@pytest.mark.parametrize("poison", [{"maze-0"}, {"maze-7", "maze-39"}, {"maze-0", "maze-1", "maze-2"}])
def test_poison_is_named_and_takes_nobody_along(tmp_path, engines, poison):
    def script(item: str, start: int) -> None:
        if item in poison:
            raise RemoteDied("a fault")

    progress = play(tmp_path, script, engines)
    read = rows(tmp_path)
    assert len(read) == 40
    assert {key for key, row in read.items() if row["stop_reason"] == "engine_error"} == poison
    assert progress.failed == len(poison)
    for key in poison:
        assert read[key]["detail"].startswith("3 engines died while they ran it, the last with nothing else to do: eng")
        assert read[key]["detail"].endswith("a fault")
        assert parse_row({**read[key]}).trace.stop_reason == "engine_error"


@pytest.mark.parametrize("seed", range(30))
def test_whatever_dies_every_item_gets_one_row(tmp_path, seed):
    """Deaths at random, of starts too, with a few poisonous items."""
    chance, poison = random.Random(seed), {f"maze-{number}" for number in random.Random(seed).sample(range(40), 2)}

    def script(item: str, start: int) -> None:
        if item in poison or chance.random() < 0.04:
            raise RemoteDied("by chance")

    progress = play(tmp_path, script, engines=1 + seed % 4, share=1 + seed % 5)
    read = rows(tmp_path)
    failed = {key for key, row in read.items() if row["stop_reason"] == "engine_error"}
    assert (len(read), progress.failed) == (40, len(failed))
    assert poison <= failed


@pytest.mark.parametrize(("failing", "made"), [({1}, 3), ({0}, 3), ({0, 1, 3}, 7), ({1, 4}, 5), ({0, 1, 4, 5}, 6)])
def test_one_that_cannot_start_is_tried_once_more_where_another_can(tmp_path, caplog, failing, made):
    """`failing` are starts; the first ones are 0 to `engines` - 1. Those that fail first wait for one that is up."""
    caplog.set_level(logging.INFO)
    engines = 2 if made == 3 else 4

    def script(item: str, start: int) -> None:
        if not item and start in failing:
            raise RemoteDied("the port is taken", final=True)

    assert play(tmp_path, script, engines).done == 40
    assert len(rows(tmp_path)) == 40
    assert Fake.made == made
    first = {start for start in failing if start < engines}
    for engine in range(engines):
        waits = f"engine {engine} (not up yet): the port is taken; it is tried once more when another is up"
        assert (waits in caplog.text) == (engine in first)
        assert caplog.text.count(f"engine {engine} is tried once more") == (engine in first)
    assert caplog.text.count("; it is given up") == len(failing - first)


@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_is_tried_once_more_gets_its_part(tmp_path, failing):
    """Of four items at a time the other engine does not take all meanwhile."""

    def script(item: str, start: int) -> None:
        if start == failing:
            raise RemoteDied("the port is taken", final=True)

    assert play(tmp_path, script, count=8).done == 8
    assert Fake.most == {0: 2, 1: 2}


def test_one_whose_second_try_fails_is_given_up_and_the_others_do_its_work(tmp_path, caplog):
    def script(item: str, start: int) -> None:
        if start in (1, 2):
            raise RemoteDied("no such checkpoint", final=True)

    assert play(tmp_path, script).done == 40
    assert Fake.made == 3
    assert caplog.text.count("engine 1 (not up yet): no such checkpoint; it is given up") == 1


def test_without_any_engine_the_run_ends_with_one_reason(tmp_path):
    def script(item: str, start: int) -> None:
        raise RemoteDied("no such checkpoint", final=True)

    with pytest.raises(BaseExceptionGroup) as caught:
        play(tmp_path, script)
    assert caught.group_contains(EngineDied, match="no such checkpoint; all 2 engines are given up, the last now")
    assert (Fake.made, rows(tmp_path)) == (2, {})


def test_engines_that_die_of_everything_end_the_run_and_blame_no_item(tmp_path):
    def script(item: str, start: int) -> None:
        if item:
            raise RemoteDied("a driver's fault")

    with pytest.raises(BaseExceptionGroup) as caught:
        play(tmp_path, script)
    assert caught.group_contains(EngineDied, match="a driver's fault")
    assert Fake.made == 2 * IN_A_ROW
    assert rows(tmp_path) == {}


@pytest.mark.parametrize(("address", "hint"), [(None, "go on with --engines 1"), ("node:6379", "unset RAY_ADDRESS")])
def test_without_ray_it_says_what_to_do(tmp_path, monkeypatch, address, hint):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=f"need Ray: pip install ray, or {hint}$"):
        start_pool(lambda: pytest.fail("started"), PoolSize(1, 0, 1, address), 4, tmp_path)


def test_a_defect_ends_the_run(tmp_path):
    def script(item: str, start: int) -> None:
        if item == "maze-5":
            raise ZeroDivisionError

    with pytest.raises(BaseExceptionGroup) as caught:
        play(tmp_path, script)
    assert caught.group_contains(ZeroDivisionError)


def test_only_what_an_episode_needs_is_sent(tmp_path):
    sent: list[Run] = []

    class Listening(Fake):
        async def play(self, item: Example, sample: int, run: Run, config: str) -> Outcome:
            sent.append(run)
            return await super().play(item, sample, run, config)

    Fake.made, Fake.most = 0, Counter()
    a, b, c = items(3)
    pool = EnginePool(lambda number: Listening(number, lambda item, start: None), 1, 4)
    run = Run(default_profile(), Sampling().item_seed, tmp_path / "maze.json", others={a.id: b, b.id: c, c.id: a})
    asyncio.run(pool.play(b, 0, run, ""))
    assert sent[0].others == {b.id: c}


@pytest.mark.parametrize("name", ["missing.png", "x" * 300 + ".png"])
@pytest.mark.parametrize("feedback", [FeedbackMode.REAL, FeedbackMode.TEXT, FeedbackMode.SHUFFLED])
def test_the_row_of_a_condemned_item_says_what_was_shown(tmp_path, feedback, name):
    """Whatever its images are: a name that is too long for the file system is no defect of ours."""

    def script(item: str, start: int) -> None:
        if item == "maze-0":
            raise RemoteDied("a fault")

    Fake.made, Fake.most = 0, Counter()
    poison, other = replace(items(1)[0], image_paths=(name,)), items(2)[1]
    pool = EnginePool(lambda number: Fake(number, script), 1, 4)
    run = Run(default_profile(), Sampling().item_seed, tmp_path / "maze.json", feedback=feedback)
    run = replace(run, others={"maze-0": other} if feedback is FeedbackMode.SHUFFLED else {})
    row = asyncio.run(pool.play(poison, 0, run, "")).row
    result = parse_row(json.loads(json.dumps(row)))
    assert (result.feedback, result.image_files) == (feedback, (name,))
    assert row.get("shown_instead") == ("maze-1" if feedback is FeedbackMode.SHUFFLED else None)
