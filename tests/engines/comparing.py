"""The same episodes through two engines, turn by turn, and why they differ where they do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.engines.faulty_proxy import Proxy
from vilasr.engines import Session, Stopped
from vilasr.engines.server import ServerEngine
from vilasr.engines.vllm_engine import VllmEngine
from vilasr.engines.vllm_prompt import Conversation
from vilasr.episode import Episode
from vilasr.messages import Message, Reply
from vilasr.runner import run_episode

TIE = 0.1  # of a log-probability: what bfloat16 makes of one and the same step in different company


@dataclass(frozen=True)
class Turn:
    """What the model was given (one pad an image, and the images where they are known), what it sampled, and what was
    made of it."""

    prompt: tuple[int, ...]
    images: tuple[Any, ...]
    sampled: tuple[int, ...]
    text: str
    finish: str


class Watched:
    """An engine that keeps each session's turns. A server's are read from the proxy before it."""

    def __init__(self, engine: VllmEngine | ServerEngine, proxy: Proxy | None = None) -> None:
        self.engine = engine
        self.proxy = proxy
        self.turns: dict[int, list[Turn]] = {}  # by seed

    def session(self, seed: int) -> Session:
        return self.engine.session(seed)

    async def reply(self, session: Session, new: Sequence[Message]) -> Reply | Stopped:
        reply = await self.engine.reply(session, new)
        if isinstance(reply, Reply):
            self.turns.setdefault(session.seed, []).append(self._turn(session, reply))
        return reply

    async def aclose(self) -> None:
        await self.engine.aclose()

    def _turn(self, session: Session, reply: Reply) -> Turn:
        if self.proxy is None:
            ids, sampled = session.state.ids, reply.token_ids
            before = tuple(ids[: len(ids) - len(sampled)])
            return Turn(before, tuple(session.state.images), sampled, reply.text, reply.finish_reason)
        asked = session.state[:-1]
        entry = next(e for e in self.proxy.asked() if e.answer is not None and e.body["messages"] == asked)
        given = entry.given
        sampled = tuple(given["choices"][0]["token_ids"])
        return Turn(tuple(given["prompt_token_ids"]), (), sampled, reply.text, reply.finish_reason)


def play(engine: Watched, episodes: Sequence[Episode]) -> list[list[Turn]]:
    async def all_of_them() -> None:
        await asyncio.gather(*(run_episode(e, engine, engine.session(9000 + i)) for i, e in enumerate(episodes)))

    asyncio.run(all_of_them())
    return [engine.turns.get(9000 + i, []) for i in range(len(episodes))]


def one_pad(ids: Sequence[int], pad: int) -> tuple[int, ...]:
    return tuple(token for i, token in enumerate(ids) if token != pad or i == 0 or ids[i - 1] != pad)


def why_different(here: Sequence[Turn], there: Sequence[Turn], vllm: VllmEngine, tokenizer: Any) -> str | None:
    """None for equal episodes, else the reason of their first difference. No one's fault are "retokenized" (the text of
    an earlier reply gives other tokens than were sampled), "cut character" (a reply was cut inside a character) and
    "tie" (two tokens were equally likely). Any other is a defect."""
    chat = vllm.chat
    for number, (a, b) in enumerate(zip(here, there, strict=False)):
        if a.prompt != one_pad(b.prompt, chat.image_pad):
            return "retokenized" if any(_changes(before, chat, tokenizer) for before in here[:number]) else "prompt"
        if without_forbidden(a.sampled, chat) != without_forbidden(b.sampled, chat):
            return "tie" if _is_tie(a, b, vllm) else "sample"
        if a.text != b.text:
            return "cut character" if a.text.rstrip("\ufffd") == b.text.rstrip("\ufffd") else "text"
        if a.finish != b.finish:
            return "ending"
    return None if len(here) == len(there) else "length"


def without_forbidden(ids: Sequence[int], chat: Any) -> tuple[int, ...]:
    """As `VllmEngine` keeps them: a forbidden token at the end is not part of the reply."""
    return tuple(ids[:-1] if ids and ids[-1] in chat.forbidden else ids)


def _changes(turn: Turn, chat: Any, tokenizer: Any) -> bool:
    """Whether a chat template makes other tokens of a reply's text than were sampled."""
    spoken = [token for token in turn.sampled if token not in (chat.end, chat.end_of_text)]
    again = tokenizer("assistant\n" + turn.text, add_special_tokens=False).input_ids
    return again != [*chat.text("assistant\n"), *spoken]


def _is_tie(a: Turn, b: Turn, vllm: VllmEngine) -> bool:
    """Whether the first tokens that differ were equally likely after what they have in common."""
    at = next((i for i, pair in enumerate(zip(a.sampled, b.sampled, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        return False
    params = vllm._params(1, 0)
    params.logprobs, params.temperature = 20, 0.0
    conversation = Conversation()
    conversation.add(a.prompt, a.images, vllm.chat.image_pad, vllm._rule.factor**2)
    conversation.keep(a.sampled[:at])
    [likely] = asyncio.run(vllm._generate(conversation, params, None)).outputs[0].logprobs
    both = [likely[token].logprob for token in (a.sampled[at], b.sampled[at]) if token in likely]
    return len(both) == 2 and abs(both[0] - both[1]) <= TIE
