"""A session's prompt as vLLM's engine takes it: tokens with images expanded, and each image's features by its content.

vLLM's own way from images to features goes through the whole conversation each turn (it hashes every image, and looks
for every placeholder); here what was there before is only counted. Tests compare both.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from PIL import Image


@dataclass
class Conversation:
    """`ids` hold one pad an image, `expanded` as many as the image has tokens; `places` are (offset, length) of the
    images' pads in `expanded`; `keys` name the images by their content, as far as they were handed to vLLM."""

    ids: list[int] = field(default_factory=list)
    expanded: list[int] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    turn_ended: bool = True

    def add(self, ids: Sequence[int], images: Sequence[Image.Image], pad: int, unit: int) -> None:
        """Append messages' ids, with one `pad` for each of `images`; a token shows `unit` pixels."""
        self.ids += ids
        self.images += images
        lengths = (image.width * image.height // unit for image in images)
        for token in ids:
            if token != pad:
                self.expanded.append(token)
                continue
            length = next(lengths)
            self.places.append((len(self.expanded), length))
            self.expanded += [pad] * length

    def keep(self, ids: Sequence[int]) -> None:
        """Append sampled ids."""
        self.ids += ids
        self.expanded += ids


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one turn asks. `items` are features of images by key; vLLM has those of the others already."""

    ids: list[int]
    keys: tuple[str, ...] = ()
    places: tuple[tuple[int, int], ...] = ()
    items: Mapping[str, Any] = field(default_factory=dict)


class NotCached(Exception):
    """vLLM's cache has dropped the features of the images of these keys: hand them over again."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"features of {len(keys)} images are no longer cached")
        self.keys = tuple(keys)


def image_key(image: Image.Image) -> str:
    """Names an image by what it shows: equal pictures of several episodes are encoded once."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=20)
    digest.update(image.tobytes())
    return digest.hexdigest()


class Features:
    """Makes images' features (pixel values by patch, and their grid) in threads, each image once.

    `make` is called in a thread of `threads`; `cached` tells whether vLLM has the features of a key.
    """

    def __init__(self, make: Callable[[Image.Image], Any], cached: Callable[[str], bool], threads: int = 0) -> None:
        self._make = make
        self._cached = cached
        self._pool = ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1), thread_name_prefix="images")
        self._making: dict[str, Future] = {}  # equal images of samples that start together

    async def prompt(
        self, conversation: Conversation, again: Sequence[str] = (), items: Mapping[str, Any] | None = None
    ) -> Prompt:
        """The conversation so far, with the features of its new images and of those asked for `again`; `items` are
        there already, by key."""
        items = items or {}
        new = conversation.images[len(conversation.keys) :]
        if new:
            conversation.keys += await asyncio.gather(*(self._run(image_key, image) for image in new))
        keys = conversation.keys
        wanted = {
            key: image
            for number, (key, image) in enumerate(zip(keys, conversation.images, strict=True))
            if key in again or (number >= len(keys) - len(new) and not self._cached(key))
        }
        made = await asyncio.gather(*(self._item(key, image) for key, image in wanted.items()))
        items = {**items, **dict(zip(wanted, made, strict=True))}
        return Prompt(list(conversation.expanded), tuple(keys), tuple(conversation.places), items)

    async def _item(self, key: str, image: Image.Image) -> Any:
        future = self._making.get(key)
        if future is None:
            future = self._making[key] = self._pool.submit(self._make, image)
            future.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(asyncio.wrap_future(future))  # others may wait for it too

    async def _run(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(self._pool.submit(call, *args))

    def close(self) -> None:
        self._pool.shutdown(wait=False)  # cancelling what waits there would end its episodes without a word


def feature_maker(engine: Any, kwargs: Mapping[str, Any]) -> Callable[[Image.Image], Any]:
    """The checkpoint's own image processor, and its output as vLLM's engine takes it. `kwargs` are those of the
    processor that vLLM was started with."""
    from vllm.multimodal.inputs import MultiModalKwargsItems

    processor = engine.renderer.get_mm_processor()
    images = processor.info.get_image_processor(**kwargs)
    dtype = engine.model_config.dtype

    def make(image: Image.Image) -> Any:
        made = images(images=[image], return_tensors="pt")
        made["pixel_values"] = made["pixel_values"].to(dtype)
        return MultiModalKwargsItems.from_hf_inputs(made, processor._get_mm_fields_config(made, {}))["image"][0]

    return make


def check_prompt(engine: Any, prompt: Prompt) -> None:
    """Raises NotCached, or ValueError for an image whose features are of another size than its tokens; before anything
    is changed."""
    cache = engine.renderer.mm_processor_cache
    if absent := [key for key in prompt.keys if key not in prompt.items and not cache.is_cached_item(key)]:
        raise NotCached(absent)
    for key, (_, length) in zip(prompt.keys, prompt.places, strict=True):
        if key in prompt.items and (made := _tokens(engine, prompt.items[key])) != length:
            raise ValueError(f"an image of {length} tokens has features of {made}: its size is not final")


def engine_input(engine: Any, prompt: Prompt) -> Any:
    """A checked `prompt` as an input of vLLM's `LLMEngine.add_request`, its features passed through vLLM's cache. To be
    called by one thread, and followed by `add_request`: the cache mirrors that of the engine's process."""
    from vllm.inputs.engine import mm_input, tokens_input
    from vllm.multimodal.inputs import MultiModalKwargsItems, PlaceholderRange

    if not prompt.keys:
        return tokens_input(prompt.ids)
    cache = engine.renderer.mm_processor_cache
    for key in prompt.keys:  # as the other side does: what comes first must not push out what comes later
        cache.touch_sender_cache_item(key)
    items = [cache.get_and_update_item(_cacheable(prompt.items.get(key)), key)[0] for key in prompt.keys]
    return mm_input(
        prompt.ids,
        MultiModalKwargsItems({"image": items}),
        {"image": list(prompt.keys)},
        {"image": [PlaceholderRange(offset=offset, length=length) for offset, length in prompt.places]},
    )


def _cacheable(item: Any) -> Any:
    return None if item is None else (item, [])  # vLLM's own way keeps what it replaces in prompts beside


def _tokens(engine: Any, item: Any) -> int:
    merge = engine.model_config.hf_config.vision_config.spatial_merge_size
    return int(item["image_grid_thw"].data.prod()) // merge**2
