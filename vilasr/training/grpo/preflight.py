"""Looks before a GPU hour is spent on GRPO: model, profile, data, batches, lengths, memory and disk of a plan."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vilasr.checkpoints import inspect_checkpoint
from vilasr.prompts import PROFILE_NAME
from vilasr.tasks import DataError
from vilasr.training.findings import Finding, disk_finding, gib, gpu_memory, look_at, ram, report
from vilasr.training.grpo.batches import batch_errors, length_errors, slot_errors
from vilasr.training.grpo.config import MODEL, OUTPUT, value_of
from vilasr.training.grpo.data_look import data_findings, images_shown, training_questions, validation_questions
from vilasr.training.grpo.host_memory import Asked, HostMemory, host_memory
from vilasr.training.grpo.memory import Memory, disk_needed, estimate
from vilasr.training.grpo.settings import profile_of
from vilasr.training.memory import GIB, Shape, shape_of
from vilasr.training.sft import VARLEN

if TYPE_CHECKING:
    from vilasr.training.grpo.plan import Plan

_GPU = 80 * 10**9  # bytes, where there is none to ask: what the recipes are made for
_PROCESSES = 7 * GIB  # verl's, Ray's and vLLM's own on a CPU, measured
_ATTENTIONS = (VARLEN, "sdpa", "eager", "flash_attention_2", "flash_attention_3")
_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "swanlab": "swanlab", "mlflow": "mlflow"}


def preflight(plan: Plan) -> bool:
    """Report through the log; False where the run should not start. Writes nothing."""
    return report(_findings(plan))


def _findings(plan: Plan) -> Iterator[Finding]:
    if not plan.nodes.found:
        text = f"none on this machine, so nothing can start here; checked for {machines(plan)}, as the recipe has it"
        yield Finding("gpus", text, bad=True)
    parts = (("keys", _keys), ("model", _model), ("profile", _profile), ("data", _data), ("batch", _batch))
    yield from look_at(plan, (*parts, ("memory", _sizes)))
    yield from _would_run(plan)


def machines(plan: Plan) -> str:
    if plan.on_cpu:
        return "this machine's CPU"
    gpus = f"{plan.nodes.gpus} GPU{'s' if plan.nodes.gpus > 1 else ''}"
    return f"{plan.nodes.count} nodes of {gpus}" if plan.nodes.count > 1 else gpus


def _keys(plan: Plan) -> Iterator[Finding]:
    """What has to be installed for them."""
    loggers = value_of(plan.config, "trainer.logger", [])
    for name in [loggers] if isinstance(loggers, str) else loggers:
        package = _PACKAGES.get(name)
        if package and importlib.util.find_spec(package) is None:
            yield Finding("keys", f"trainer.logger: {name} is not installed; pip install {package}", bad=True)
    attention = value_of(
        plan.config, "actor_rollout_ref.model.override_config.attn_implementation", "flash_attention_2"
    )
    if attention not in _ATTENTIONS and "/" not in str(attention):  # a kernel of the hub has a slash
        text = f"attn_implementation: {attention!r} is not known; it may be {', '.join(_ATTENTIONS)}"
        yield Finding("keys", text, bad=True)
    if importlib.util.find_spec("flash_attn") is None:
        if attention == "flash_attention_2":
            text = f"attn_implementation: flash-attn is not installed; {VARLEN} and sdpa need nothing"
            yield Finding("keys", text, bad=True)
        if value_of(plan.config, "actor_rollout_ref.model.use_remove_padding", False):
            text = "use_remove_padding=true: verl calls flash-attn for it, which is not installed"
            yield Finding("keys", text, bad=True)


def _model(plan: Plan) -> Iterator[Finding]:
    path = Path(value_of(plan.config, MODEL))
    if not path.is_dir():
        if path.is_absolute():
            raise DataError(f"{MODEL}: no folder {path}; train the stage before, or name another {MODEL}=...")
        yield Finding("model", f"{path} comes from the hub")
        return
    found = inspect_checkpoint(path)
    yield Finding("model", f"{path} is whole, made for {found.context:,} tokens")
    words, tokens = _vocabulary(path)
    if words > tokens:
        text = f"{words - tokens} of its {words:,} output ids are no tokens: vLLM never samples them. A trained model "
        yield Finding("model", f"{text}gives them no probability; an untrained one does, and its KL is then false")


def _vocabulary(path: Path) -> tuple[int, int]:
    """(output ids of the model, tokens of its tokenizer); equal where a file does not tell."""
    from tokenizers import Tokenizer  # of the extra `sft`

    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    words = (config.get("text_config") or config).get("vocab_size") or config.get("vocab_size") or 0
    file = path / "tokenizer.json"
    tokens = Tokenizer.from_file(str(file)).get_vocab_size() if file.is_file() else words
    return int(words), int(tokens)


def _profile(plan: Plan) -> Iterator[Finding]:
    named, model = value_of(plan.config, "vilasr.profile"), Path(value_of(plan.config, MODEL))
    profile = profile_of(plan.config)
    place = named or (model / PROFILE_NAME if (model / PROFILE_NAME).is_file() else None)
    where = f"{place} is spoken, and goes beside the weights" if place else f"none beside {model}: ours is spoken"
    yield Finding("profile", f"{where}; images of at most {profile.image.max_pixels:,} pixels")


def _data(plan: Plan) -> Iterator[Finding]:
    yield from data_findings(plan.config, profile_of(plan.config) if _model_is_there(plan) else None)


def _batch(plan: Plan) -> Iterator[Finding]:
    config, model = plan.config, Path(value_of(plan.config, MODEL))
    problems = list(batch_errors(config, plan.nodes))
    if plan.nodes.found:
        problems += slot_errors(plan.nodes)
    context = inspect_checkpoint(model).context if model.is_dir() else None
    problems += length_errors(config, context, profile_of(config).budget)
    yield from (Finding("batch", text, bad=True) for text in problems)


def _model_is_there(plan: Plan) -> bool:
    """A folder that is missing is told once; a name on the hub is tried."""
    path = Path(value_of(plan.config, MODEL))
    return path.is_dir() or not path.is_absolute()


def _sizes(plan: Plan) -> Iterator[Finding]:
    if not _model_is_there(plan):
        return
    shape = shape_of(value_of(plan.config, MODEL), MODEL)
    if plan.on_cpu:
        yield _on_cpu(plan, shape)
    else:
        yield _on_gpu(plan, shape)
        yield _on_host(plan, shape)
    if value_of(plan.config, "trainer.save_freq") > 0:
        yield disk_finding(plan.output, "global_step_*", disk_needed(shape, plan.config), OUTPUT)


def _on_cpu(plan: Plan, shape: Shape) -> Finding:
    total, free = ram()
    need = estimate(shape, plan.config, 1, 0)
    wanted = _PROCESSES + need.states + need.activations + 4 * shape.total
    text = f"about {gib(wanted)} of this machine's {gib(total)} RAM, {gib(free)} free"
    return Finding("memory", f"{text}: too little" if wanted > free else text, bad=wanted > free)


def _on_gpu(plan: Plan, shape: Shape) -> Finding:
    total, free, assumed = _GPU, _GPU, " (assumed)"
    if plan.nodes.found:
        try:
            (total, free), assumed = gpu_memory(), ""
        except DataError:
            if plan.nodes.address is None:  # else this may be a head node without one
                raise
    return memory_finding(estimate(shape, plan.config, plan.nodes.world, total), total, free, assumed)


def _on_host(plan: Plan, shape: Shape) -> Finding:
    model = Path(value_of(plan.config, MODEL)) / "config.json"
    tied = model.is_file() and json.loads(model.read_text(encoding="utf-8")).get("tie_word_embeddings", False)
    asked = Asked(validation_questions(plan.config), images_shown(plan.config))
    need = host_memory(shape, plan.config, profile_of(plan.config), plan.nodes, asked, tied)
    return host_finding(need, *ram(), _trains_here(plan))


def _trains_here(plan: Plan) -> bool:
    """The head of a cluster may have no GPU."""
    if plan.nodes.address is None:
        return plan.nodes.found > 0
    try:
        return gpu_memory()[0] > 0
    except DataError:
        return False


def host_finding(need: HostMemory, total: int, free: int, here: bool = True) -> Finding:
    """`here`: on a machine like this one."""
    text = (
        f"about {gib(need.total)} RAM on each node (the model while it is loaded {gib(need.loading)}; then images of "
    )
    text += f"a step {gib(need.images)}, vLLM's weights and what is offloaded {gib(need.resting)})"
    if not here:
        return Finding("memory", text)
    text += f", of this machine's {gib(total)}, {gib(free)} free"
    if need.total > free:
        ways = "a lower data.train_batch_size, data.val_batch_size or vilasr.max_pixels"
        ways = ways if need.images + need.resting > need.loading else "a machine with more"
        why = f"too little; use {ways}" if need.total > total else "other programs hold the rest"
        return Finding("memory", f"{text}: {why}", bad=True)
    return Finding("memory", text + (": tight" if need.total > 0.9 * free else ""))


def memory_finding(need: Memory, total: int, free: int, assumed: str = "") -> Finding:
    parts = f"weights, gradients, optimizer {gib(need.states)}, activations of the longest episode "
    text = f"about {gib(need.learning)} while the actor learns ({parts}{gib(need.activations)}), {gib(need.scoring)} "
    text += f"while it computes log-probs, {gib(need.generating)} while vLLM generates (its {gib(need.rollout)}), "
    text += f"of {gib(total)}{assumed} a GPU"
    if need.total > total:
        ways = []
        if need.generating > total or (need.shared and need.working > total):
            ways.append("a lower rollout.gpu_memory_utilization")
        if need.working > total:
            ways += ["model.use_fused_kernels=true"] if not need.fused else []
            ways += ["more GPUs", "actor.fsdp_config.optimizer_offload=true", "a lower data.max_response_length"]
            ways += ["train/rl/config_grpo_lora.yaml"] if need.states > need.activations else []
        return Finding("memory", f"{text}: too little; use {', '.join(ways)}", bad=True)
    if need.total > free:
        return Finding("memory", f"{text}, of which {gib(free)} are free: other programs hold the rest", bad=True)
    return Finding("memory", text + (": tight" if need.total > 0.9 * total else ""))


def _would_run(plan: Plan) -> Iterator[Finding]:
    config = plan.config
    for path, why in () if plan.fresh else plan.earlier.broken:
        yield Finding("run", f"{path.name} is cut off ({why}): it will be set aside")
    questions, n = value_of(config, "data.train_batch_size"), value_of(config, "actor_rollout_ref.rollout.n")
    try:
        steps = training_questions(config) // questions
        epochs = value_of(config, "trainer.total_epochs", 1)
        wanted = value_of(config, "trainer.total_training_steps", steps * epochs)
        length = f"about {steps:,} steps an epoch, {min(wanted, steps * epochs):,} in all"
        if steps and wanted > steps * epochs:
            text = f"trainer.total_training_steps={wanted}, but {epochs} epoch(s) have {steps * epochs}; the last "
            enough = f"trainer.total_epochs={-(-wanted // steps)} would do"
            yield Finding("run", f"{text}would not be saved; {enough}", bad=True)
    except (DataError, TypeError, ZeroDivisionError):  # told above
        length = "steps unknown"
    start = f"goes on from {plan.resume.path}" if plan.resume else "starts from the model"
    if plan.fresh and plan.earlier.last:
        start = f"starts over, {plan.output.name} is kept aside"
    keep, every = value_of(config, "vilasr.keep_checkpoints", 0), value_of(config, "trainer.save_freq", -1)
    saved = f"a checkpoint every {every} steps, {f'the newest {keep}' if keep else 'all'} kept, to {plan.output}"
    saved = saved if every > 0 else "no checkpoints (trainer.save_freq)"
    text = f"would run: {questions} questions a step x {n} episodes, {length}, on {machines(plan)}; {saved}; {start}"
    yield Finding("run", text)
