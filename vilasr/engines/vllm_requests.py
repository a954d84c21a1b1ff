"""Requests that wait for the thread that owns vLLM, each answered in its asker's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
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

    def put(self, request: Request | None) -> None:
        self._queue.put(request)

    def drain(self, idle: bool) -> list[Request | None]:
        """What is there; where there is nothing else to do, waits for the first."""
        requests = [self._queue.get()] if idle else []
        while True:
            try:
                requests.append(self._queue.get_nowait())
            except queue.Empty:
                return requests
