"""An engine that stands where vLLM's does (`vilasr.training.easyr1.play.Steps`): scripted replies, each as many steps
long as it is told; and questions in files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from vilasr.engines.chat import ChatTokens
from vilasr.engines.vllm_prompt import image_key
from vilasr.tasks import Example
from vilasr.training.easyr1.play import Sampled
from vilasr.training.grpo.item import Item


@dataclass(frozen=True)
class Cut:
    """A reply at its limit: without its end."""

    text: str


@dataclass(frozen=True)
class Failure:
    """What the engine says of a request that it gave up."""

    why: str


# Text is followed by the end of the turn; ids are as they are; an exception is raised where the request is made.
Scripted = str | Cut | Failure | Exception | Sequence[int]


@dataclass(frozen=True)
class Asked:
    name: str
    ids: tuple[int, ...]
    images: tuple[str, ...]
    max_tokens: int
    seed: int

    @property
    def number(self) -> int:
        return int(self.name.split(".")[0])


@dataclass
class ScriptedSteps:
    """`replies` by the episode's number and its turn. A request takes `steps(name)` steps; those that end together do
    so in `order`, by name. `log` is all that was asked and all that ended (a tuple of names each step)."""

    chat: ChatTokens
    replies: Callable[[int, int], Scripted]
    steps: Callable[[str], int] = lambda name: 1
    order: Callable[[str], object] = lambda name: name
    log: list[Asked | tuple[str, ...]] = field(default_factory=list)
    _running: dict[str, int] = field(default_factory=dict)

    @property
    def asked(self) -> list[Asked]:
        return [entry for entry in self.log if isinstance(entry, Asked)]

    def ended(self, number: int) -> list[int]:
        """The steps, from 1, in which the requests of an episode ended."""
        names = [entry for entry in self.log if not isinstance(entry, Asked)]
        return [step for step, some in enumerate(names, 1) for name in some if name.startswith(f"{number}.")]

    def add(self, name: str, ids: list[int], images: list[Image.Image], max_tokens: int, seed: int) -> None:
        assert name not in self._running, f"{name} was asked twice"
        self.log.append(Asked(name, tuple(ids), tuple(map(image_key, images)), max_tokens, seed))
        reply = self._reply(name)
        if isinstance(reply, Exception):
            raise reply
        self._running[name] = self.steps(name)

    def step(self) -> list[Sampled]:
        assert self._running, "a step with nothing to do"
        for name in self._running:
            self._running[name] -= 1
        ended = sorted((name for name, left in self._running.items() if left == 0), key=self.order)
        for name in ended:
            del self._running[name]
        self.log.append(tuple(ended))
        return [self._sampled(name) for name in ended]

    def _reply(self, name: str) -> Scripted:
        number, turn = map(int, name.split("."))
        return self.replies(number, turn)

    def _sampled(self, name: str) -> Sampled:
        reply = self._reply(name)
        if isinstance(reply, Failure):
            return Sampled(name, failure=reply.why)
        ids = ids_of(self.chat, reply)
        return Sampled(name, ids, [logprob(name)] * len(ids))


def logprob(name: str) -> float:
    """Of all tokens of a reply: -1 of the first turn, -2 of the second."""
    return -1.0 - int(name.split(".")[1])


def ids_of(chat: ChatTokens, reply: Scripted) -> list[int]:
    if isinstance(reply, Cut):
        return chat.text(reply.text)
    assert not isinstance(reply, Failure | Exception)
    return [*chat.text(reply), chat.end] if isinstance(reply, str) else list(reply)


def script(replies: Mapping[int, Sequence[Scripted]]) -> Callable[[int, int], Scripted]:
    return lambda number, turn: replies[number][turn]


def _digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def scrambled(salt: str) -> dict[str, Callable]:
    """Requests end at odd times and, of one step, in an odd order: given by the names alone."""
    return {"steps": lambda name: 1 + _digest(salt + name) % 7, "order": lambda name: _digest(name + salt)}


def load_chat(nano: Path) -> ChatTokens:
    from transformers import AutoTokenizer

    return ChatTokens(AutoTokenizer.from_pretrained(nano))


def item_of(example: Example, folder: Path, *, held_out: bool = False) -> Item:
    """The question with its images in files."""
    for name, frame in zip(example.image_paths, example.frames, strict=True):
        frame.save(folder / name)
    return Item(replace(example, frames=()), str(folder / "rl.jsonl"), held_out=held_out)
