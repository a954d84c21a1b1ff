"""The size at which LLaMA-Factory shows an image, against its own code and the image processor's."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest
from PIL import Image

from tests.data_check.test_items import BROKEN
from vilasr.data_check import Limits, limits_of
from vilasr.images import ImageError, SizeRule
from vilasr.tasks import DataError


def test_a_known_size():
    assert Limits(200_704, 3136).shown(640, 480) == (504, 392)
    assert Limits().shown(640, 480) == (644, 476)
    assert Limits().shown(168, 140) == (168, 140)


def test_limits_of_a_recipe(tmp_path):
    assert limits_of({}) == Limits(768 * 768, 32 * 32)
    assert limits_of({"image_max_pixels": 351232, "model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct"}).processor.factor
    (tmp_path / "preprocessor_config.json").write_text('{"min_pixels": 784, "max_pixels": 100352}')
    assert limits_of({"model_name_or_path": str(tmp_path)}).processor == SizeRule(28, 784, 100352)
    newer = {"image_processor": {"patch_size": 16, "size": {"shortest_edge": 1024, "longest_edge": 65536}}}
    (tmp_path / "processor_config.json").write_text(json.dumps(newer))
    assert limits_of({"model_name_or_path": str(tmp_path)}).processor == SizeRule(32, 1024, 65536)
    (tmp_path / "processor_config.json").write_text("{")
    with pytest.raises(DataError, match=r"processor_config\.json"):
        limits_of({"model_name_or_path": str(tmp_path)})
    with pytest.raises(DataError, match="image_min_pixels"):
        limits_of({"image_min_pixels": 10**6})


@pytest.mark.engine
def test_sizes_equal_llamafactorys():
    """Random sizes and limits through LLaMA-Factory's plugin and the real processor's resize."""
    from llamafactory.data.mm_plugin import Qwen2VLPlugin
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    plugin = Qwen2VLPlugin(image_token="<|image_pad|>", video_token=None, audio_token=None)
    rng = random.Random(0)
    compared = 0
    for number in range(600):
        size = [round(10 ** rng.uniform(0, 3.1)) for _ in range(2)]
        if number % 3 == 0:
            size = [28 * max(1, side // 28) for side in size]
        most = rng.choice((200_704, 351_232, 1_003_520, 784 * rng.randint(4, 900)))
        least = rng.choice((1024, 3136, most // 4))
        rule = SizeRule(28, rng.choice((3136, 784)), rng.choice((12845056, 351_232)))
        try:
            ours = Limits(most, least, rule).shown(*size)
        except ImageError:
            ours = None
        try:
            image = plugin._preprocess_image(Image.new("L", size), image_max_pixels=most, image_min_pixels=least)
            height, width = smart_resize(image.height, image.width, 28, rule.min_pixels, rule.max_pixels)
            theirs = (width, height)
        except ValueError:
            theirs = None
        assert ours == theirs, (size, most, least, rule)
        compared += ours is not None
    assert compared > 400


@pytest.mark.engine
def test_grids_equal_those_of_a_real_processor(nano):
    from llamafactory.data.mm_plugin import Qwen2VLPlugin
    from transformers import AutoImageProcessor

    limits = limits_of({"model_name_or_path": str(nano), "image_max_pixels": 100_000, "image_min_pixels": 3136})
    processor = AutoImageProcessor.from_pretrained(nano)
    plugin = Qwen2VLPlugin(image_token="<|image_pad|>", video_token=None, audio_token=None)
    rng = random.Random(1)
    for _ in range(60):
        size = rng.randint(20, 900), rng.randint(20, 900)
        image = plugin._preprocess_image(Image.new("RGB", size), image_max_pixels=100_000, image_min_pixels=3136)
        _, rows, columns = processor(image, return_tensors="pt")["image_grid_thw"][0].tolist()
        assert limits.shown(*size) == (columns * 14, rows * 14)


@pytest.mark.engine
@pytest.mark.parametrize(("code", "field", "record"), BROKEN, ids=[f"{n}-{b[0]}" for n, b in enumerate(BROKEN)])
def test_what_is_said_to_stop_or_drop_does(tmp_path, code, field, record):
    """LLaMA-Factory's own converter and message check, on the items of the table."""
    from llamafactory.data.converter import SharegptDatasetConverter
    from llamafactory.data.mm_plugin import Qwen2VLPlugin
    from llamafactory.data.parser import DatasetAttr

    from vilasr.data_check.problems import Effect, effect_of
    from vilasr.sft_files import DATASET_ENTRY

    attributes = DatasetAttr("file", dataset_name="sft.json")
    attributes.join(DATASET_ENTRY)
    convert = SharegptDatasetConverter(attributes, SimpleNamespace(media_dir=str(tmp_path)))
    plugin = Qwen2VLPlugin(image_token="<|image_pad|>", video_token=None, audio_token=None)
    effect = Effect.WRONG
    try:
        converted = convert(record)
        messages = converted["_prompt"] + converted["_response"]
        if len(converted["_prompt"]) % 2 != 1 or len(converted["_response"]) != 1:
            effect = Effect.DROPPED
        else:
            plugin._validate_messages(messages, converted["_images"] or [], [], [])
    except (TypeError, KeyError, ValueError, AttributeError):
        effect = Effect.STOPS
    expected = effect_of(code)
    if code == "bad_item" and field == "images[1]":
        return  # stops only when the image is opened
    assert effect is (expected or Effect.WRONG)
