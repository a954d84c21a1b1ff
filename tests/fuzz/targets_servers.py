"""What a server says: bodies and chunks through the client library's own types, errors, and whole HTTP responses."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from pathlib import Path

import httpx
import openai
from openai._models import construct_type
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.fuzz.contract import Target, Violation, check_message
from tests.fuzz.mutation import bytes_mutator, json_mutator
from vilasr.engines.base import EngineDied, Sampling, Stopped
from vilasr.engines.server import ServerEngine, ServerOptions
from vilasr.engines.server_chat import Answer
from vilasr.engines.server_errors import BrokenReply, Failure, judge, retry_after
from vilasr.messages import Message, Reply, Text

_BODY = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant",
    "content": "<answer>B</answer>"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
}  # fmt: skip
_TOOL = {**_BODY, "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
    "role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f",
    "arguments": "{}"}}]}}]}  # fmt: skip
_CHUNK = {
    "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": "<answer>B"}}],
}  # fmt: skip
_ERROR = {"error": {"message": "This model's maximum context length is 4096 tokens, 5000 in the messages.", "type": "e",
                    "code": 400, "param": None}}  # fmt: skip


def _json(*values: object) -> tuple[bytes, ...]:
    return tuple(json.dumps(value).encode() for value in values)


def body(data: bytes, _: Path) -> object:
    """Whatever JSON a server sends for a completion."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    try:
        return _outcome(Answer.of(construct_type(type_=ChatCompletion, value=value)))
    except BrokenReply as exc:
        return _broken(exc)


_OPTIONS = ServerOptions("http://127.0.0.1:1/v1", api_key_env="VILASR_FUZZ_NO_KEY")


def _broken(exc: BrokenReply) -> object:
    """As the engine tells it."""
    failure = judge(exc)
    told = _OPTIONS.safe(failure.detail)
    check_message(told, None)
    return failure.kind, told


def _outcome(answer: Answer) -> object:
    outcome = answer.outcome()
    if isinstance(outcome, Stopped):
        return outcome.detail[:50]
    if not isinstance(outcome, Reply) or not isinstance(outcome.text, str):
        raise Violation(f"a reply that is none: {outcome!r:.200}")
    if answer.usage is not None and not all(isinstance(count, int) for count in answer.usage):
        raise Violation(f"a usage of {answer.usage}")
    return outcome.text[:50]


def chunks(data: bytes, _: Path) -> object:
    answer = Answer()
    for line in data.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        try:
            answer.add(construct_type(type_=ChatCompletionChunk, value=value))
        except BrokenReply as exc:
            return _broken(exc)
    return _outcome(answer)


def refusal(data: bytes, _: Path) -> object:
    """An error's body and headers, with every status."""
    status = 300 + sum(data) % 300
    response = httpx.Response(
        status,
        request=httpx.Request("POST", "http://x/v1/chat/completions"),
        headers={b"retry-after": data[:20].replace(b"\r", b"").replace(b"\n", b"")},
    )
    retry_after({"retry-after": data[:40].decode("latin-1"), "retry-after-ms": data[40:50].decode("latin-1")})
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        value = data.decode("latin-1")
    inner = value.get("error", value) if isinstance(value, dict) else value
    failure = judge(openai.APIStatusError("refused", response=response, body=inner))
    judge(openai.APIError("refused", request=response.request, body=inner))
    if not isinstance(failure, Failure) or len(failure.detail) > 1500:
        raise Violation(f"a failure of {len(failure.detail)} characters")
    if failure.wait is not None and not failure.wait >= 0:
        raise Violation(f"a wait of {failure.wait}")
    return failure.kind, failure.detail, failure.context, failure.prompt


class _Served:
    """A server on this machine that answers every request with the same bytes, and an engine that asks it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.response = b""
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]

        options = ServerOptions(
            f"http://127.0.0.1:{self.port}/v1", "m", max_retries=0, first_wait=0, longest_wait=0.01, reply_timeout=5,
            api_key_env="VILASR_FUZZ_NO_KEY",
        )  # fmt: skip
        self.engine = ServerEngine(options, Sampling())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ),
                0,
            )
            await reader.readexactly(length)
            writer.write(self.response)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def ask(self, listen: bool) -> object:
        session = self.engine.session(1)
        heard: list[str] = []
        if listen:
            session.listen = heard.append
        said = await self.engine.reply(session, [Message("user", (Text("Hello"),))])
        if isinstance(said, Reply) and listen and "".join(heard) != said.text:
            raise Violation(f"was told {''.join(heard)[:100]!r} and got {said.text[:100]!r}")
        return said


@cache
def _server() -> _Served:
    return _Served()


def _response(payload: bytes, kind: str = "application/json", status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
    return head.encode() + payload


@cache
def _responses() -> tuple[bytes, ...]:
    chunk = json.dumps(_CHUNK).encode()
    last = json.dumps(
        {**_CHUNK, "choices": [{"index": 0, "finish_reason": "stop", "delta": {"content": "</answer>"}}]}
    ).encode()
    stream = b"data: " + chunk + b"\n\ndata: " + last + b"\n\ndata: [DONE]\n\n"
    return (
        _response(_json(_BODY)[0]),
        _response(stream, "text/event-stream"),
        _response(_json(_ERROR)[0], status="400 Bad Request"),
        _response(b"<html>busy</html>", "text/html", "503 Service Unavailable"),
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"id"\r\n0\r\n\r\n',
    )


def http(data: bytes, _: Path) -> object:
    """Whole responses over a socket, asked for at once and as a stream."""
    server = _server()
    server.response = data
    said = server.loop.run_until_complete(server.ask(listen=bool(sum(data) & 1)))
    if isinstance(said, Reply):
        return said.text[:60]
    if not isinstance(said, Stopped):
        raise Violation(f"neither a reply nor an ending: {said!r:.200}")
    check_message(said.detail, None)
    return said.reason


TARGETS = (
    Target("server-body", lambda: _json(_BODY, _TOOL, {**_BODY, **_ERROR}), body, json_mutator, named=False, often=5),
    Target("server-chunks", lambda: (b"\n".join(_json(_CHUNK, _CHUNK, {**_CHUNK, "choices": [],
        "usage": _BODY["usage"]})),),
           chunks, json_mutator, named=False, often=3),
    Target("server-refusal", lambda: _json(_ERROR, {"message": "too long"}, {"detail": ["x"]}), refusal,
        json_mutator, often=3, named=False),
    Target("server-http", _responses, http, bytes_mutator, (EngineDied,), named=False, often=0.03),
)  # fmt: skip
