"""What an engine is: something that answers the new messages of a session with a reply."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vilasr.messages import Message, Reply
from vilasr.traces import StopReason


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a turn is sampled. `temperature` 0 is greedy. Every item has its own seed, drawn from `seed`, so results do
    not depend on the order or number of the others."""

    temperature: float = 0.0
    top_p: float = 1.0
    turn_tokens: int = 1024
    seed: int = 0

    def item_seed(self, item_id: str, sample: int = 0) -> int:
        """A 31-bit seed of its own for each item and sample."""
        digest = hashlib.sha256(f"{self.seed}:{item_id}:{sample}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1


@dataclass
class Usage:
    """Tokens of one session: `prompt` as the model saw them in its last turn (images expanded), `prompt_total` those of
    all turns together, as a hosted model bills them, `sampled` in all."""

    turns: int = 0
    prompt: int = 0
    prompt_total: int = 0
    sampled: int = 0


@dataclass
class Session:
    """One conversation's state with an engine. Each engine keeps what it needs in `state`. `listen`, if given, gets the
    text of a reply in pieces as it comes, in the event loop of `reply`; the pieces of a reply make up its text."""

    seed: int
    usage: Usage = field(default_factory=Usage)
    state: Any = None
    listen: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """The engine cannot answer this session (`CONTEXT_OVERFLOW`, `ENGINE_ERROR`); other sessions go on."""

    reason: StopReason
    detail: str


class EngineDied(RuntimeError):
    """The engine as a whole failed. Nothing written is lost; the run stops, and resumes when started again."""


class Engine(Protocol):
    """Sessions are independent; `reply` may run for many of them at once."""

    def session(self, seed: int) -> Session: ...

    async def reply(self, session: Session, new_messages: Sequence[Message]) -> Reply | Stopped:
        """The model's reply after `new_messages` are added to the session. Raises EngineDied."""
        ...

    async def aclose(self) -> None: ...
