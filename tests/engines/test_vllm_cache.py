"""Our prompts and vLLM's two caches of images' features, this side's and the other's: the real caches, no model."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from vilasr.engines.vllm_prompt import NotCached, Prompt, check_prompt, engine_input

pytestmark = pytest.mark.engine

SIZE = 1000  # bytes of an image's features
ROOM = 3  # images
TOKENS = 4


class BothSides:
    """What reaches the model of each prompt that is handed over."""

    def __init__(self) -> None:
        import torch
        from vllm.multimodal.cache import MultiModalProcessorSenderCache, MultiModalReceiverCache
        from vllm.multimodal.inputs import MultiModalFeatureSpec, MultiModalKwargsItem, PlaceholderRange

        room = SimpleNamespace(mm_processor_cache_gb=(ROOM + 0.5) * SIZE / 2**30)
        config: Any = SimpleNamespace(get_multimodal_config=lambda: room)
        self.here = MultiModalProcessorSenderCache(config)
        self.there = MultiModalReceiverCache(config)
        vision = SimpleNamespace(spatial_merge_size=2)
        model = SimpleNamespace(hf_config=SimpleNamespace(vision_config=vision))
        self.engine = SimpleNamespace(renderer=SimpleNamespace(mm_processor_cache=self.here), model_config=model)
        grid = MultiModalKwargsItem.dummy(1)["dummy"]
        grid.data = torch.tensor([1, 4, TOKENS])
        self._grid, self._item = grid, MultiModalKwargsItem
        self._feature, self._place = MultiModalFeatureSpec, PlaceholderRange

    def features(self, key: str) -> Any:
        item = self._item.dummy(SIZE - 24)
        item["dummy"].data[:] = ord(key)
        item["image_grid_thw"] = self._grid
        return item

    def play(self, keys: str, given: str) -> str:
        """Hands over a prompt of images with the features of those `given`. Returns what the model gets of each."""
        places = tuple((10 * number, TOKENS) for number in range(len(keys)))
        prompt = Prompt([0] * 99, tuple(keys), places, {key: self.features(key) for key in given})
        check_prompt(self.engine, prompt)
        items = engine_input(self.engine, prompt)["mm_kwargs"]["image"]
        sent = [
            self._feature(item, "image", key, self._place(offset=place, length=TOKENS), mm_hash=key)
            for item, key, (place, _) in zip(items, keys, places, strict=True)
        ]
        got = self.there.get_and_update_features(sent)
        return "".join(chr(int(feature.data["dummy"].data[0])) for feature in got)


def test_what_comes_first_does_not_push_out_what_comes_later():
    """Room for three: of `ab`, `a` was pushed out, and is handed over again while `b` is next in line."""
    sides = BothSides()
    assert sides.play("ab", "ab") == "ab"
    assert sides.play("xy", "xy") == "xy"
    with pytest.raises(NotCached) as missing:
        sides.play("ab", "")
    assert missing.value.keys == ("a",)
    assert sides.play("ab", "a") == "ab"


@pytest.mark.parametrize("seed", range(5))
def test_both_sides_always_agree(seed):
    """Random prompts of one to five images, with room for three: each reaches the model as it is, in two rounds."""
    sides, chance = BothSides(), random.Random(seed)
    refused = 0
    for _ in range(400):
        keys = "".join(chance.choices("abcdefgh", k=chance.randint(1, 5)))
        try:
            got = sides.play(keys, "")
        except NotCached as missing:
            refused += 1
            got = sides.play(keys, "".join(missing.keys) if len(set(keys)) <= ROOM else keys)
        assert got == keys
    assert refused > 50
    assert list(sides.here._cache) == list(sides.there._cache)


def test_another_size_than_its_tokens_changes_nothing():
    sides = BothSides()
    prompt = Prompt([0] * 9, ("a",), ((0, TOKENS + 1),), {"a": sides.features("a")})
    with pytest.raises(ValueError, match="5 tokens has features of 4: its size is not final"):
        check_prompt(sides.engine, prompt)
    assert not list(sides.here._cache)
