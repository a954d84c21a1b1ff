"""The tokens of one training episode, twice: as vLLM takes them, and as the trainer does.

vLLM is given one pad for each image and expands it; the trainer's ids have as many pads as the image has tokens. What
was sampled stays as it was sampled: `mask` is 1 on every sampled token, the end of a turn included, 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from vilasr.engines.chat import ChatTokens
from vilasr.engines.vllm_prompt import Conversation
from vilasr.messages import FinishReason, Message, Reply
from vilasr.training.grpo.rollout import TokenLimits


@dataclass
class Tokens:
    """`prompt` of the expanded ids are the question's; `mask` and `logprobs` (of vLLM; nan where nothing was sampled)
    belong to those after it. A token shows `unit` pixels of an image."""

    chat: ChatTokens
    limits: TokenLimits
    unit: int
    conversation: Conversation = field(default_factory=Conversation)
    prompt: int = 0
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """Expanded."""
        return self.conversation.expanded

    @property
    def compact(self) -> list[int]:
        return self.conversation.ids

    @property
    def images(self) -> list[Image.Image]:
        return self.conversation.images

    @property
    def room(self) -> int:
        """Tokens that the next reply may have."""
        return min(self.limits.turn, self.limits.response - len(self.mask))

    def show(self, messages: Sequence[Message]) -> str | None:
        """Append messages and the beginning of the assistant's turn. Where they, or one token after them, do not fit,
        nothing is appended, and why is returned: so no image is ever cut, and no row is longer than its limit."""
        images = [picture.image for message in messages for picture in message.pictures]
        first = not self.ids
        ids = self.chat.opening(messages) if first else self.chat.following(messages, self.conversation.turn_ended)
        added = len(ids) + sum(image.width * image.height // self.unit - 1 for image in images)
        if first and added > self.limits.prompt:
            return f"the question has {added} tokens, more than the {self.limits.prompt} of a prompt"
        if not first and len(self.mask) + added >= self.limits.response:
            used = f"{len(self.mask)} tokens after the question, {added} more to show"
            return f"{used}: no room for a reply within {self.limits.response}"
        self.conversation.add(ids, images, self.chat.image_pad, self.unit)
        if first:
            self.prompt = len(self.ids)
        else:
            self._mark(added, sampled=False)
        return None

    def take(self, ids: Sequence[int], logprobs: Sequence[float]) -> Reply:
        """Append what was sampled, but for a forbidden token at its end. Raises ValueError where a token has no
        log-probability."""
        if len(ids) != len(logprobs):
            raise ValueError(f"{len(logprobs)} log-probabilities of {len(ids)} tokens")
        kept, finish = list(ids), FinishReason.LENGTH
        if kept and kept[-1] in self.chat.forbidden:
            kept.pop()
            finish = FinishReason.FORBIDDEN_TOKEN
        elif kept and kept[-1] in (self.chat.end, self.chat.end_of_text):
            finish = FinishReason.STOP
        self.conversation.keep(kept)
        self.conversation.turn_ended = bool(kept) and kept[-1] == self.chat.end
        self._mark(len(kept), sampled=True, logprobs=logprobs[: len(kept)])
        spoken = kept[:-1] if finish is FinishReason.STOP else kept
        return Reply(self.chat.decode(spoken), finish, tuple(kept), tuple(logprobs[: len(kept)]))

    def stand_in(self, image: Image.Image) -> None:
        """A question in the place of one that cannot be shown. It has an image, as every other row."""
        ids = [self.chat.vision_start, self.chat.image_pad, self.chat.vision_end]
        self.conversation.add(ids, [image], self.chat.image_pad, self.unit)
        self.prompt = len(self.ids)

    def end(self) -> None:
        """A row needs a token after the question, also where nothing was sampled."""
        if not self.mask:
            self.conversation.keep([self.chat.end])
            self._mark(1, sampled=False)

    def _mark(self, count: int, *, sampled: bool, logprobs: Sequence[float] = ()) -> None:
        self.mask += [int(sampled)] * count
        self.logprobs += logprobs if sampled else [float("nan")] * count
