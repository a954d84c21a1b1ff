"""When waiting turns are handed to vLLM. No vLLM, and a clock that is set by hand."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tests.engines.test_vllm_thread import ThreadAlone, close, submit
from vilasr.engines import vllm_engine, vllm_requests
from vilasr.engines.vllm_requests import Inbox


class Timed:
    """An inbox in which letters stand for requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.inbox = 100.0, Inbox()
        monkeypatch.setattr(vllm_requests, "time", SimpleNamespace(monotonic=lambda: self.now))

    def put(self, requests: str) -> None:
        for request in requests:
            self.inbox.put(None if request == "." else request)  # type: ignore[arg-type] # a letter

    def drain(self, idle: bool = False, hold: float = 0.25) -> str:
        found: list[Any] = self.inbox.drain(idle, hold)
        return "".join("." if request is None else request for request in found)


@pytest.fixture
def timed(monkeypatch) -> Timed:
    return Timed(monkeypatch)


def test_turns_wait_for_others_and_go_together(timed):
    timed.put("a")
    assert timed.drain() == ""
    timed.now += 0.2
    timed.put("bc")
    assert timed.drain() == "", "b and c do not begin the wait anew, a's is not over"
    timed.now += 0.04
    assert timed.drain() == ""
    timed.now += 0.02
    timed.put("d")
    assert timed.drain() == "abcd"
    timed.now += 9
    assert timed.drain() == ""
    timed.put("e")
    assert timed.drain() == "", "a wait begins with its first request, not with the end of the one before"


def test_nobody_waits_where_nothing_runs(timed):
    timed.put("ab")
    assert timed.drain(idle=True) == "ab"
    timed.put("c")
    assert timed.drain() == ""
    assert timed.drain(idle=True) == "c", "what ran has ended meanwhile"


def test_the_end_does_not_wait(timed):
    timed.put("a")
    assert timed.drain() == ""
    timed.put(".")
    assert timed.drain() == "a."


@pytest.mark.parametrize("idle", [False, True])
def test_without_a_wait_all_go_at_once(timed, idle):
    timed.put("ab")
    assert timed.drain(idle, hold=0.0) == "ab"


@pytest.mark.parametrize(("per_episode", "most"), [(0.001, 1.0), (0.001, 0.0015), (0.0, 1.0)])
def test_the_more_episodes_run_the_longer_a_turn_waits(monkeypatch, per_episode, most):
    monkeypatch.setattr(vllm_engine, "GATHER_MOST", most)
    engine = ThreadAlone()
    engine._gather = per_episode
    seen: list[tuple[int, float]] = []
    drain = Inbox.drain

    def watched(inbox: Inbox, idle: bool, hold: float = 0.0) -> Any:
        if not idle:
            seen.append((len(engine.steps.requests), hold))
        return drain(inbox, idle, hold)

    monkeypatch.setattr(Inbox, "drain", watched)
    several = threading.Event()

    def slow() -> None:
        """Until several run, each step takes a while, so that more come."""
        if len(engine.steps.requests) < 3:
            several.wait(0.01)
        else:
            several.set()

    engine.steps.on_step = slow
    outcomes = submit(engine, *"abcdef")
    engine.steps.on_step = lambda: None
    assert len(outcomes) == 6
    assert max(running for running, _ in seen) > 1
    assert all(hold == pytest.approx(min(per_episode * running, most)) for running, hold in seen if running)
    close(engine)
