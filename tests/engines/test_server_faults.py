"""Whole runs through a server that fails again and again, and what is left of its failures: nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.engines.asking import together, user
from tests.engines.faulty_proxy import BROKEN, PASSING, Proxy, always, at_random, first, proxy
from vilasr.engines import EngineDied, Sampling, Stopped
from vilasr.engines.server import ServerEngine, ServerOptions
from vilasr.messages import Reply
from vilasr.prompts import default_profile
from vilasr.results import ResultsWriter, read_lines
from vilasr.runner import Alone, Progress, Run, run_items
from vilasr.tasks import read_examples
from vilasr.traces import StopReason

pytestmark = pytest.mark.engine

SHORT = Sampling(turn_tokens=12)
QUICK = {"first_wait": 0.01, "reply_timeout": 60.0, "model": "nano"}
ITEMS = 20


def run(folder: Path, mazes: Path, url: str, sampling: Sampling = SHORT, items: int = ITEMS) -> dict[str, dict]:
    """The rows of a run, by item, without what differs from run to run."""
    data = mazes / "test" / "maze.json"
    engine = ServerEngine(ServerOptions(url, **QUICK), sampling)
    described = Run(default_profile(), sampling.item_seed, data, concurrency=8)
    progress = Progress()
    with ResultsWriter(folder, {"seed": 0}) as results:
        asyncio.run(run_items(read_examples(data)[:items], described, Alone(engine), results, progress))
        path = results.path
    rows = [row for _, row in read_lines(path)]
    assert max(Counter(row["id"] for row in rows).values()) == 1
    return {row["id"]: {key: value for key, value in row.items() if key != "seconds"} for row in rows}


@pytest.fixture(scope="module")
def undisturbed(served, mazes, tmp_path_factory) -> dict[str, dict]:
    return run(tmp_path_factory.mktemp("undisturbed"), mazes, served.url)


def check_log(between: Proxy, turns: int) -> None:
    """Every request was sent until its answer came whole, and not once more."""
    asked = between.asked()
    assert len(asked) == turns + sum(entry.fault is not None for entry in asked)
    delivered = Counter(entry.key for entry in asked if entry.fault is None)
    assert set(delivered.values()) == {1}
    last = {entry.key: entry for entry in asked}
    assert all(entry.fault is None for entry in last.values())


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_through_failures_gives_the_same_rows(served, mazes, undisturbed, tmp_path, seed):
    with proxy(served.url, at_random(seed, share=0.3)) as between:
        rows = run(tmp_path, mazes, between.url)
    assert len(rows) == ITEMS
    assert {row["stop_reason"] for row in rows.values()} == {"no_answer"}
    assert rows == undisturbed
    turns = sum(row["usage"]["turns"] for row in rows.values())
    assert turns > 3 * ITEMS
    check_log(between, turns)
    faults = Counter(entry.fault for entry in between.asked() if entry.fault)
    assert set(faults) == set(PASSING), "each kind was met"
    assert sum(faults.values()) > 0.25 * turns


def ask(engine: ServerEngine, count: int = 1) -> list:
    async def run() -> list:
        return await together(*(engine.reply(engine.session(n), user(f"{n}. Which?")) for n in range(count)))

    return asyncio.run(run())


def between_engine(between: Proxy, sampling: Sampling = SHORT, **options) -> ServerEngine:
    return ServerEngine(ServerOptions(between.url, **(QUICK | options)), sampling)


@pytest.mark.parametrize("fault", [*PASSING, "hang", "trickle"])
def test_each_failure_alone(served, fault):
    """Twice, then the answer. A hanging or a trickling server is left after the time for a whole reply."""
    slow = fault in ("hang", "trickle")
    [undisturbed] = ask(ServerEngine(ServerOptions(served.url, **QUICK), SHORT))
    with proxy(served.url, first(*[fault] * (1 if slow else 2))) as between:
        began = time.monotonic()
        [reply] = ask(between_engine(between, reply_timeout=2.0 if slow else 60.0))
        assert reply == undisturbed
        assert len(between.asked()) == (2 if slow else 3)
        if slow:
            assert 2 < time.monotonic() - began < 10


def test_what_the_server_asks_to_wait_is_waited_by_all(served):
    """And no longer than `longest_wait`."""
    with proxy(served.url, first("429 after")) as between:
        [reply] = ask(between_engine(between, first_wait=30.0))
        first_try, second_try = between.asked()
        assert isinstance(reply, Reply)
        assert 0.05 <= second_try.at - first_try.at < 5
    with proxy(served.url, lambda entry, attempt: None if between.log else "429 long") as between:
        engine = between_engine(between, longest_wait=0.5)

        async def one_then_others() -> list:
            early = asyncio.create_task(engine.reply(engine.session(0), user("0. Which?")))
            while not between.log:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # the refusal arrives
            return await together(early, *(engine.reply(engine.session(n), user(f"{n}. Which?")) for n in (1, 2)))

        replies = asyncio.run(one_then_others())
        refused, *later = between.asked()
    assert all(isinstance(reply, Reply) for reply in replies)
    assert len(later) == 3
    assert all(0.5 <= entry.at - refused.at < 5 for entry in later)


@pytest.mark.parametrize("fault", ["429", "500", *BROKEN])
def test_a_server_that_is_gone_ends_the_run(served, fault, caplog):
    with proxy(served.url, always(fault)) as between:
        engine = between_engine(between, max_retries=3)
        outcomes = ask(engine, 5)
        assert all(isinstance(outcome, EngineDied) for outcome in outcomes)
        assert "does not answer (failed 4 times" in str(outcomes[0])
        questions = Counter(entry.key for entry in between.asked())
        assert sorted(questions.values())[:5] == [4] * 5, "once, and three times more"
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1, "not a line for each"


def test_no_server_at_all_ends_the_run():
    engine = ServerEngine(ServerOptions("http://127.0.0.1:9/v1", **QUICK, max_retries=2), SHORT)
    began = time.monotonic()
    [outcome] = ask(engine)
    assert isinstance(outcome, EngineDied)
    assert time.monotonic() - began < 10
    assert "http://127.0.0.1:9/v1 does not answer" in str(outcome)


@pytest.mark.parametrize("company", [0, 3], ids=["alone", "with others"])
def test_a_request_that_always_fails_ends_its_episode_alone(served, company):
    """Others are answered, or, if there are none, a greeting is: the server lives."""
    with proxy(served.url) as between:
        between.choose = lambda entry, attempt: "500" if "0. Which?" in str(entry.body) else None
        engine = between_engine(between, max_retries=2)
        failed, *others = ask(engine, 1 + company)
        assert isinstance(failed, Stopped)
        assert failed.reason is StopReason.ENGINE_ERROR
        assert "failed 3 times, now with: status 500: oops" in failed.detail
        assert all(isinstance(reply, Reply) for reply in others)
        assert sum(entry.fault == "500" for entry in between.asked()) == 3


def test_a_busy_server_that_answers_others_is_waited_for(served):
    """However often it says so: nothing is wrong with the request."""
    with proxy(served.url) as between:
        between.choose = lambda entry, attempt: "429" if "0. Which?" in str(entry.body) and attempt < 6 else None
        engine = between_engine(between, max_retries=3, first_wait=0.05)

        async def run() -> list:
            waiting = asyncio.create_task(engine.reply(engine.session(0), user("0. Which?")))
            n = 0
            while not waiting.done():
                n += 1
                assert isinstance(await engine.reply(engine.session(n), user(f"{n}. Which one?")), Reply)
            return [await waiting]

        [reply] = asyncio.run(asyncio.wait_for(run(), 60))
        assert isinstance(reply, Reply)


def test_a_cut_stream_is_told_once(served):
    """What a listener hears makes up the reply, however often its stream was cut and asked for again."""
    heard: dict[int, list[str]] = {n: [] for n in range(12)}
    with proxy(served.url, at_random(5, share=0.7, faults=("cut", "500"))) as between:
        engine = between_engine(between)

        async def run() -> list:
            sessions = [engine.session(n) for n in heard]
            for n, session in enumerate(sessions):
                session.listen = heard[n].append
            return await together(*(engine.reply(s, user(f"{n}. Which?")) for n, s in enumerate(sessions)))

        replies = asyncio.run(run())
        assert sum(entry.fault == "cut" for entry in between.asked()) > 5
    assert ["".join(pieces) for pieces in heard.values()] == [reply.text for reply in replies]
    assert sum(len(pieces) > 2 for pieces in heard.values()) > 6
