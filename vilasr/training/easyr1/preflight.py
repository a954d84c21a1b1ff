"""Looks before an EasyR1 run starts: what is installed, the model, the questions, batches and GPUs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from vilasr.checkpoints import inspect_checkpoint
from vilasr.tasks import DataError
from vilasr.training.easyr1.config import MODEL
from vilasr.training.easyr1.model_folder import image_limits, is_new
from vilasr.training.easyr1.plan import Plan
from vilasr.training.findings import Finding, look_at, report
from vilasr.training.grpo.questions import each_question
from vilasr.training.processes import visible_gpus

FLASH = "flash_attention_2"
_ACTOR = ("global_batch_size", "micro_batch_size_per_device_for_update", "micro_batch_size_per_device_for_experience")
_POSITIVE = ("trainer.nnodes", "trainer.n_gpus_per_node", "data.rollout_batch_size", "worker.rollout.n")
_POSITIVE += ("worker.rollout.tensor_parallel_size", *(f"worker.actor.{name}" for name in _ACTOR))


def preflight(plan: Plan) -> bool:
    """Report through the log; False where the run should not start. Writes nothing."""
    parts = (("gpus", _gpus), ("keys", _keys), ("model", _model), ("data", _data), ("batch", _batch), ("run", _run))
    return report(look_at(plan, parts))


def _gpus(plan: Plan) -> Iterator[Finding]:
    wanted, found = plan.composed.value("trainer.n_gpus_per_node"), visible_gpus()
    if address := os.environ.get("RAY_ADDRESS"):
        yield Finding("gpus", f"{plan.world} of the Ray cluster at {address}, which is not asked for them here")
        return
    if plan.composed.value("trainer.nnodes") > 1:
        yield Finding(
            "gpus", "trainer.nnodes is more than 1, and RAY_ADDRESS names no cluster; see train/rl/ray.sh", bad=True
        )
    if found < wanted:
        text = f"{found} visible here, trainer.n_gpus_per_node={wanted}: EasyR1 needs one for each process"
        yield Finding("gpus", text, bad=True)


def _keys(plan: Plan) -> Iterator[Finding]:
    value, attention = plan.composed.value, plan.composed.ours.attention
    if importlib.util.find_spec("flash_attn") is None:
        if attention == FLASH:
            text = "vilasr.attention: flash-attn is not installed; install it, or use vilasr.attention=sdpa "
            yield Finding("keys", f"{text}worker.actor.padding_free=false", bad=True)
        elif value("worker.actor.padding_free"):
            text = "worker.actor.padding_free=true: EasyR1 calls flash-attn for it, which is not installed; use false"
            yield Finding("keys", text, bad=True)
    if value("worker.rollout.val_override_config").get("n") != 1:
        yield Finding("keys", "worker.rollout.val_override_config.n must be 1: validation counts on it", bad=True)
    for key in ("data.min_pixels", "data.max_pixels"):
        if value(key) is not None:
            text = f"{key} must be null: images have their final size, and marks are in its pixels"
            yield Finding("keys", text, bad=True)
    estimator = value("algorithm.adv_estimator")
    if estimator in ("remax", "gae"):
        yield Finding("keys", f"algorithm.adv_estimator={estimator} is not supported, nor is its other model", bad=True)


def _model(plan: Plan) -> Iterator[Finding]:
    path = Path(plan.composed.model)
    images = plan.profile.budget.images
    if plan.composed.value("worker.rollout.limit_images") < images:
        text = f"worker.rollout.limit_images must be {images} or more: an episode may hold so many"
        yield Finding("model", text, bad=True)
    if not path.is_dir():
        if path.is_absolute():
            raise DataError(f"{MODEL}: no folder {path}; train the stage before, or name another {MODEL}=...")
        yield Finding("model", f"{path} comes from the hub")
        return
    found = inspect_checkpoint(path)
    new = "; saved by transformers 5, it is translated for EasyR1's version 4" if is_new(path) else ""
    yield Finding("model", f"{path} is whole, made for {found.context:,} tokens{new}")
    length = plan.composed.value("data.max_prompt_length") + plan.composed.value("data.max_response_length")
    if length > found.context:
        text = f"data.max_prompt_length + max_response_length = {length:,}, more than the model's {found.context:,}"
        yield Finding("model", text, bad=True)
    least, most = image_limits(path)
    rule = plan.profile.image
    if rule.min_pixels < least or rule.max_pixels > most:
        text = (
            f"its processor resizes images to {least:,} to {most:,} pixels, the profile's have {rule.min_pixels:,} to "
        )
        yield Finding("model", f"{text}{rule.max_pixels:,}: marks would not fit; lower vilasr.max_pixels", bad=True)


def _data(plan: Plan) -> Iterator[Finding]:
    value, ours = plan.composed.value, plan.composed.ours
    counts = {"questions": 0, "left out": 0}
    for found in each_question([Path(value("data.train_files"))], ours.data_root):
        counts["left out" if isinstance(found, tuple) else "questions"] += 1
    held = 0 if value("data.val_files") else ours.held_out
    left = counts["questions"] - held
    text = f"{counts['questions']:,} questions, {held} of them held out, {counts['left out']} unusable"
    few = left < value("data.rollout_batch_size")
    why = f": fewer than data.rollout_batch_size={value('data.rollout_batch_size')} are left to train on" if few else ""
    yield Finding("data", text + why, bad=few)
    if value("data.val_files"):
        usable = sum(
            not isinstance(found, tuple) for found in each_question([Path(value("data.val_files"))], ours.data_root)
        )
        yield Finding("data", f"{usable:,} questions in data.val_files", bad=not usable)
    if not value("data.val_files") and not held:
        text = "data.val_files is empty, and vilasr.held_out is 0: EasyR1 needs a validation set"
        yield Finding("data", text, bad=True)


def _batch(plan: Plan) -> Iterator[Finding]:
    """EasyR1 checks the same with a traceback, after Ray and the model have started."""
    value, world = plan.composed.value, plan.world
    small = [key for key in _POSITIVE if not (isinstance(value(key), int) and value(key) > 0)]
    if small:
        yield from (Finding("batch", f"{key} must be at least 1, not {value(key)}", bad=True) for key in small)
        return
    n, questions, update = (
        value(key) for key in ("worker.rollout.n", "data.rollout_batch_size", "worker.actor.global_batch_size")
    )
    device, size = update * n // world, f"data.rollout_batch_size={questions} is no multiple of"
    wrong = {
        "worker.rollout.n must be more than 1 for GRPO": n < 2,
        f"{size} worker.actor.global_batch_size={update}": questions % update,
        f"{size} {world} GPUs": questions % world,
        f"worker.actor.global_batch_size x n = {update * n} is no multiple of {world} GPUs": update * n % world,
        f"data.mini_rollout_batch_size is no multiple of {world} GPUs": (value("data.mini_rollout_batch_size") or 0)
        % world,
        f"{questions * n // world} episodes a GPU are no multiple of micro_batch_size_per_device_for_experience": (
            not value("worker.actor.dynamic_batching")
            and questions * n // world % value("worker.actor.micro_batch_size_per_device_for_experience")
        ),
        f"{device} episodes a GPU and update are no multiple of micro_batch_size_per_device_for_update": (
            device % value("worker.actor.micro_batch_size_per_device_for_update")
        ),
        "worker.rollout.max_num_batched_tokens is less than prompt and response together": (
            value("worker.rollout.max_num_batched_tokens")
            < value("data.max_prompt_length") + value("data.max_response_length")
        ),
        f"{world} GPUs are no multiple of worker.rollout.tensor_parallel_size": (
            world % value("worker.rollout.tensor_parallel_size")
        ),
    }
    yield from (Finding("batch", text, bad=True) for text, is_so in wrong.items() if is_so)


def _run(plan: Plan) -> Iterator[Finding]:
    value = plan.composed.value
    for path, why in plan.broken:
        yield Finding("run", f"{path.name} is cut off ({why}): it will be set aside")
    start = f"goes on from {plan.resume.path}" if plan.resume else "starts from the model"
    text = f"would run: {value('data.rollout_batch_size')} questions a step x {value('worker.rollout.n')} episodes, on "
    yield Finding("run", f"{text}{plan.world} GPUs; checkpoints every {value('trainer.save_freq')} steps; {start}")
