"""Replies told in pieces, by both engines."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from tests.engines.asking import together, user
from tests.engines.faulty_proxy import Canned, first, proxy
from tests.engines.test_server_same import as_here
from vilasr.engines import Sampling
from vilasr.engines.listening import Teller, TokenText
from vilasr.engines.server import ServerEngine, ServerOptions
from vilasr.engines.server_chat import ENDS, FORBIDDEN, cut, sayable
from vilasr.messages import FinishReason, Reply

HOT = Sampling(temperature=2.0, turn_tokens=48)


def hear(engine, count: int) -> tuple[list, list[list[str]], list]:
    """Replies with and without a listener, the pieces heard, and what was counted."""

    async def run(listen: bool) -> tuple[list, list[list[str]], list]:
        sessions = [engine.session(50 * n) for n in range(count)]
        pieces: list[list[str]] = [[] for _ in sessions]
        for session, heard in zip(sessions, pieces, strict=True):
            session.listen = heard.append if listen else None
        replies = await together(*(engine.reply(s, user(f"{n}. Which?")) for n, s in enumerate(sessions)))
        return replies, pieces, [session.usage for session in sessions]

    (replies, pieces, usage), (silent, nothing, counted) = asyncio.run(run(True)), asyncio.run(run(False))
    assert [reply.text for reply in replies] == [reply.text for reply in silent]
    assert [reply.finish_reason for reply in replies] == [reply.finish_reason for reply in silent]
    assert usage == counted
    assert not any(nothing)
    return replies, pieces, usage


@pytest.mark.engine
@pytest.mark.parametrize("where", ["here", "there"])
def test_the_pieces_make_up_the_reply(served, vllm, monkeypatch, where):
    """Random bytes, cut characters and control tokens included; with a listener or without, the reply is the same."""
    monkeypatch.setattr(vllm, "sampling", HOT)
    server = ServerEngine(ServerOptions(served.url, "nano", extra_body=as_here(vllm)), HOT)
    replies, pieces, usage = hear(vllm if where == "here" else server, 48)
    for reply, heard in zip(replies, pieces, strict=True):
        assert isinstance(reply, Reply)
        assert "".join(heard) == reply.text
        assert all(heard)
    assert {reply.finish_reason for reply in replies} == set(FinishReason)
    assert sum(map(len, pieces)) > 0.3 * sum(counted.sampled for counted in usage), "bit by bit"


def stream(*texts: str, finish: str | None = None, error: dict | None = None) -> Canned:
    """A stream of a server, with its end or without."""
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
    choices += [{"index": 0, "delta": {}, "finish_reason": finish}] if finish else []
    events = [chunk | {"choices": [choice]} for choice in choices] + ([{"error": error}] if error else [])
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return "200 OK", "Content-Type: text/event-stream", body.encode()


@pytest.mark.engine
@pytest.mark.parametrize(
    ("answers", "heard", "text"),
    [
        ([stream("ab", "c", finish="stop")], ["ab", "c"], "abc"),
        ([stream("a"), stream("a", "b", finish="stop")], ["a", "b"], "ab"),
        ([stream("abc"), stream("a", "b"), stream("abcd", finish="stop")], ["abc", "d"], "abcd"),
        ([stream("a", error={"message": "oops", "code": 500}), stream("ab", finish="stop")], ["a", "b"], "ab"),
        ([stream("abc"), stream("ax", "y", finish="stop")], ["abc"], "axy"),
        ([stream("a<", "|im_", "start|>b", finish="stop")], ["a"], "a"),
        ([stream("a<", "|im_", "x", finish="stop")], ["a", "<|im_x"], "a<|im_x"),
        ([stream("a<|im", finish="length")], ["a", "<|im"], "a<|im"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_streams_that_break(served, answers, heard, text, caplog):
    """What was told is told once. A stream that goes on differently is not told on, but the reply is whole."""
    pieces: list[str] = []
    with proxy(served.url, first(*answers)) as between:
        engine = ServerEngine(ServerOptions(between.url, "nano", first_wait=0.01), Sampling(turn_tokens=12))
        session = engine.session(0)
        session.listen = pieces.append
        reply = asyncio.run(engine.reply(session, user()))
        assert len(between.asked()) == len(answers)
        assert all(entry.body["stream_options"] == {"include_usage": True} for entry in between.asked())
    assert (pieces, reply.text) == (heard, text)
    assert ("came out differently" in caplog.text) == ("".join(heard) != text)


def test_a_listener_that_fails_does_no_harm(caplog):
    heard: list[str] = []

    def listen(piece: str) -> None:
        heard.append(piece)
        raise ZeroDivisionError

    teller = Teller(listen)
    for text in ("a", "ab", "abc"):
        teller.tell(text)
    assert heard == ["a"]
    assert "listener of a reply failed" in caplog.text


def test_nothing_is_told_that_may_become_a_control_word():
    """Whatever the pieces, what is said grows, and is all of the text before its first control word."""
    rng = random.Random(0)
    parts = [*ENDS, *FORBIDDEN, "<|im_", "<", "|", "a", "\n", "é", "<think>"]
    cut_ones = 0
    for _ in range(300):
        text = "".join(rng.choices(parts, k=5))
        said = ""
        for end in range(len(text) + 1):
            now = sayable(text[:end])
            assert now.startswith(said)
            said = now
        kept, finish = cut(text)
        cut_ones += finish is not None
        assert kept.startswith(said)
        assert not any(word in kept for word in (*ENDS, *FORBIDDEN))
        assert finish is not None or kept == text
    assert 100 < cut_ones < 300


@pytest.mark.engine
def test_control_words_are_those_of_the_tokenizer(vllm):
    assert {vllm.chat.decode([token]) for token in vllm.chat.forbidden} == set(FORBIDDEN)
    assert [vllm.chat.decode([token]) for token in (vllm.chat.end, vllm.chat.end_of_text)] == list(ENDS)


@pytest.mark.engine
def test_no_character_is_told_in_parts(vllm):
    """However a text falls into tokens: here each byte is one, or more of them."""
    text = "Die Tür, 门, 🚪🏽 und ﷽ <|im_start|> \ufffd."
    ids = vllm.chat.text(text)
    told: list[str] = []
    speech = TokenText(vllm.chat.decode, told.append)
    for end in range(1, len(ids) + 1):
        speech.hear(ids[:end])
    assert told[-1] == text
    assert len(told) < len(ids), "some tokens are parts of characters"
    assert all(text.startswith(so_far) and not so_far.endswith("\ufffd") for so_far in told)
