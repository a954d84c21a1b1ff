"""What verl asserts of batch sizes, GPUs and lengths, minutes after its start; here before it, with numbers that fit.

Where: verl/utils/config.py, verl/workers/config/{actor,rollout}.py, verl/workers/engine_workers.py (train_mini_batch,
init_model), verl/workers/engine/utils.py (prepare_micro_batches), verl/trainer/ppo/v1/trainer_base.py (_balance_batch).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from omegaconf import DictConfig

from vilasr.prompts import Budget
from vilasr.training.grpo.config import value_of, whole_number
from vilasr.training.grpo.memory import longest, lora_rank
from vilasr.training.grpo.nodes import Nodes

_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
_MINI, _MICRO = f"{_ACTOR}.ppo_mini_batch_size", f"{_ACTOR}.ppo_micro_batch_size_per_gpu"
_LOG_PROB = f"{_ROLLOUT}.log_prob_micro_batch_size_per_gpu"
_TENSOR = f"{_ROLLOUT}.tensor_model_parallel_size"


def batch_errors(config: DictConfig, nodes: Nodes) -> Iterator[str]:
    """What would stop verl. Raises DataError for what is no number."""
    questions, n = whole_number(config, "data.train_batch_size"), whole_number(config, f"{_ROLLOUT}.n")
    mini, world = whole_number(config, _MINI), nodes.world
    if n < 2:
        yield f"{_ROLLOUT}.n={n}: GRPO compares the episodes of a question with each other; at least 2"
    if questions < mini:
        yield f"data.train_batch_size={questions} must be at least {_MINI}={mini}"
    elif questions % mini:
        near = questions // mini * mini
        yield f"data.train_batch_size={questions} must be a multiple of {_MINI}={mini}: {near} or {near + mini}"
    yield from _engine_errors(config, nodes)
    yield from _trainer_errors(config)
    if value_of(config, f"{_ACTOR}.use_dynamic_bsz", False):
        yield from _dynamic_errors(config)
        return
    if value_of(config, f"{_ROLLOUT}.log_prob_use_dynamic_bsz", False):
        yield f"{_ROLLOUT}.log_prob_use_dynamic_bsz=true needs {_ACTOR}.use_dynamic_bsz=true"
    if questions * n % world:
        yield (
            f"{questions} questions x {n} episodes cannot be shared by {world} GPUs; they can by "
            f"{_divisors(questions * n)}"
        )
    parallel = int(value_of(config, f"{_ACTOR}.ulysses_sequence_parallel_size", 1))
    shares = max(1, world // parallel)
    if mini * n % shares:
        yield f"a mini-batch of {mini} questions x {n} episodes cannot be shared by {world} GPUs; {_MINI} can be " + (
            _multiples(shares // math.gcd(shares, n), questions)
        )
    else:
        each = mini * n // shares
        micro = whole_number(config, _MICRO)
        if each % micro:
            yield (
                f"{_MICRO}={micro} must divide the {each} episodes of a mini-batch on each GPU ({mini} x {n} / "
                f"{shares}): {_divisors(each)}"
            )
        whole = math.lcm(shares, mini * n)
        step = -(-questions * n // whole) * whole // shares
        log_prob = whole_number(config, _LOG_PROB)
        if step % log_prob:
            yield f"{_LOG_PROB}={log_prob} must divide the {step} episodes of a step on each GPU: {_divisors(step)}"


def _dynamic_errors(config: DictConfig) -> Iterator[str]:
    """Micro-batches by tokens: each must hold the longest episode (verl/utils/seqlen_balancing.py)."""
    if not value_of(config, f"{_ROLLOUT}.log_prob_use_dynamic_bsz", False):
        yield f"{_ACTOR}.use_dynamic_bsz=true needs {_ROLLOUT}.log_prob_use_dynamic_bsz=true"
    keys = [f"{_ACTOR}.ppo_max_token_len_per_gpu", f"{_ROLLOUT}.log_prob_max_token_len_per_gpu"]
    if value_of(config, f"{_ACTOR}.use_kl_loss", False) or value_of(config, "algorithm.use_kl_in_reward", False):
        keys.append("actor_rollout_ref.ref.log_prob_max_token_len_per_gpu")
    parallel = int(value_of(config, f"{_ACTOR}.ulysses_sequence_parallel_size", 1))
    need = -(-longest(config) // parallel)
    for key in keys:
        room = whole_number(config, key)
        if room < need:
            yield f"{key}={room}: an episode may have {longest(config)} tokens, prompt and response; at least {need}"


def _trainer_errors(config: DictConfig) -> Iterator[str]:
    """What our replay buffer and rewards are made for."""
    mode = value_of(config, "trainer.v1.trainer_mode", "sync")
    if mode != "sync":
        yield f"trainer.v1.trainer_mode={mode}: the episodes are recorded by the replay buffer of sync; it may be sync"
    filters = value_of(config, "algorithm.filter_groups.enable", False)
    if filters and not value_of(config, "algorithm.filter_groups.metric"):
        yield "algorithm.filter_groups.enable=true needs a metric: algorithm.filter_groups.metric=reward"


def _engine_errors(config: DictConfig, nodes: Nodes) -> Iterator[str]:
    tensor = whole_number(config, _TENSOR)
    replica = tensor * int(value_of(config, f"{_ROLLOUT}.data_parallel_size", 1))
    if nodes.world % replica:
        yield f"{nodes.world} GPUs cannot be shared by vLLM engines of {replica}; {_TENSOR} can be " + (
            _divisors(nodes.gpus)
        )
    elif replica > nodes.gpus and replica % nodes.gpus:
        yield f"a vLLM engine of {replica} GPUs does not fill whole nodes of {nodes.gpus}"
    strategy = value_of(config, f"{_ACTOR}.strategy")
    if strategy not in ("fsdp", "fsdp2"):
        yield f"{_ACTOR}.strategy={strategy}: it may be fsdp or fsdp2 here"
    removes = value_of(config, "actor_rollout_ref.model.use_remove_padding", False)
    if value_of(config, f"{_ACTOR}.ulysses_sequence_parallel_size", 1) > 1 and not removes:
        yield f"{_ACTOR}.ulysses_sequence_parallel_size needs actor_rollout_ref.model.use_remove_padding=true"
    if value_of(config, f"{_ACTOR}.freeze_vision_tower", False):
        yield f"{_ACTOR}.freeze_vision_tower=true: verl 0.9.1 does not read it and would train the vision tower"
    dummy = value_of(config, f"{_ROLLOUT}.load_format") == "dummy"
    if lora_rank(config) and dummy and value_of(config, f"{_ROLLOUT}.layered_summon", False):
        yield f"{_ROLLOUT}.layered_summon=true needs {_ROLLOUT}.load_format=safetensors, the base model in vLLM"


def length_errors(config: DictConfig, context: int | None, budget: Budget) -> Iterator[str]:
    """`context` is the model's, `budget` the profile's."""
    prompt, response = whole_number(config, "data.max_prompt_length"), whole_number(config, "data.max_response_length")
    key = f"{_ROLLOUT}.max_model_len"
    room = value_of(config, key)
    if room is not None and room < prompt + response:
        yield f"{key}={room} must hold max_prompt_length + max_response_length = {prompt + response}"
    if context is not None and (room or prompt + response) > context:
        yield f"{key}={room or prompt + response} is more than the {context} tokens the model was made for"
    limited = value_of(config, "vilasr.turn_tokens") is not None
    turn = whole_number(config, "vilasr.turn_tokens") if limited else budget.turn_tokens
    if turn > response:
        yield f"vilasr.turn_tokens={turn} is more than data.max_response_length={response}"
    limit = value_of(config, f"{_ROLLOUT}.engine_kwargs.vllm.limit_mm_per_prompt.image")
    if limit is not None and limit < budget.images:
        yield (
            f"{_ROLLOUT}.engine_kwargs.vllm.limit_mm_per_prompt.image={limit}, but the profile lets an episode show "
            f"{budget.images} images; raise it"
        )


def slot_errors(nodes: Nodes) -> Iterator[str]:
    """Ray gives each of verl's GPUs three CPU slots, and waits for ever where they are missing."""
    need = 3 * nodes.gpus + 1
    if nodes.slots < need:
        what = "ray start --num-cpus" if nodes.address else "ray_kwargs.ray_init.num_cpus"
        yield f"Ray counts {nodes.slots} CPUs on a node, verl needs {need} for {nodes.gpus} GPUs; set {what}={need}"


def _divisors(number: int) -> str:
    return ", ".join(str(found) for found in range(1, number + 1) if number % found == 0)


def _multiples(step: int, most: int) -> str:
    return ", ".join(str(found) for found in range(step, max(most, step) + 1, step))
