"""The drawing agent loop with replies of planned lengths: what an episode costs, with weights that cannot draw.

Each reply is really generated, with exactly the planned number of tokens. Its tokens are then replaced by as many of a
reply that draws or answers, with words in its thought until the number is reached; the log-probabilities stay. All else
of the episode is real. The next turn's prompt begins with those other tokens, so a reply is not found in vLLM's prefix
cache, as it otherwise would be, but computed once more.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.golden import answer, boxes, lines
from vilasr.engines.chat import ChatTokens
from vilasr.training.grpo.agent_loop import DrawingAgentLoop
from vilasr.training.grpo.item import Item
from vilasr.training.grpo.rollout import Generate, VerlEngine

PLAN = "plan.json"  # beside the file of the questions: a list of episodes for each id
RIGHT, WRONG = "B", "C"
_THOUGHT = "\x1f"
_SAID = " Next I look at the picture again, go on from the last mark and compare what lies on both sides of it."


@dataclass(frozen=True, slots=True)
class Planned:
    """One episode: tokens of each `reply`, the last being the answer; what it should amount to, in tokens and images,
    if all goes as planned."""

    replies: tuple[int, ...]
    right: bool
    prompt: int
    response: int
    images: int


Plan = dict[str, list[Planned]]


def write_plan(folder: Path, plan: Plan) -> None:
    content = {name: [asdict(planned) for planned in episodes] for name, episodes in plan.items()}
    (folder / PLAN).write_text(json.dumps(content))


@functools.cache
def read_plan(folder: Path) -> Plan:
    content = json.loads((folder / PLAN).read_text())
    return {
        name: [Planned(**{**fields, "replies": tuple(fields["replies"])}) for fields in episodes]
        for name, episodes in content.items()
    }


def texts(draws: int, images: int, right: bool) -> list[str]:
    """Replies that draw, one image each, and answer; `_THOUGHT` stands where words can be put. One question image is
    drawn on by lines, each on the image before; of several, each gets boxes in turn."""
    said = []
    for number in range(draws):
        label, near = f"part {number + 1}", 4 + number
        if images == 1:
            said.append(lines((number + 1, [near, near], [near + 50, near + 40], label), thought=_THOUGHT))
        else:
            said.append(boxes((1 + number % images, [near, near, near + 50, near + 40], label), thought=_THOUGHT))
    return [*said, answer(RIGHT if right else WRONG, thought=_THOUGHT)]


def padded(chat: ChatTokens, text: str, tokens: int = 0) -> list[int]:
    """The tokens of a reply, its end included, with words in its thought that make them `tokens`; 0: without words."""
    before, after = text.split(_THOUGHT)
    start, end = chat.text(before), [*chat.text(after), chat.end]
    room = tokens - len(start) - len(end)
    if tokens and room < 0:
        raise ValueError(f"a reply has {len(start) + len(end)} tokens without a word, and {tokens} were planned")
    words = itertools.cycle(chat.text(_SAID))
    return [*start, *itertools.islice(words, max(0, room)), *end]


def script(chat: ChatTokens, planned: Planned, images: int) -> list[list[int]]:
    """The tokens of each reply to a question with so many images."""
    said = texts(len(planned.replies) - 1, images, planned.right)
    return [padded(chat, text, tokens) for text, tokens in zip(said, planned.replies, strict=True)]


class Sized:
    """Around the `generate` of verl's server client. Raises where a reply did not get the planned number of tokens."""

    def __init__(self, generate: Generate, replies: Sequence[Sequence[int]]) -> None:
        self._generate = generate
        self._left = list(replies)

    async def generate(self, *, sampling_params: Mapping[str, Any], **request: Any) -> Any:
        ids = list(self._left.pop(0))
        count, most = len(ids), sampling_params["max_tokens"]
        if count > most:
            raise ValueError(f"a reply of {count} tokens was planned where {most} are allowed")
        exactly = {"max_tokens": count, "min_tokens": count, "ignore_eos": True, "stop_token_ids": []}
        output = await self._generate(sampling_params={**sampling_params, **exactly}, **request)
        if len(output.token_ids) != count:
            raise RuntimeError(f"{len(output.token_ids)} tokens were generated where {count} were planned")
        return output.model_copy(update={"token_ids": ids})


class SizedLoop(DrawingAgentLoop):
    """The plan lies beside the file of the question."""

    def engine(self, item: Item, sample: int, sampling_params: Mapping[str, Any]) -> VerlEngine:
        engine = super().engine(item, sample, sampling_params)
        planned = read_plan(Path(item.file).parent)[item.example.id][sample]
        replies = script(ChatTokens(self.tokenizer), planned, len(item.example.image_paths))
        engine._generate = Sized(engine._generate, replies).generate
        return engine
