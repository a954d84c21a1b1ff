"""What single things cost a model on its GPU, each measured alone: a decode step, a prompt token, an image."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from vilasr.engines.vllm_engine import VllmEngine
from vilasr.engines.vllm_prompt import Conversation

SHORT, LONG = 16, 80  # tokens of two replies, whose difference is a decode step's
PROMPT = 512


class Costs:
    """Asks `engine` for conversations of its own making; nothing of one is in the prefix cache for another."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self._chance = random.Random(0)
        self._words = engine.chat.text(" left right up down near far door chair lamp table sofa again")
        self._colours = np.random.default_rng(0)

    def decode(self, batch: int) -> float:
        """Seconds of a step of `batch` sequences."""
        long, short = (self._seconds([self._talk(64) for _ in range(batch)], count) for count in (LONG, SHORT))
        return (long - short) / (LONG - SHORT)

    def prompt_token(self, batch: int = 16, tokens: int = PROMPT) -> float:
        """Seconds a token of prompts of `tokens`, `batch` of them together."""
        return self._seconds([self._talk(tokens) for _ in range(batch)], 1) / batch / tokens

    def image(self, size: tuple[int, int], batch: int = 16) -> float:
        """Seconds an image takes that has been made into features: encoding it, without its tokens' prefill."""
        talks = [self._talk(64, size) for _ in range(batch)]
        plain = [self._talk(len(talk.expanded)) for talk in talks]
        return (self._seconds(talks, 1) - self._seconds(plain, 1)) / batch

    def _talk(self, tokens: int, size: tuple[int, int] | None = None) -> Conversation:
        chat, talk = self._engine.chat, Conversation()
        ids = self._chance.choices(self._words, k=tokens)
        images: Sequence[Image.Image] = ()
        if size is not None:
            ids += [chat.vision_start, chat.image_pad, chat.vision_end]
            small = Image.fromarray(self._colours.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            images = [small.resize(size)]
        talk.add(ids, images, chat.image_pad, 28 * 28)
        return talk

    def _seconds(self, talks: Sequence[Conversation], count: int) -> float:
        async def run() -> float:
            prompts = [await self._engine.features.prompt(talk) for talk in talks]  # not part of what is measured
            started = time.perf_counter()
            await asyncio.gather(*(self._engine._submit(prompt, self._params(count)) for prompt in prompts))
            return time.perf_counter() - started

        return asyncio.run(run())

    def _params(self, count: int) -> Any:
        params = self._engine._params(count, 0)  # as of a turn
        params.temperature = 0.0
        params.max_tokens = params.min_tokens = count
        params.ignore_eos, params.stop_token_ids = True, []
        return params
