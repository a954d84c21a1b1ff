"""What a GRPO run is estimated to take of its machines' memory and disk."""

from __future__ import annotations

from dataclasses import replace

import pytest
from omegaconf import DictConfig, OmegaConf

from tests.training.grpo.test_config import ACTOR, DYNAMIC, ROLLOUT, changed, composed
from tests.training.test_preflight import FULL
from vilasr.prompts import default_profile
from vilasr.training.grpo.host_memory import Asked, host_memory
from vilasr.training.grpo.memory import disk_needed, estimate, trained, weight_bytes
from vilasr.training.grpo.nodes import Nodes
from vilasr.training.grpo.preflight import host_finding, memory_finding

GPU = 80 * 10**9

pytestmark = pytest.mark.engine  # verl's configuration, composed again and again


@pytest.fixture(scope="module")
def recipe() -> DictConfig:
    return composed("config_grpo")


def test_memory_of_the_7b_recipe(recipe):
    one, eight = (estimate(FULL, recipe, world, GPU) for world in (1, 8))
    assert one.states == 16 * FULL.total, "float32: weights, gradients, two moments"
    assert eight.states == pytest.approx(one.states / 8)
    assert eight.activations == one.activations, "each GPU has an episode of its own"
    assert not memory_finding(eight, GPU, GPU).bad
    assert memory_finding(one, GPU, GPU).bad
    assert "other programs hold the rest" in memory_finding(eight, GPU, GPU // 2).text
    shared = estimate(FULL, changed(recipe, f"{ROLLOUT}.free_cache_engine=false"), 8, GPU)
    assert shared.learning == eight.learning + eight.rollout, "else the two do not meet"
    offloaded = estimate(FULL, changed(recipe, f"{ACTOR}.fsdp_config.optimizer_offload=true"), 8, GPU)
    assert offloaded.states == pytest.approx(eight.states / 2)


def test_log_probs_take_memory_of_their_own(recipe):
    """verl asks for the entropy with them, over the whole sequence unless its fused kernel works in pieces."""
    whole, pieces = (
        estimate(FULL, changed(recipe, f"actor_rollout_ref.model.use_fused_kernels={fused}"), 32, GPU)
        for fused in ("false", "true")
    )
    logits = 14 * 18432 * FULL.vocabulary
    assert whole.scores > logits > 3 * pieces.scores
    assert whole.scoring == whole.states - whole.gradients + whole.scores, "no gradients are kept from the last step"
    assert whole.activations - pieces.activations > 0.9 * 10 * 18432 * FULL.vocabulary
    assert pieces.scoring < pieces.learning
    long = estimate(FULL, changed(recipe, "actor_rollout_ref.model.use_fused_kernels=false", *DYNAMIC), 32, GPU)
    assert long.scores == whole.scores, "a micro-batch by tokens holds one episode at least"
    twice = changed(
        recipe, "actor_rollout_ref.model.use_fused_kernels=false", f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu=2"
    )
    found = memory_finding(estimate(FULL, twice, 32, GPU), GPU, GPU)
    assert found.bad
    assert "model.use_fused_kernels=true" in found.text


def test_memory_and_disk_with_adapters(recipe):
    config = composed("config_grpo_lora")
    assert trained(FULL, config) < 0.03 * FULL.total
    assert weight_bytes(config) == 4, "in bf16 the steps of AdamW on the adapters would round to nothing"
    found = memory_finding(estimate(FULL, config, 1, GPU), GPU, GPU)
    assert not found.bad, "one GPU of 80 GB"
    assert "tight" not in found.text
    assert disk_needed(FULL, config) < disk_needed(FULL, recipe) / 2
    alone = changed(config, f"{ACTOR}.checkpoint.save_lora_only=true")
    assert disk_needed(FULL, alone) < disk_needed(FULL, recipe) / 20
    assert disk_needed(FULL, recipe) == 4 * 12 * FULL.total, "three are kept, one is written"


def test_ram_of_a_node(recipe):
    profile, asked = default_profile(), Asked(500, 1.0)
    profile = replace(profile, image=replace(profile.image, max_pixels=200704))
    one = changed(recipe, "data.val_batch_size=64")
    need = host_memory(FULL, one, profile, Nodes(1, 8, 8, 64), asked)
    assert need.images == 256 * 11 * 200704 // 196 * 1176 * 4, "a step's, in float32, until it ends"
    assert need.loading == 4 * FULL.total, "by the first process"
    assert need.resting == 0, "vLLM lets weights go that the actor sends anew"
    OmegaConf.update(one, "data.val_batch_size", None)
    assert host_memory(FULL, one, profile, Nodes(1, 8, 8, 64), asked).images == need.images * 500 // 256, "all at once"
    four = host_memory(FULL, recipe, profile, Nodes(4, 8, 8, 64), Asked(1, 1.0))
    assert four.images == need.images // 4, "shared by the nodes"
    assert host_memory(FULL, recipe, profile, Nodes(1, 8, 8, 64), asked, tied=True).loading == 8 * need.loading
    adapters = changed(recipe, "actor_rollout_ref.model.lora_rank=64", f"{ROLLOUT}.tensor_model_parallel_size=1")
    assert host_memory(FULL, adapters, profile, Nodes(1, 2, 2, 64), asked).resting == 4 * FULL.total, "of two engines"
    assert not host_finding(need, 10**12, 10**12).bad
    assert "use a lower data.train_batch_size" in host_finding(replace(need, loading=0), 10**10, 10**10).text
    assert "a machine with more" in host_finding(need, 10**10, 10**10).text
    assert "other programs hold the rest" in host_finding(need, 10**12, 10**10).text
    assert not host_finding(need, 10**10, 10**10, here=False).bad, "another machine's"
