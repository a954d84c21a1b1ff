"""How many tokens a question will have, images expanded, without decoding them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from PIL import Image

from vilasr.images import ImageError, SizeRule
from vilasr.messages import Message, Picture
from vilasr.prompts import Profile
from vilasr.tasks import DataError, find_image
from vilasr.training.grpo.item import Item
from vilasr.training.lengths import TokenCounter


@dataclass(frozen=True, slots=True)
class _Size:
    """Stands for an image where only its size matters."""

    width: int
    height: int


class TooLong(str):
    """Why a question cannot be asked."""


class PromptLength:
    """Tells questions of more than `limit` tokens."""

    def __init__(self, profile: Profile, counter: TokenCounter, limit: int) -> None:
        self._profile, self._counter, self._limit = profile, counter, limit
        self._most = _largest(profile.image)

    def why_not(self, item: Item) -> TooLong | None:
        """None if the question fits. Image files are opened only where the largest size images can have would not fit;
        one that cannot be found or read is found so by its episode."""
        count = len(item.example.image_paths)
        if self._tokens(item, [self._most] * count) <= self._limit:
            return None
        try:
            tokens = self._tokens(item, [self._size(item, name) for name in item.example.image_paths])
        except (DataError, ImageError, OSError):
            return None
        if tokens <= self._limit:
            return None
        return TooLong(f"its question has {tokens} tokens, more than max_prompt_length={self._limit}")

    def _tokens(self, item: Item, sizes: list[_Size]) -> int:
        ex, profile = item.example, self._profile
        pictures = [Picture(number, cast(Any, size)) for number, size in enumerate(sizes, 1)]
        question = profile.question_message(
            ex.question, ex.options, ex.question_type, ex.caption_kind, pictures, task=ex.task, source=ex.source
        )
        system = profile.system_message(sizes[0].width, sizes[0].height)
        messages: list[Message] = [question] if system is None else [system, question]
        turns = [(message.role, message.text()) for message in messages]
        return self._counter.count(turns, [(size.width, size.height) for size in sizes])

    def _size(self, item: Item, name: str) -> _Size:
        path = find_image(name, Path(item.file), Path(item.data_root) if item.data_root else None)
        with Image.open(path) as image:
            return _Size(*self._profile.image.final_size(*image.size))


def _largest(rule: SizeRule) -> _Size:
    """As many tokens as an image can have, and as many digits as its sides are likely to have."""
    side = rule.factor
    return _Size(rule.max_pixels // side // side * side, side)
