"""Turns that ask for more than the context has room for."""

from __future__ import annotations

import asyncio

import pytest

from tests.engines.asking import together, user
from tests.engines.faulty_proxy import Canned, Entry, Proxy, always, proxy
from tests.engines.test_server import engine_at, refuses, says
from tests.engines.test_server_same import as_here
from vilasr.engines import Sampling, Session, Stopped
from vilasr.engines.server_errors import Failure, Kind
from vilasr.engines.server_room import Room
from vilasr.messages import FinishReason, Reply
from vilasr.traces import StopReason

CONTEXT = 8192  # of the server of the tests


def limits(between: Proxy) -> list[int | None]:
    return [entry.body.get("max_tokens") for entry in between.asked()]


@pytest.mark.engine
@pytest.mark.parametrize(("turn_tokens", "listen"), [(CONTEXT - 1000, False), (2 * CONTEXT, True)])
def test_a_long_episode_gets_what_room_is_left(served, vllm, monkeypatch, turn_tokens, listen):
    """As in this process: the reply that fills the context is one, and then there is no room."""
    sampling = Sampling(turn_tokens=turn_tokens)
    monkeypatch.setattr(vllm, "sampling", sampling)
    monkeypatch.setattr(vllm, "context", CONTEXT)
    questions = [user("left right up down " * 1990), user("left right up down " * 100)]

    def episode(engine) -> tuple[Session, Reply]:
        session = engine.session(0)
        session.listen = heard.append if listen else None
        reply = asyncio.run(engine.reply(session, questions[0]))
        full = asyncio.run(engine.reply(session, questions[1]))
        assert isinstance(full, Stopped)
        assert full.reason is StopReason.CONTEXT_OVERFLOW
        return session, reply

    heard: list[str] = []
    with proxy(served.url) as between:
        session, reply = episode(engine_at(between.url, sampling, extra_body=as_here(vllm)))
        assert limits(between) == [turn_tokens, None, None], "the room that is left is known from the last turn"
    assert "".join(heard) == (reply.text if listen else "")
    assert session.usage.prompt + session.usage.sampled == CONTEXT
    assert reply.finish_reason is FinishReason.LENGTH
    heard.clear()
    session_here, reply_here = episode(vllm)
    assert session_here.usage == session.usage
    assert reply_here.finish_reason is FinishReason.LENGTH


@pytest.mark.engine
def test_images_that_fill_the_context(served):
    """The server counts them only after it let the request in."""
    with proxy(served.url) as between:
        engine = engine_at(between.url, Sampling(turn_tokens=2 * CONTEXT))
        [full] = asyncio.run(together(engine.reply(engine.session(0), user("left right up down " * 2030, images=20))))
        assert limits(between) == [2 * CONTEXT, None]
    assert isinstance(full, Stopped)
    assert full.reason is StopReason.CONTEXT_OVERFLOW


@pytest.mark.engine
@pytest.mark.parametrize("more", [0, 1])
def test_a_prompt_that_fills_the_context_to_the_last_token(served, more):
    with proxy(served.url) as between:
        engine = engine_at(between.url, Sampling(turn_tokens=2))
        session = engine.session(0)
        asyncio.run(engine.reply(session, user("a" * 100)))
        length = CONTEXT - (session.usage.prompt - 100) + more
        [full] = asyncio.run(together(engine.reply(engine.session(0), user("a" * length))))
    assert isinstance(full, Stopped)
    assert full.reason is StopReason.CONTEXT_OVERFLOW


def strict(entry: Entry, attempt: int) -> Canned:
    """A server that counts exactly and refuses what is a token too many: 1000 for the first prompt, and for each later
    one 3000 more."""
    prompt = 1000 + 3000 * (len(entry.body["messages"]) // 2)
    limit = entry.body["max_tokens"]
    if prompt + limit > 8000:
        asked = f"you requested {prompt + limit} tokens ({prompt} in the messages, {limit} in the completion)."
        return refuses("400 Bad Request", f"This model's maximum context length is 8000 tokens. However, {asked}")
    usage = {"prompt_tokens": prompt, "completion_tokens": 1, "total_tokens": prompt + 1}
    return says({"role": "assistant", "content": "x"}, usage=usage)


def test_a_server_that_counts_is_asked_for_what_it_has():
    with proxy("http://127.0.0.1:9/v1", strict) as between:
        engine = engine_at(between.url, Sampling(turn_tokens=6000))
        session = engine.session(0)
        outcomes = [asyncio.run(engine.reply(session, user(f"{n}?"))) for n in range(4)]
        other = asyncio.run(engine.reply(engine.session(1), user("other")))
    assert [isinstance(outcome, Reply) for outcome in [*outcomes, other]] == [True, True, True, False, True]
    assert outcomes[3].reason is StopReason.CONTEXT_OVERFLOW
    assert limits(between) == [
        6000,  # fits
        *(6000, 4000),  # is refused, and told
        *(8000 - 4000 - 1024, 1000),  # known, but the last prompt was shorter than is known
        *(6000,),  # is full, and told so
        6000,
    ]


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ("Your input exceeds the context window of this model.", [5]),
        ("maximum context length is 8192 tokens; your messages resulted in 9000 tokens", [5]),
        ("maximum context length is 8192 tokens; your messages resulted in 100 tokens", [5]),
        ("maximum context length is 8192 tokens; your messages resulted in 8190 tokens", [5, 2]),
        ("maximum context length is 8192 tokens", [5, None]),
    ],
)
def test_it_is_asked_again_once_and_only_for_less(told, asked):
    with proxy("http://127.0.0.1:9/v1", always(refuses("400 Bad Request", told))) as between:
        engine = engine_at(between.url, Sampling(turn_tokens=5))
        outcome = asyncio.run(engine.reply(engine.session(0), user()))
        assert limits(between) == asked
    assert outcome == Stopped(StopReason.CONTEXT_OVERFLOW, f"status 400: {told}")


def test_a_limit_that_is_never_sent_is_not_lowered():
    with proxy("http://127.0.0.1:9/v1", always(refuses("400", "maximum context length is 8192 tokens"))) as between:
        engine = engine_at(between.url, omit=("max_tokens",))
        outcome = asyncio.run(engine.reply(engine.session(0), user()))
        assert limits(between) == [None]
    assert isinstance(outcome, Stopped)


def test_no_turn_outgrows_what_is_wanted():
    """A request without a limit is sent only where the room is sure to be smaller."""
    room = Room(1000)
    assert room.limit(10**6) == 1000
    assert room.after(Failure(Kind.OVERFLOW, "", context=5000), 1000) == (True, None)
    assert not room.after(Failure(Kind.OVERFLOW, "", context=5000, prompt=6000), 1000)[0]
    assert [room.limit(prompt) for prompt in (0, 3999, 4000, 5000)] == [1000, 1000, None, None]
