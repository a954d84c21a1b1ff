"""Requests that wait for the thread that owns vLLM, each answered in its asker's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """`hear`, if given, gets all ids so far, each time there are more."""

    prompt: Any
    params: Any
    future: asyncio.Future
    loop: asyncio.AbstractEventLoop
    hear: Callable[[list[int]], None] | None = None

    def settle(self, result: Any) -> None:
        """Hand the result, or the exception, to who waits for it."""

        def settle() -> None:
            if self.future.done():
                return
            if isinstance(result, Exception):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)

        with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(settle)

    def tell(self, ids: list[int]) -> None:
        if self.hear is not None:
            with contextlib.suppress(RuntimeError):  # as above
                self.loop.call_soon_threadsafe(self.hear, ids)


class Inbox:
    """Of one thread. None tells it to end."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Request | None] = queue.Queue()
        self._held: list[Request | None] = []
        self._since = 0.0  # when the first that is held was found

    def put(self, request: Request | None) -> None:
        self._queue.put(request)

    def drain(self, idle: bool, hold: float = 0.0) -> list[Request | None]:
        """What is there; where there is nothing else to do, waits for the first. Otherwise the first waits for others,
        `hold` seconds from the first call that finds it: then all are given out together."""
        if idle and not self._held:
            self._held, self._since = [self._queue.get()], time.monotonic()
        with contextlib.suppress(queue.Empty):
            while True:
                request = self._queue.get_nowait()
                if not self._held:
                    self._since = time.monotonic()
                self._held.append(request)
        if not (idle or None in self._held) and time.monotonic() - self._since < hold:
            return []
        given, self._held = self._held, []
        return given
