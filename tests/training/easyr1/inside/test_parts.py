"""Ours against EasyR1's own: images, grids, positions, the images a row is trained on, loss of rows without a sampled
token, and what stands in the place of its names."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from verl.models.transformers.qwen2_vl import get_rope_index
from verl.protocol import DataProto
from verl.trainer.core_algos import average_loss, compute_grpo_outcome_advantage
from verl.utils.dataset import process_image

from vilasr.training.easyr1.batch import TRAJECTORY, grids

PATCH, MERGE = 14, 2


@pytest.fixture(scope="module")
def processor():
    from transformers import Qwen2VLImageProcessorFast

    return SimpleNamespace(
        image_processor=Qwen2VLImageProcessorFast(min_pixels=3136, max_pixels=12845056),
        tokenizer=SimpleNamespace(
            convert_tokens_to_ids=lambda text: {"<|image_pad|>": 7, "<|video_pad|>": 8, "<|vision_start|>": 6}[text]
        ),
    )


@pytest.mark.parametrize("size", [(56, 56), (84, 84), (588, 588), (504, 392), (28, 1120), (448, 28)])
def test_images_of_final_size_stay_and_have_our_grids(processor, size):
    image = Image.new("RGB", size, "red")
    same = process_image(image, None, None)
    assert same.size == size
    made = processor.image_processor(images=[same], return_tensors="pt")
    assert made["image_grid_thw"].tolist() == grids([image], PATCH).tolist()
    assert grids([image], PATCH).prod() // MERGE**2 == size[0] * size[1] // 28**2


def test_positions_are_transformers_own(processor):
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

    images = [Image.new("RGB", (84, 56)), Image.new("RGB", (56, 112))]
    pads = [image.width * image.height // 784 for image in images]
    ids = torch.tensor([1, 2, 6, *[7] * pads[0], 3, 4, 5, 6, *[7] * pads[1], 3, 9])
    made = get_rope_index(processor, ids, image_grid_thw=grids(images, PATCH), attention_mask=torch.ones_like(ids))
    vision = SimpleNamespace(spatial_merge_size=MERGE, tokens_per_second=2)
    config = SimpleNamespace(vision_config=vision, image_token_id=7, video_token_id=8, vision_start_token_id=6)
    theirs, _ = Qwen2_5_VLModel.get_rope_index(
        SimpleNamespace(config=config), ids[None], grids(images, PATCH), None, None, torch.ones_like(ids)[None]
    )
    assert torch.equal(made.long(), theirs[:, 0].long())


def test_each_sample_is_trained_on_its_own_images(processor, monkeypatch):
    """EasyR1's own method, with and without our mixin's: it keeps images by question."""
    monkeypatch.setitem(os.environ, "WG_BACKEND", "ray")
    import verl.workers.fsdp_workers as fsdp_workers

    from vilasr.training.easyr1.worker import DrawingWorker

    colours = ["red", "green", "blue", "white"]
    images = [{"images": [Image.new("RGB", (56, 56), colour)]} for colour in colours]

    def data(**objects) -> DataProto:
        return DataProto(
            batch=None,
            non_tensor_batch={
                "uid": np.array(["q1", "q1", "q2", "q2"], dtype=object),
                "multi_modal_data": np.array(images, dtype=object),
                **objects,
            },
            meta_info={"min_pixels": None, "max_pixels": None, "video_fps": 2.0},
        )

    def pixels(worker_class, given: DataProto) -> list[float]:
        worker = object.__new__(worker_class)
        worker._cache, worker.processor = {}, processor
        worker_class._process_multi_modal_inputs(worker, given)
        return [float(one["pixel_values"][0].mean()) for one in given.non_tensor_batch["multi_modal_inputs"]]

    alone = [
        float(processor.image_processor(images=one["images"], return_tensors="pt")["pixel_values"][0].mean())
        for one in images
    ]
    theirs = pixels(fsdp_workers.FSDPWorker, data())
    assert theirs == [alone[0], alone[0], alone[2], alone[2]], "EasyR1 has changed: look whether ours is still needed"
    given = data(**{TRAJECTORY: np.array(list("abcd"), dtype=object)})
    assert pixels(DrawingWorker, given) == alone
    assert given.non_tensor_batch["uid"].tolist() == ["q1", "q1", "q2", "q2"], "the advantage is by question"


@pytest.mark.parametrize("mode", ["token", "seq"])
def test_a_row_without_a_sampled_token_moves_nothing(mode):
    mask = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0]], dtype=torch.float32)
    losses = torch.full((2, 4), 3.0)
    assert torch.isfinite(average_loss(losses, mask, mode=mode))
    rewards = torch.zeros(2, 4)
    rewards[0, 3] = 1.0
    advantages, _ = compute_grpo_outcome_advantage(rewards, mask, np.array(["q", "q"], dtype=object))
    assert torch.isfinite(advantages).all()
    assert advantages[1].abs().sum() == 0
    assert advantages[0, 3] > 0, "its 0 counts in its group's mean"


def test_easyr1_has_the_names_that_are_given_ours():
    """A name that is gone would be set, and nothing of ours would run."""
    import verl.trainer.main as main
    import verl.trainer.ray_trainer as ray_trainer
    import verl.workers.fsdp_workers as fsdp_workers

    for owner, names in {
        main: ("FSDPWorker", "AutoRewardManager", "RayPPOTrainer", "create_dataloader"),
        ray_trainer: ("Tracker",),
        fsdp_workers: ("vLLMRollout", "AutoModelForImageTextToText"),
        ray_trainer.RayPPOTrainer: ("_make_batch_data", "_validate", "fit", "init_workers"),
    }.items():
        assert all(hasattr(owner, name) for name in names), owner


def test_the_worker_is_built_as_easyr1_builds_actors():
    from verl.single_controller.base.decorator import MAGIC_ATTR

    from vilasr.training.easyr1.worker import DrawingWorker, _Drawing

    assert DrawingWorker.__base__ is _Drawing
    assert hasattr(DrawingWorker.compute_log_probs, MAGIC_ATTR), "a method that is not registered is not remote"
    assert DrawingWorker.__mro__.index(_Drawing) < len(DrawingWorker.__mro__) - 2


def test_what_vllm_is_asked(monkeypatch):
    """The adapter that is trained samples; seeds are a request's own; nothing is biased; an output of an earlier call
    that was cut off answers nobody."""
    from vllm import SamplingParams

    from vilasr.training.easyr1.rollout import VllmSteps

    asked: list[tuple] = []
    chat = SimpleNamespace(end=1, end_of_text=2, forbidden={5, 4})
    one = SimpleNamespace(
        token_ids=[9, 1], logprobs=[{9: SimpleNamespace(logprob=-0.5)}, {1: SimpleNamespace(logprob=-0.1)}]
    )
    one.finish_reason = "stop"

    def step() -> list:
        names = [asked[0][0], "earlier/0.0"]
        return [SimpleNamespace(finished=True, request_id=name, outputs=[one]) for name in names]

    engine = SimpleNamespace(
        add_request=lambda name, prompt, params, lora_request: asked.append((name, prompt, params, lora_request)),
        has_unfinished_requests=lambda: True,
        step=step,
    )
    base = SamplingParams(temperature=1.0, n=8, seed=1, logit_bias={3: -100.0}, max_tokens=999)
    steps = VllmSteps(engine, base, chat, "adapter")
    steps.add("0.0", [7], ["image"], 5, 77)
    _, prompt, params, lora = asked[0]
    assert lora == "adapter"
    assert prompt == {"prompt_token_ids": [7], "multi_modal_data": {"image": ["image"]}}
    assert (params.n, params.seed, params.max_tokens, params.logit_bias, params.logprobs) == (1, 77, 5, None, 0)
    assert params.stop_token_ids == [1, 2, 4, 5]
    [sampled] = steps.step()
    assert (sampled.name, sampled.ids, sampled.logprobs) == ("0.0", [9, 1], [-0.5, -0.1])
    base.temperature, base.n = 0.0, 1  # as in validation
    steps.add("0.1", [7], [], 5, 77)
    assert asked[1][2].seed is None
