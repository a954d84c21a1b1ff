"""The server engine with a real vLLM server: what is asked, what is counted, and what cannot be answered."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
from collections import Counter

import pytest
from PIL import Image, ImageChops

from tests.engines.asking import together, user
from tests.engines.faulty_proxy import Canned, Proxy, always, first, proxy
from tests.golden import picture
from vilasr.engines import EngineDied, Sampling, Session, Stopped, server_chat
from vilasr.engines.server import ServerEngine, ServerOptions, only_model
from vilasr.messages import FinishReason, Message, Picture, Reply, Text
from vilasr.traces import StopReason

pytestmark = pytest.mark.engine

SHORT = Sampling(turn_tokens=12)
KEY = "sk-secret-0123456789"


def engine_at(url: str, sampling: Sampling = SHORT, **options) -> ServerEngine:
    return ServerEngine(ServerOptions(url, **({"model": "nano", "first_wait": 0.01} | options)), sampling)


def ask(engine: ServerEngine, *questions: list[Message]) -> list:
    asked = questions or (user(),)

    async def run() -> list:
        return await together(*(engine.reply(engine.session(n), question) for n, question in enumerate(asked)))

    return asyncio.run(run())


def says(message: dict | None, finish: str | None = "stop", **more) -> Canned:
    """A whole answer of a server."""
    choices = [] if message is None else [{"index": 0, "message": message, "finish_reason": finish}]
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, **more}
    return "200 OK", "Content-Type: application/json", json.dumps(answer).encode()


def refuses(status: str, message: str, **more) -> Canned:
    return status, "Content-Type: application/json", json.dumps({"error": {"message": message, **more}}).encode()


# ---- what is asked


def test_text_and_images_go_in_order_and_unchanged(served, monkeypatch):
    """Each image is encoded once a session, and every pixel arrives."""
    encoded: Counter = Counter()
    encode = server_chat._data_url
    monkeypatch.setattr(server_chat, "_data_url", lambda image: encoded.update([id(image)]) or encode(image))
    pictures = [Picture(n + 1, picture(56 + 28 * n, 84, n)) for n in range(3)]
    system = Message("system", (Text("Draw."),))
    opening = Message("user", (Text("a"), Text("b"), pictures[0], pictures[1], Text("c")))
    with proxy(served.url) as between:
        engine = engine_at(between.url)
        session = engine.session(0)
        replies = [asyncio.run(engine.reply(session, [system, opening]))]
        replies += [asyncio.run(engine.reply(session, [Message("user", (pictures[2], Text("d")))]))]
        messages = between.asked()[-1].body["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert (messages[0]["content"], messages[2]["content"]) == ("Draw.", replies[0].text)
    parts = messages[1]["content"] + messages[3]["content"]
    assert [part.get("text") for part in parts] == ["ab", None, None, "c", None, "d"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    for url, sent in zip(urls, pictures, strict=True):
        assert url.startswith("data:image/png;base64,")
        arrived = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
        assert arrived.size == sent.image.size
        assert ImageChops.difference(arrived, sent.image).getbbox() is None
    assert sorted(encoded.values()) == [1, 1, 1]


def fields(between: Proxy) -> list[dict]:
    return [{k: v for k, v in entry.body.items() if k != "messages"} for entry in between.asked()]


def test_the_fields_of_a_request(served):
    with proxy(served.url) as between:
        ask(engine_at(between.url))
        engine = engine_at(between.url, Sampling(0.5, 0.9, 7), limit_field="max_completion_tokens")
        session = engine.session(2**31 - 1)
        for _ in range(2):
            asyncio.run(engine.reply(session, user()))
        ask(engine_at(between.url, omit=("temperature", "top_p"), extra_body={"top_k": 5}))
        greedy, seeded, next_turn, bare = fields(between)
    assert greedy == {"model": "nano", "temperature": 0.0, "top_p": 1.0, "max_tokens": 12}
    sampled = {"model": "nano", "temperature": 0.5, "top_p": 0.9, "max_completion_tokens": 7}
    assert seeded == sampled | {"seed": 2**31 - 1}
    assert next_turn == sampled | {"seed": 0}
    assert bare == {"model": "nano", "max_tokens": 12, "top_k": 5}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"base_url": "localhost:8000"}, "must be like http"),
        ({"base_url": "https://me:pass@host/v1"}, "must hold no password"),
        ({"base_url": "https://host/v1?api-key=x"}, "must end before"),
        ({"base_url": "https://host/v1#x"}, "must end before"),
        ({"base_url": "https://host/v1\n"}, "must be like http"),
        ({"omit": ("temprature",)}, "temprature.*known:.*'temperature'"),
        ({"limit_field": "max_length"}, "max_completion_tokens"),
        ({"requests_per_minute": 0}, "above 0"),
        ({"max_retries": -1}, "at least 0"),
        ({"reply_timeout": 0}, "time limits"),
    ],
    ids=str,
)
def test_options_that_cannot_work(wrong, told):
    with pytest.raises(ValueError, match=told):
        ServerOptions(**({"base_url": "http://host/v1"} | wrong))


def test_the_only_model_is_found(served, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    engine = ServerEngine(ServerOptions(served.url), SHORT)
    assert engine.model == served.model
    assert isinstance(ask(engine)[0], Reply)
    listed = b'{"object": "list", "data": [{"id": "b"}, {"id": "a"}]}'
    for content, told in [
        (listed, "serves 2 models; name one of them: a, b"),
        (b'{"object": "list", "data": []}', "serves 0 models"),
        (b'{"models": "?"}', "name the model"),
        (b'{"object": "list", "data": [null]}', "name the model"),
        (b'{"object": "list", "data": [{"id": 5}]}', "name the model"),
        (b"<html>", "name the model"),
    ]:
        with (
            proxy(served.url, always(("200 OK", "Content-Type: application/json", content))) as between,
            pytest.raises(EngineDied, match=told),
        ):
            only_model(ServerOptions(between.url))
    with pytest.raises(EngineDied, match="no connection"):
        only_model(ServerOptions("http://127.0.0.1:9/v1", max_retries=0))


def test_one_engine_serves_several_event_loops(served):
    """A run of several files is as many calls of asyncio.run; each leaves no connection behind."""
    engine = engine_at(served.url)
    replies, clients = [], []
    for _ in range(3):
        replies += ask(engine, user(), user("Where?"))
        clients.append(engine._sdk)
        assert clients[-1].is_closed()
    assert replies[:2] == replies[2:4] == replies[4:]
    assert len({id(client) for client in clients}) == 3
    asyncio.run(engine.aclose())

    async def ask_and_close() -> None:
        assert isinstance(await engine.reply(engine.session(0), user()), Reply)
        client = engine._sdk
        await engine.aclose()
        assert client.is_closed()

    asyncio.run(ask_and_close())


# ---- what is counted


def test_tokens_are_the_servers_and_those_of_the_engine_here(served, vllm, monkeypatch):
    monkeypatch.setattr(vllm, "sampling", SHORT)

    def converse(engine) -> Session:
        session = engine.session(0)
        for images in (2, 0, 1):
            assert isinstance(asyncio.run(engine.reply(session, user(images=images))), Reply)
        return session

    with proxy(served.url) as between:
        there = converse(engine_at(between.url)).usage
        told = [entry.given["usage"] for entry in between.asked()]
    assert there.turns == 3
    assert there.prompt == told[-1]["prompt_tokens"]
    assert there.prompt_total == sum(usage["prompt_tokens"] for usage in told) > 2 * there.prompt
    assert there.sampled == sum(usage["completion_tokens"] for usage in told)
    assert there == converse(vllm).usage


def test_a_server_that_does_not_count_is_told_of_once(served, caplog):
    with proxy(served.url, always(says({"role": "assistant", "content": "x"}))) as between:
        engine = engine_at(between.url)
        assert engine.counts_tokens
        assert [reply.text for reply in ask(engine, user(), user())] == ["x", "x"]
    assert not engine.counts_tokens
    assert sum("counts no tokens" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("fault", [None, "500"])
def test_the_rate_limit_holds(served, fault):
    """For what is sent again too."""
    with proxy(served.url, first(*([fault] if fault else []))) as between:
        outcomes = ask(engine_at(between.url, requests_per_minute=600), *(user(f"{n}?") for n in range(6)))
        times = [entry.at for entry in between.asked()]
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert len(times) == (12 if fault else 6)
    assert times[-1] - times[0] >= 0.1 * (len(times) - 1) - 0.2, "a busy machine may send some late"


# ---- what cannot be answered


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (refuses("401 Unauthorized", f"Incorrect API key provided: {KEY}"), "does not accept the API key"),
        (refuses("402 Payment Required", "no funds"), "no credit"),
        (refuses("404 Not Found", "no such path"), "usually ends in /v1"),
        ("no credit", "no credit.*pay first"),
        ("redirect", "redirects elsewhere"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_no_request_gets_past_ends_the_run_at_once(served, fault, told, monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with proxy(served.url, always(fault)) as between:
        [outcome] = ask(engine_at(between.url, api_key_env="MY_KEY"))
        [entry] = between.asked()
    assert entry.headers["authorization"] == f"Bearer {KEY}"
    assert isinstance(outcome, EngineDied)
    with pytest.raises(EngineDied, match=told):
        raise outcome
    assert "MY_KEY is set" in str(outcome)
    assert KEY not in str(outcome)
    assert KEY not in caplog.text
    assert len(caplog.records) > 3, "the libraries' own lines were looked at too"


def test_a_key_without_its_line_end(served, monkeypatch, caplog):
    """As read from a file, and with characters that quotes change."""
    key = "sk-it's\\0123"
    monkeypatch.setenv("OPENAI_API_KEY", f" {key}\r\n")
    caplog.set_level(logging.DEBUG)
    with proxy(served.url, first(refuses("400 Bad Request", f"not {key} nor {key!r} nor {key.encode()!r}"))) as between:
        [outcome] = ask(engine_at(between.url))
        [entry] = between.asked()
    assert entry.headers["authorization"] == f"Bearer {key}"
    assert outcome.detail.count("[key]") == 3
    assert "0123" not in outcome.detail + caplog.text


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-\x07abc", "sk-äbc", "sk-\u200babc"], ids=ascii)
def test_a_key_that_no_header_can_hold(key, monkeypatch):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(ValueError, match="environment variable MY_KEY holds no usable key") as refused:
        ServerOptions("http://host/v1", api_key_env="MY_KEY")
    assert "sk-" not in str(refused.value)
    assert ServerOptions("http://host/v1").api_key_env == "OPENAI_API_KEY"


def test_status_403_for_all_or_for_one(served, monkeypatch):
    """The smallest request tells."""
    monkeypatch.setenv("MY_KEY", KEY)
    forbidden = refuses("403 Forbidden", f"{KEY} may not")
    with proxy(served.url, always(forbidden)) as between:
        [outcome] = ask(engine_at(between.url, api_key_env="MY_KEY"))
        assert len(between.asked()) == 2
    assert isinstance(outcome, EngineDied)
    assert "may not use this model (status 403: [key] may not) (environment variable MY_KEY is set)" in str(outcome)

    def moderated(entry, attempt: int, then: str | None = None) -> Canned | str | None:
        if "bad words" in str(entry.body):
            return forbidden
        return then if attempt == 0 and "Hello" in str(entry.body) else None

    for then in (None, "500"):  # a smallest request that fails otherwise says nothing; both are sent again
        with proxy(served.url, lambda entry, attempt, then=then: moderated(entry, attempt, then)) as between:
            refused, other = ask(engine_at(between.url), user("bad words"), user())
            assert len(between.asked()) == (5 if then else 3)
        assert (refused.reason, "status 403" in refused.detail) == (StopReason.ENGINE_ERROR, True)
        assert isinstance(other, Reply)


def test_the_key_is_in_no_detail(served, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with proxy(served.url, first("500", refuses("400 Bad Request", f"not with {KEY}"))) as between:
        [outcome] = ask(engine_at(between.url))
    assert outcome == Stopped(StopReason.ENGINE_ERROR, "status 400: not with [key]")
    with proxy(served.url, always(refuses("500 Oops", f"failed for {KEY}"))) as between:
        [outcome] = ask(engine_at(between.url, max_retries=1))
    assert "failed for [key]" in str(outcome)
    assert KEY not in str(outcome)
    assert KEY not in caplog.text


def test_an_unknown_model_ends_the_run_at_once(served):
    with proxy(served.url) as between:
        [outcome] = ask(engine_at(between.url, model="other"))
        assert len(between.asked()) == 1
    assert isinstance(outcome, EngineDied)
    assert "`other`" in str(outcome)


def test_a_full_context_ends_its_episode(served):
    """The server's own refusal, once with the tokens of a turn and once without."""
    with proxy(served.url) as between:
        full, other = ask(engine_at(between.url), user("left right up down " * 2500), user())
        assert len(between.asked()) == 3
    assert isinstance(full, Stopped)
    assert full.reason is StopReason.CONTEXT_OVERFLOW
    assert "8192" in full.detail
    assert isinstance(other, Reply)


def test_a_request_that_the_server_refuses_ends_its_episode(served):
    many = [Message("user", tuple(Picture(n + 1, picture(56, 56, n)) for n in range(43)))]
    with proxy(served.url) as between:
        refused, other = ask(engine_at(between.url), many, user())
        assert len(between.asked()) == 2
    assert isinstance(refused, Stopped)
    assert refused.reason is StopReason.ENGINE_ERROR
    assert "42" in refused.detail, "the server's own words"
    assert isinstance(other, Reply)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (says({"role": "assistant", "content": "half a"}, "content_filter"), "content filter"),
        (says({"role": "assistant", "content": None, "tool_calls": []}, "tool_calls"), "called a tool"),
        (says({"role": "assistant", "content": None}), "without text"),
        (says({"role": "assistant", "content": None, "refusal": "I will not."}), "refused: I will not."),
        (says({"role": "assistant", "content": None, "reasoning": "Hm."}), "without a reasoning parser"),
        (says({"role": "assistant", "content": "x"}, "abort"), r"by itself \(abort\)"),
        (says({"role": "assistant", "content": "x"}, None), r"by itself \(None\)"),
        (says(None), "without a choice"),
        (says(None, error={"message": "bad image", "code": 400}), "bad image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_without_a_reply_ends_its_episode(served, answer, told):
    """It has come, so it is not asked for again."""
    with proxy(served.url, always(answer)) as between:
        [outcome] = ask(engine_at(between.url))
        assert len(between.asked()) == 1
    assert isinstance(outcome, Stopped)
    assert outcome.reason is StopReason.ENGINE_ERROR
    assert told.replace("\\", "") in outcome.detail


def test_a_failure_with_status_200_is_asked_for_again(served):
    behind = says(None, error={"message": "upstream is busy", "code": 502})
    with proxy(served.url, first(behind)) as between:
        [outcome] = ask(engine_at(between.url))
        assert len(between.asked()) == 2
    assert isinstance(outcome, Reply)


@pytest.mark.parametrize(
    ("content", "finish", "reply"),
    [
        ("", "stop", Reply("", FinishReason.STOP)),
        (None, "length", Reply("", FinishReason.LENGTH)),
        ("a", "length", Reply("a", FinishReason.LENGTH)),
        ("a<|im_end|>b", "length", Reply("a", FinishReason.STOP)),
        ("a<|endoftext|>b<|im_start|>", "stop", Reply("a", FinishReason.STOP)),
        ("a <|im_start|>user\nb<|im_end|>", "stop", Reply("a ", FinishReason.FORBIDDEN_TOKEN)),
        ("<|image_pad|>", "stop", Reply("", FinishReason.FORBIDDEN_TOKEN)),
        ("a<|im_", "stop", Reply("a<|im_", FinishReason.STOP)),
    ],
    ids=repr,
)
def test_replies_and_how_they_end(served, content, finish, reply):
    with proxy(served.url, always(says({"role": "assistant", "content": content}, finish))) as between:
        assert ask(engine_at(between.url)) == [reply]
