"""A stand-in for verl's server client that gives scripted replies: what the real one returns, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from verl.workers.rollout.replica import TokenOutput


def output(ids: Sequence[int], logprob: float = -1.0, version: int = 0, **fields: Any) -> TokenOutput:
    values = {"stop_reason": "completed", "extra_fields": {"global_steps": version}, **fields}
    return TokenOutput(token_ids=list(ids), log_probs=[logprob] * len(ids), **values)


class Server:
    """Gives the replies in order; one that is an exception is raised. `asked` keeps what it was asked."""

    def __init__(self, replies: Sequence[TokenOutput | Exception]) -> None:
        self.left = list(replies)
        self.asked: list[dict[str, Any]] = []

    async def generate(self, **request: Any) -> TokenOutput:
        self.asked.append(request)
        reply = self.left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply
