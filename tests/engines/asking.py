"""What the tests of engines ask with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from tests.golden import picture
from vilasr.messages import Message, Picture, Text


def user(text: str = "Which object is nearer?", images: int = 0) -> list[Message]:
    pictures = [Picture(i + 1, picture(56, 56, i)) for i in range(images)]
    return [Message("user", (*pictures, Text(text)))]


async def together(*waiting: Awaitable) -> list:
    """All at once; no engine may take a minute for them."""
    return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
