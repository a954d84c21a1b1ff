"""The golden traces as token ids of our vLLM session."""

from __future__ import annotations

import asyncio
import itertools

from tests.golden import Golden, golden_traces

GOLDEN = {golden.name: golden for golden in golden_traces()}


def session_tokens(engine, golden: Golden) -> tuple[list[int], list[list[int]], int]:
    """(token ids as vLLM expands them, image grids, our own count) of a session that is told the golden replies."""
    session = engine.session(0)
    replies = iter(golden.replies)
    numbers = itertools.count()

    def turn(messages) -> None:
        engine.extend(session, messages)
        ids = engine.chat.text(next(replies))
        engine.keep(session, ids if next(numbers) in golden.truncated else [*ids, engine.chat.end])

    golden.run(turn)
    seen = asyncio.run(engine.as_seen(session))
    return seen.ids, seen.grids, session.state.expanded
