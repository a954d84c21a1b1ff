"""verl's rollout as an engine (`vilasr.engines.base.Engine`): the tokens of one training episode.

Token ids are built by verl's continuous-token builder, turn by turn, and what was sampled stays as it was sampled:
`mask` is 1 on every sampled token, the end of a turn included, and 0 on everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from PIL import Image

from vilasr.engines.base import Session, Stopped
from vilasr.engines.chat import ChatTokens
from vilasr.messages import FinishReason, Message, Reply, Text
from vilasr.traces import StopReason

Generate = Callable[..., Awaitable[Any]]  # verl's LLMServerClient.generate


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """In tokens, images expanded: of the question, of everything after it, and of one reply."""

    prompt: int
    response: int
    turn: int


@dataclass
class Rollout:
    """The tokens of one episode so far. `ids` is the question's `prompt` tokens and all that followed; `mask` and
    `logprobs` (of the sampling policy, 0 where nothing was sampled; None where verl does not ask for them) belong to
    what followed. `images` are those whose tokens are in `ids`, in order. The last three are seconds, waiting for
    a server or a thread included."""

    request: str = field(default_factory=lambda: uuid4().hex)  # verl keeps an episode on one server by it
    prompt: int = 0
    ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] | None = None
    images: list[Image.Image] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)  # of the weights that sampled each reply
    preempted: int = 0
    generating: float = 0.0  # replies
    building: float = 0.0  # tokens
    drawing: float = 0.0  # from a reply to the message that follows it: read, drawn

    def append(self, ids: Sequence[int], sampled: bool, logprobs: Sequence[float] | None = None) -> None:
        """Tokens after the question; those not sampled have neither mask nor log-probability."""
        self.ids += ids
        self.mask += [int(sampled)] * len(ids)
        if self.logprobs is not None:
            self.logprobs += logprobs if logprobs is not None else [0.0] * len(ids)

    def seconds(self) -> dict[str, float]:
        """By the names of `vilasr.training.grpo.metrics`."""
        return {"generating": self.generating, "building": self.building, "drawing": self.drawing}


class VerlEngine:
    """`builder` is verl's QwenVL continuous-token builder, `generate` its server client's method, `sampling` the
    parameters verl gives an agent loop. Sessions are independent; each holds a `Rollout` in `state`."""

    def __init__(
        self, builder: Any, generate: Generate, chat: ChatTokens, limits: TokenLimits, sampling: Mapping[str, Any]
    ) -> None:
        self._builder = builder
        self._generate = generate
        self._chat = chat
        self.limits = limits
        self._sampling = {**sampling, "stop_token_ids": [chat.end, chat.end_of_text, *sorted(chat.forbidden)]}

    def session(self, seed: int) -> Session:
        return Session(seed, state=Rollout(logprobs=[] if self._sampling.get("logprobs") else None))

    async def reply(self, session: Session, new_messages: Sequence[Message]) -> Reply | Stopped:
        """The model's reply. Stops with CONTEXT_OVERFLOW where the messages, or one token after them, do not fit: then
        nothing of them is added, so no image is ever cut."""
        rollout: Rollout = session.state
        started = time.monotonic()
        overflow = await asyncio.to_thread(self._add, rollout, new_messages)
        rollout.building += time.monotonic() - started
        if overflow is not None:
            return Stopped(StopReason.CONTEXT_OVERFLOW, overflow)
        started = time.monotonic()
        try:
            output = await self._ask(rollout)
        except Exception as exc:  # whatever verl, Ray or vLLM raise for one request: the other episodes go on
            return Stopped(StopReason.ENGINE_ERROR, f"{type(exc).__name__}: {exc}")
        finally:
            rollout.generating += time.monotonic() - started
        if output.stop_reason == "aborted":
            return Stopped(StopReason.ENGINE_ERROR, "verl aborted the request")
        return self._take(session, output)

    async def aclose(self) -> None:
        """The servers are verl's."""

    def _add(self, rollout: Rollout, messages: Sequence[Message]) -> str | None:
        """Append messages and the beginning of the assistant's turn. Returns why they do not fit, if they do not."""
        images = [picture.image for message in messages for picture in message.pictures]
        turns = [_turn(message) for message in messages]
        if not rollout.ids:
            ids = list(self._builder.build_initial_tokens(turns, images=images or None))
            if len(ids) > self.limits.prompt:
                return f"the question has {len(ids)} tokens, more than the {self.limits.prompt} of a prompt"
            rollout.ids, rollout.prompt = ids, len(ids)
            rollout.images += images
            return None
        ended = rollout.ids[-1] == self._chat.end
        closing = [] if ended else [self._chat.end]  # a reply that was cut has not ended its turn
        merged = self._builder.merge_context_tokens([], turns, [*rollout.ids, *closing])
        added = len(merged.token_ids) - len(rollout.ids)
        if len(rollout.mask) + added >= self.limits.response:
            used = f"{len(rollout.mask)} tokens after the question, {added} more to show"
            return f"{used}: no room for a reply within {self.limits.response}"
        rollout.append(merged.token_ids[len(rollout.ids) :], sampled=False)
        rollout.images += images
        return None

    async def _ask(self, rollout: Rollout) -> Any:
        room = self.limits.response - len(rollout.mask)
        return await self._generate(
            request_id=rollout.request,
            prompt_ids=list(rollout.ids),
            sampling_params={**self._sampling, "max_tokens": min(self.limits.turn, room)},
            image_data=list(rollout.images) or None,
        )

    def _take(self, session: Session, output: Any) -> Reply | Stopped:
        """Keep what was sampled, but for a forbidden token at its end."""
        rollout: Rollout = session.state
        ids = list(output.token_ids)
        logprobs = list(output.log_probs) if output.log_probs is not None else None
        if rollout.logprobs is not None and (logprobs is None or len(logprobs) != len(ids)):
            return Stopped(StopReason.ENGINE_ERROR, "verl's server returned no log-probability for each token")
        finish = FinishReason.LENGTH
        if ids and ids[-1] in self._chat.forbidden:
            ids.pop()
            finish = FinishReason.FORBIDDEN_TOKEN
        elif ids and ids[-1] in (self._chat.end, self._chat.end_of_text):
            finish = FinishReason.STOP
        session.usage.turns += 1
        session.usage.sampled += len(ids)
        session.usage.prompt = len(rollout.ids)
        session.usage.prompt_total += len(rollout.ids)
        rollout.append(ids, sampled=True, logprobs=logprobs[: len(ids)] if logprobs is not None else None)
        rollout.preempted += output.num_preempted or 0
        if (version := output.extra_fields.get("global_steps")) is not None:
            rollout.versions.append(int(version))
        spoken = ids[:-1] if finish is FinishReason.STOP else ids
        return Reply(self._chat.decode(spoken), finish, tuple(ids), tuple(logprobs or ())[: len(ids)])


def _turn(message: Message) -> dict[str, Any]:
    """A message as chat templates take it."""
    content = [
        {"type": "text", "text": part.text} if isinstance(part, Text) else {"type": "image", "image": part.image}
        for part in message.parts
    ]
    return {"role": message.role, "content": content}
