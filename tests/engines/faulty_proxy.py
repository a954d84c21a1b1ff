"""A proxy between an engine and a real server that fails on purpose, and keeps a log of what it was sent."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"

Canned = tuple[str, str, bytes]  # an answer of the proxy's own: status, headers, body

CANNED: dict[str, Canned] = {
    "429": ("429 Too Many Requests", "Content-Type: application/json", b'{"error": {"message": "slow down"}}'),
    "429 after": (
        "429 Too Many Requests",
        "Content-Type: application/json\r\nRetry-After: 0.05",
        b'{"error": {"message": "slow down"}}',
    ),
    "429 long": ("429 Too Many Requests", "Retry-After: 3600", b""),
    "500": ("500 Internal Server Error", "Content-Type: application/json", b'{"error": {"message": "oops"}}'),
    "502 page": ("502 Bad Gateway", "Content-Type: text/html", HTML),
    "503": ("503 Service Unavailable", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", b""),
    "408": ("408 Request Timeout", "Content-Type: text/plain", b"too slow"),
    "page": ("200 OK", "Content-Type: text/html", HTML),
    "nothing": ("200 OK", "Content-Type: application/json", b""),
    "half JSON": ("200 OK", "Content-Type: application/json", b'{"id": "1", "object": "chat.completion", "choi'),
    "no credit": (
        "429 Too Many Requests",
        "Content-Type: application/json",
        b'{"error": {"message": "pay first", "code": "insufficient_quota"}}',
    ),
    "redirect": ("307 Temporary Redirect", "Location: /elsewhere/chat/completions", b""),
}
# Faults of the connection. "cut" comes in the middle of the server's own answer.
BROKEN = ("closed", "cut")
PASSING = ("429", "429 after", "500", "502 page", "503", "408", "page", "nothing", "half JSON", *BROKEN)


@dataclass
class Entry:
    """One request: when it came, what it held, what was done to it (None: passed on), and the whole answer, if it was
    delivered."""

    at: float
    path: str
    key: str
    body: dict[str, Any]
    headers: dict[str, str]
    fault: str | Canned | None = None
    answer: bytes | None = None

    @property
    def given(self) -> dict[str, Any]:
        assert self.answer is not None
        return json.loads(self.answer)


Choose = Callable[[Entry, int], str | Canned | None]


def never(entry: Entry, attempt: int) -> None:
    return None


@dataclass
class Proxy:
    """`choose(entry, attempt)` names the fault of a request that came `attempt` times before."""

    upstream: str
    choose: Choose = never
    log: list[Entry] = field(default_factory=list)
    url: str = ""

    def asked(self) -> list[Entry]:
        return [entry for entry in self.log if entry.path.endswith("/chat/completions")]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):  # cancelled at the end
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, path, _ = first.split(" ")
            key = hashlib.sha256(path.encode() + body).hexdigest()[:16]
            entry = Entry(time.monotonic(), path, key, json.loads(body or b"{}"), headers)
            entry.fault = self.choose(entry, sum(earlier.key == key for earlier in self.log))
            self.log.append(entry)
            await self.answer(entry, method, headers, body, reader, writer)
        writer.close()

    async def answer(self, entry: Entry, method: str, headers: dict[str, str], body: bytes, reader, writer) -> None:
        canned = CANNED.get(entry.fault) if isinstance(entry.fault, str) else entry.fault
        if canned is not None:
            status, extra, content = canned
            head = f"HTTP/1.1 {status}\r\n{extra}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + content)
            await writer.drain()
        elif entry.fault == "closed":
            writer.transport.abort()
        elif entry.fault == "hang":
            await reader.read()  # until the client goes
        else:
            raw = await self.ask_upstream(entry.path, method, headers, body)
            await self.pass_on(entry, raw, writer)

    async def ask_upstream(self, path: str, method: str, headers: dict[str, str], body: bytes) -> bytes:
        url = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        kept = {name: value for name, value in headers.items() if name not in ("connection", "host")}
        lines = [f"{method} {path} HTTP/1.1", f"Host: {url.netloc}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in kept.items()]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        raw = await reader.read()
        writer.close()
        return raw

    async def pass_on(self, entry: Entry, raw: bytes, writer: asyncio.StreamWriter) -> None:
        head, _, content = raw.partition(b"\r\n\r\n")
        if entry.fault == "cut":
            writer.write(head + b"\r\n\r\n" + content[: len(content) // 2])
            await writer.drain()
            writer.transport.close()
        elif entry.fault == "trickle":
            writer.write(head + b"\r\n\r\n")
            for at in range(len(content)):
                writer.write(content[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0.05)
        else:
            entry.answer = content  # before the client can look
            writer.write(raw)
            await writer.drain()


@contextmanager
def proxy(upstream: str, choose: Choose = never) -> Iterator[Proxy]:
    """A proxy in a thread of its own, as engines are asked from several event loops."""
    found = Proxy(upstream, choose)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy")
    thread.start()

    def run(coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

    server = run(asyncio.start_server(found.handle, "127.0.0.1", 0))
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield found
    finally:
        run(_end(server))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def at_random(seed: int, share: float, faults: tuple[str, ...] = PASSING) -> Choose:
    """Faults by the hash of a request, so that they do not depend on the order of requests. None after the third."""

    def choose(entry: Entry, attempt: int) -> str | None:
        rng = random.Random(f"{seed}:{entry.key}:{attempt}")
        return rng.choice(faults) if attempt < 3 and rng.random() < share else None

    return choose


def first(*faults: str | Canned) -> Choose:
    """These faults for each request, one after the other, and then none."""
    return lambda entry, attempt: faults[attempt] if attempt < len(faults) else None


def always(fault: str | Canned) -> Choose:
    return lambda entry, attempt: fault
