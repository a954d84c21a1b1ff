"""When requests may be sent."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Evenly spaced by the rate limit, and not while the server asks to wait. Bound to no event loop."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._closed_until = 0.0

    async def turn(self) -> None:
        while (wait := self._closed_until - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        if not self._gap:
            return
        slot = max(self._next, time.monotonic())
        self._next = slot + self._gap
        if (wait := slot - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    def hold(self, seconds: float) -> None:
        self._closed_until = max(self._closed_until, time.monotonic() + seconds)
