"""The thread that owns vLLM, alone: what it does with requests, whatever its engine does. No model, no vLLM."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.engines.asking import together, user
from vilasr.checkpoints import Checkpoint
from vilasr.engines import EngineDied, Sampling, Stopped, vllm_prompt
from vilasr.engines.vllm_engine import VllmEngine
from vilasr.images import SizeRule
from vilasr.traces import StopReason


class Steps:
    """Stands where vLLM's engine does. Each step ends one request, or does what it is told."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.on_step: Callable[[], None] = lambda: None
        self.finish = "stop"
        self.closed = self.emptied = 0
        self.engine_core = SimpleNamespace(shutdown=self.shutdown)  # as where all is in one process

    def shutdown(self) -> None:
        self.closed += 1

    def reset_mm_cache(self) -> None:
        self.emptied += 1

    def has_unfinished_requests(self) -> bool:
        return bool(self.requests)

    def add_request(self, name: str, prompt: Any, params: Any) -> None:
        if prompt == "refused":
            raise ValueError("no")
        self.requests.append(name)

    def step(self) -> list:
        self.on_step()
        name = self.requests.pop(0)
        completion = SimpleNamespace(finish_reason=self.finish, name=name)
        return [SimpleNamespace(request_id=name, finished=True, outputs=[completion])]


class ThreadAlone(VllmEngine):
    def __init__(self) -> None:
        self.steps = Steps()
        self.chat = SimpleNamespace(opening=lambda messages: [1], image_pad=9)
        super().__init__(Checkpoint(Path("none"), 8192, 0, ""), SizeRule(), Sampling())

    def _start(self) -> Steps:
        return self.steps

    def _params(self, max_tokens: int, seed: int) -> Any:
        return "params"

    def _add(self, engine: Any, name: str, request: Any) -> None:
        engine.add_request(name, request.prompt, request.params)


def submit(engine: ThreadAlone, *prompts: str) -> list:
    return asyncio.run(together(*(engine._submit(prompt, "params") for prompt in prompts)))


def close(engine: ThreadAlone) -> None:
    asyncio.run(asyncio.wait_for(engine.aclose(), 10))
    assert not engine._thread.is_alive()
    assert engine.steps.closed == 1


def test_a_refusal_is_its_askers_alone():
    engine = ThreadAlone()
    outcomes = submit(engine, "a", "refused", "b")
    assert [type(outcome) for outcome in outcomes] == [SimpleNamespace, ValueError, SimpleNamespace]
    close(engine)


@pytest.mark.parametrize("failure", [RuntimeError("boom"), SystemExit("boom"), KeyboardInterrupt("boom")])
def test_whatever_ends_the_thread_is_told_to_all(failure):
    engine = ThreadAlone()

    def fail() -> None:
        if len(engine.steps.requests) < 3:
            raise failure

    engine.steps.on_step = fail
    outcomes = submit(engine, *"abcde")
    died = [outcome for outcome in outcomes if isinstance(outcome, EngineDied)]
    assert len(died) >= 2
    assert all("boom" in str(outcome) for outcome in died)
    with pytest.raises(EngineDied, match="boom"):
        asyncio.run(engine.reply(engine.session(0), user()))
    close(engine)


def test_a_request_in_the_last_moment_is_not_forgotten():
    """Between the look at the engine's state and the inbox the thread may end: nobody would ever answer."""
    engine = ThreadAlone()
    asyncio.run(engine.aclose())
    [outcome] = submit(engine, "late")
    assert isinstance(outcome, EngineDied)
    assert "closed" in str(outcome)


@pytest.mark.parametrize("fails", [False, True], ids=["closed", "failed"])
def test_the_end_is_told_to_those_in_the_engine_and_to_those_before_it(fails):
    """`a` and `b` are in the engine when it ends, `c` still waits for the thread to look."""
    engine = ThreadAlone()
    stepping, go = threading.Event(), threading.Event()

    def block() -> None:
        stepping.set()
        go.wait(10)
        if fails:
            raise RuntimeError("boom")

    engine.steps.on_step = block

    async def run() -> list:
        waiting = [asyncio.create_task(engine._submit(prompt, "params")) for prompt in "ab"]
        await asyncio.to_thread(stepping.wait, 10)
        closing = None if fails else asyncio.create_task(engine.aclose())
        await asyncio.sleep(0)
        late = asyncio.create_task(engine._submit("c", "params"))
        await asyncio.sleep(0)
        go.set()
        outcomes = await together(*waiting, late)
        if closing is not None:
            await closing
        return outcomes

    outcomes = asyncio.run(run())
    ended = EngineDied if fails else SimpleNamespace
    assert [type(outcome) for outcome in outcomes] == [ended, EngineDied, EngineDied]
    assert ("boom" if fails else "closed") in str(outcomes[2])
    asyncio.run(asyncio.wait_for(engine.aclose(), 10))
    assert engine.steps.closed == 1


def test_nobody_left_to_tell_is_no_reason_to_die():
    engine = ThreadAlone()
    stepping, go = threading.Event(), threading.Event()

    def block() -> None:
        stepping.set()
        go.wait(10)

    engine.steps.on_step = block

    async def leave() -> None:
        task = asyncio.create_task(engine._submit("a", "params"))
        await asyncio.to_thread(stepping.wait, 10)
        task.cancel()

    asyncio.run(leave())  # its loop is closed before the step ends
    go.set()
    engine.steps.on_step = lambda: None
    [outcome] = submit(engine, "b")
    assert outcome.outputs[0].name == "1", "the second one's own"
    close(engine)


@pytest.mark.parametrize("finish", ["abort", "error", None])
def test_a_reply_that_vllm_gave_up_is_no_reply(finish):
    engine = ThreadAlone()
    engine.steps.finish = finish
    outcome = asyncio.run(engine.reply(engine.session(0), user()))
    assert isinstance(outcome, Stopped)
    assert outcome.reason is StopReason.ENGINE_ERROR
    close(engine)


def test_a_start_that_fails_does_not_wait():
    class Broken(ThreadAlone):
        def _start(self):
            raise ImportError("no vllm here")

    with pytest.raises(EngineDied, match="none: vLLM could not start: ImportError: no vllm here"):
        Broken()


def test_an_engine_that_dies_while_images_are_prepared_is_told_as_such(monkeypatch):
    """Not as a failure of the episode, which would be recorded and not be run again."""
    engine = ThreadAlone()
    working, go = threading.Event(), threading.Event()

    def key(image: Any) -> str:
        working.set()
        go.wait(10)
        return "key"

    monkeypatch.setattr(vllm_prompt, "image_key", key)

    async def run() -> list:
        asked = [asyncio.create_task(engine.reply(engine.session(n), user(images=2))) for n in range(3)]
        await asyncio.to_thread(working.wait, 10)
        await engine.aclose()
        go.set()
        return await together(*asked)

    assert [type(outcome) for outcome in asyncio.run(run())] == [EngineDied] * 3


def test_a_dead_process_is_the_engines_end_and_no_requests_own_fault():
    """Where vLLM's process was found dead, handing over fails before the next step does."""
    engine = ThreadAlone()
    resources = SimpleNamespace(engine_dead=False)
    engine.steps.engine_core.resources = resources

    def add(engine: Any, name: str, request: Any) -> None:
        resources.engine_dead = True
        raise RuntimeError("EngineDeadError: it is gone")

    engine._add = add
    outcomes = submit(engine, "a", "b")
    assert [type(outcome) for outcome in outcomes] == [EngineDied, EngineDied]
    assert "killed, out of memory" in str(outcomes[0])
    asyncio.run(engine.aclose())


def test_a_request_that_the_other_side_refused_empties_the_cache():
    engine = ThreadAlone()
    engine.steps.finish = "error"
    assert isinstance(asyncio.run(engine.reply(engine.session(0), user())), Stopped)
    assert engine.steps.emptied == 1
    close(engine)
