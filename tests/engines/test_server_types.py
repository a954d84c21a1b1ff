"""Answers whose JSON is of other types than the format has: the client library checks none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.engines.asking import user
from tests.engines.faulty_proxy import Canned, Entry, proxy
from tests.engines.test_server import engine_at
from vilasr.engines import EngineDied, Stopped
from vilasr.engines.server import ServerEngine
from vilasr.messages import Message, Picture, Reply
from vilasr.traces import StopReason

CHOICES: list[Any] = [
    [None],
    [5],
    ["x"],
    [[]],
    {"a": 1},
    "stop",
    5,
    [{"finish_reason": "stop", "message": "x", "delta": "x"}],
    [{"finish_reason": "stop", "message": [1], "delta": [1]}],
    [{"finish_reason": "stop", "message": {"content": 5}, "delta": {"content": 5}}],
    [{"finish_reason": "stop", "message": {"content": ["x"]}, "delta": {"content": ["x"]}}],
    [{"finish_reason": "stop", "message": {"content": "x", "refusal": 5}, "delta": {"content": "x", "refusal": 5}}],
    [{"finish_reason": 5, "message": {"content": "x"}, "delta": {"content": "x"}}],
    [{"finish_reason": {}, "message": {"content": "x"}, "delta": {"content": "x"}}],
]
BODIES: list[Any] = [None, 5, "x", [], [None], {}, {"choices": None}, *({"choices": choices} for choices in CHOICES)]
WHOLE_ONLY: list[Any] = [
    {"choices": [{"finish_reason": "stop"}]},
    {"choices": [{"finish_reason": "stop", "message": None}]},
]
GOOD = {"finish_reason": "stop", "message": {"content": "good"}, "delta": {"content": "good"}}


def answer(body: Any, streamed: bool) -> Canned:
    text = json.dumps(body)
    if streamed:
        return "200 OK", "Content-Type: text/event-stream", f"data: {text}\n\ndata: [DONE]\n\n".encode()
    return "200 OK", "Content-Type: application/json", text.encode()


def ask(engine: ServerEngine, streamed: bool, question: list[Message] | None = None) -> Any:
    session = engine.session(0)
    session.listen = (lambda piece: None) if streamed else None
    return asyncio.run(engine.reply(session, question or user()))


def nowhere(*answers: Any, streamed: bool):
    """A server that gives these answers one after the other, and the last from then on."""
    return proxy(
        "http://127.0.0.1:9/v1", lambda entry, attempt: answer(answers[min(attempt, len(answers) - 1)], streamed)
    )


@pytest.mark.parametrize(
    ("body", "streamed"),
    [*((body, streamed) for body in BODIES for streamed in (False, True)), *((body, False) for body in WHOLE_ONLY)],
    ids=str,
)
def test_wrong_types_are_asked_for_again(body, streamed):
    with nowhere(body, body, {"choices": [GOOD]}, streamed=streamed) as between:
        outcome = ask(engine_at(between.url), streamed)
        assert len(between.asked()) == 3
    assert isinstance(outcome, Reply)
    assert outcome.text == "good"


def test_wrong_types_again_and_again():
    """No server at all, or one that fails with this request only."""
    with nowhere({"choices": [None]}, streamed=False) as between, pytest.raises(EngineDied, match="does not answer"):
        ask(engine_at(between.url, max_retries=2), False)

    def choose(entry: Entry, attempt: int) -> Canned:
        return answer({"choices": [GOOD if "Hello" in str(entry.body) else None]}, False)

    with proxy("http://127.0.0.1:9/v1", choose) as between:
        outcome = ask(engine_at(between.url, max_retries=2), False)
    assert isinstance(outcome, Stopped)
    assert outcome.reason is StopReason.ENGINE_ERROR
    assert "failed 3 times, now with: no choice" in outcome.detail


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "usage", [None, 5, "x", [], [5], {}, {"prompt_tokens": "5", "completion_tokens": 1}, {"prompt_tokens": 5}], ids=str
)
def test_a_count_of_wrong_types_is_none(usage, streamed):
    """The reply is whole all the same."""
    with nowhere({"choices": [GOOD], "usage": usage}, streamed=streamed) as between:
        engine = engine_at(between.url)
        session = engine.session(0)
        session.listen = (lambda piece: None) if streamed else None
        outcome = asyncio.run(engine.reply(session, user()))
        assert len(between.asked()) == 1
    assert outcome.text == "good"
    assert not engine.counts_tokens
    assert (session.usage.turns, session.usage.prompt, session.usage.prompt_total, session.usage.sampled) == (
        1,
        0,
        0,
        0,
    )


@pytest.mark.parametrize("code", [5, "x", None, [], {}, 10**30, "²"], ids=str)
@pytest.mark.parametrize("streamed", [False, True])
def test_codes_of_errors_that_are_no_status(code, streamed):
    """Whatever they mean: nothing but the end of the run may be raised."""
    error = {"error": {"message": ["?"], "code": code}}
    with nowhere(error, {"choices": [GOOD]}, streamed=streamed) as between:
        outcome = ask(engine_at(between.url), streamed)
    assert isinstance(outcome, Reply | Stopped)


def test_an_image_that_cannot_be_sent_ends_its_episode():
    class Unreadable:
        size = (28, 28)

        def save(self, *args: object, **options: object) -> None:
            raise OSError("image file is truncated")

    picture: Any = Unreadable()
    outcome = ask(engine_at("http://127.0.0.1:9/v1"), False, [Message("user", (Picture(1, picture),))])
    assert outcome == Stopped(StopReason.ENGINE_ERROR, "OSError: image file is truncated")
