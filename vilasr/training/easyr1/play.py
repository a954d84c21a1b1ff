"""Plays drawing episodes on an engine that is stepped by hand, each free of the others.

Every rank of a tensor-parallel group runs this for itself, and vLLM's ranks must be told the same in the same order. So
there are no threads and no clocks here: what is done next depends only on what was sampled.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from PIL import Image

from vilasr.engines.chat import ChatTokens
from vilasr.episode import Continue
from vilasr.messages import Message
from vilasr.prompts import Profile
from vilasr.traces import StopReason
from vilasr.training.easyr1.tokens import Tokens
from vilasr.training.grpo.episodes import FAILURES, Question, TimedEpisode, read_question, why_unread
from vilasr.training.grpo.item import Item
from vilasr.training.grpo.record import Record
from vilasr.training.grpo.rollout import TokenLimits

log = logging.getLogger(__name__)

_BLANK = (56, 56)
_READERS = 8


@dataclass(frozen=True, slots=True)
class Sampled:
    """What an engine made of the request `name`. `failure` says why there are no tokens."""

    name: str
    ids: Sequence[int] = ()
    logprobs: Sequence[float] = ()
    failure: str = ""


class Steps(Protocol):
    """vLLM's engine, or what stands in its place."""

    def add(self, name: str, ids: list[int], images: list[Image.Image], max_tokens: int, seed: int) -> None:
        """Ask for a reply to the compact ids. An exception fails this request alone."""
        ...

    def step(self) -> list[Sampled]:
        """Requests that ended in this step."""
        ...


@dataclass(frozen=True)
class Settings:
    """What of the configuration an episode needs. `seed` decides what is sampled, with the item, sample and turn."""

    profile: Profile
    limits: TokenLimits
    beta: float
    seed: str = ""

    def of_call(self, seed: str) -> Settings:
        return replace(self, seed=seed)


@dataclass
class Played:
    """An episode that is over: its tokens, and its record. Its mask is 0 where it failed for no doing of the model."""

    tokens: Tokens
    record: Record
    seconds: dict[str, float]


@dataclass
class _Playing:
    number: int
    item: Item
    sample: int
    tokens: Tokens
    question: Question | None
    episode: TimedEpisode | None
    turns: int = 0
    asked: float = 0.0
    generating: float = 0.0
    detail: str = ""


def play(items: Sequence[Item], samples: int, steps: Steps, chat: ChatTokens, settings: Settings) -> list[Played]:
    """`samples` episodes of each item, all side by side; in order, those of an item next to each other. Total: every
    failure is an ending."""
    playing: list[_Playing] = []
    for read in _read(items, settings.profile):
        playing += _begin(read, range(len(playing), len(playing) + samples), chat, settings)
    waiting: dict[str, _Playing] = {}
    ask = partial(_ask, steps=steps, waiting=waiting, seed=settings.seed)
    for one in playing:
        if one.episode is not None:
            ask(one, one.episode.messages)
    while waiting:
        for sampled in steps.step():
            one = waiting.pop(sampled.name)
            one.generating += time.monotonic() - one.asked
            message = _answer(one, sampled)
            if message is not None:
                ask(one, [message])
    return [_end(one, settings) for one in playing]


def _read(items: Sequence[Item], profile: Profile) -> list[tuple[Item, Question | None, str]]:
    """Images are read side by side, each question once."""

    def read(item: Item) -> tuple[Item, Question | None, str]:
        try:
            return item, read_question(item, profile), ""
        except Exception as exc:
            return item, None, why_unread(item, exc)

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(read, items))


def _begin(
    read: tuple[Item, Question | None, str], numbers: range, chat: ChatTokens, settings: Settings
) -> list[_Playing]:
    item, question, detail = read
    unit = settings.profile.image.factor**2
    begun = []
    for sample, number in enumerate(numbers):
        one = _Playing(number, item, sample, Tokens(chat, settings.limits, unit), None, None, detail=detail)
        try:
            if question is not None:
                one.episode, one.question = question.episode(settings.profile), question
        except Exception as exc:  # e.g. a question without images
            one.detail = why_unread(item, exc)
        begun.append(one)
    return begun


def _ask(one: _Playing, messages: Sequence[Message], *, steps: Steps, waiting: dict[str, _Playing], seed: str) -> None:
    """Show the messages and ask for a reply; where that cannot be done, the episode is over."""
    assert one.episode is not None
    name = f"{one.number}.{one.turns}"
    try:
        overflow = one.tokens.show(messages)
        if overflow is not None:
            one.episode.close(StopReason.CONTEXT_OVERFLOW, overflow)
            return
        own_seed = turn_seed(seed, one.item, one.sample, one.turns)
        steps.add(name, list(one.tokens.compact), list(one.tokens.images), one.tokens.room, own_seed)
    except Exception as exc:  # this request's own: the other episodes go on
        one.episode.close(StopReason.ENGINE_ERROR, f"{type(exc).__name__}: {exc}")
        return
    one.asked = time.monotonic()
    one.turns += 1
    waiting[name] = one


def turn_seed(seed: str, item: Item, sample: int, turn: int) -> int:
    """31 bits. EasyR1 gives all requests the same seed: then all samples of a question would be the same."""
    text = f"{seed}:{item.example.id}:{item.example.digest()}:{sample}:{turn}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def _answer(one: _Playing, sampled: Sampled) -> Message | None:
    """The user's turn that follows a reply; None where the episode is over."""
    assert one.episode is not None
    try:
        if sampled.failure:
            one.episode.close(StopReason.ENGINE_ERROR, sampled.failure)
            return None
        outcome = one.episode.advance(one.tokens.take(sampled.ids, sampled.logprobs))
    except Exception as exc:  # a defect of ours or of a library must not take the other episodes along
        log.exception("item %s", one.item.example.id)
        one.episode.close(StopReason.ENGINE_ERROR, f"{type(exc).__name__}: {exc}")
        return None
    return outcome.message if isinstance(outcome, Continue) else None


def _end(one: _Playing, settings: Settings) -> Played:
    tokens, trace, drawing = one.tokens, None, 0.0
    if one.episode is not None:
        trace, drawing = one.episode.trace(), one.episode.seconds
    if not tokens.ids:
        tokens.stand_in(Image.new("RGB", _BLANK, "gray"))
    tokens.end()
    usage = {"prompt": tokens.prompt, "response": len(tokens.mask), "sampled": sum(tokens.mask)}
    files = one.question.files if one.question else ()
    detail = trace.detail if trace else one.detail
    example = one.question.example if one.question else one.item.example
    record = Record(example, trace, detail, files, one.sample, settings.beta, usage)
    if record.stop_reason in FAILURES:
        tokens.mask = [0] * len(tokens.mask)
    return Played(tokens, record, {"generating": one.generating, "drawing": drawing, "reward": record.seconds})
