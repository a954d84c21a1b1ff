"""What an EasyR1 run will be: its configuration, where it goes on from, and what must not have changed since."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vilasr.prompts import Profile
from vilasr.tasks import DataError
from vilasr.training.easyr1.config import MODEL, OUTPUT, Composed
from vilasr.training.grpo.checkpoints import Checkpoint, look, put_profile, read_checkpoint, set_aside_later, steps_in
from vilasr.training.grpo.profile import chosen_profile
from vilasr.training.recipe import ROOT
from vilasr.training.resume import RUN_FILE, check_precious, compare_settings, file_digest, set_aside, write_settings

log = logging.getLogger(__name__)

LAST_WRITTEN = "dataloader.pt"
# What decides what is learned, or what EasyR1 could not go on with. A mapping counts with all that is in it.
_KEYS = (
    "algorithm",
    "data.filter_overlong_prompts",
    "data.max_prompt_length",
    "data.max_response_length",
    "data.mini_rollout_batch_size",
    "data.rollout_batch_size",
    "data.seed",
    "data.shuffle",
    *(f"worker.actor.{key}" for key in ("clip_ratio_dual", "clip_ratio_high", "clip_ratio_low", "global_batch_size")),
    *(f"worker.actor.{key}" for key in ("loss_avg_mode", "loss_type", "max_grad_norm", "model.freeze_vision_tower")),
    *(f"worker.actor.{key}" for key in ("model.lora", "optim", "ppo_epochs", "tau_negative", "tau_positive")),
    *(f"worker.rollout.{key}" for key in ("n", "seed", "temperature", "top_k", "top_p")),
)
_OURS = ("beta", "held_out", "max_pixels", "turn_tokens")


@dataclass(frozen=True)
class Plan:
    """`resume` is the checkpoint to go on from; `broken` are those cut off, each with the reason. With `own` a run goes
    on from its own last checkpoint; without it starts over, or from the one that is named."""

    composed: Composed
    settings: Mapping[str, Any]
    resume: Checkpoint | None
    broken: tuple[tuple[Path, str], ...]
    own: bool = True

    @property
    def output(self) -> Path:
        return self.composed.output

    @property
    def profile(self) -> Profile:
        """Raises ProfileError."""
        return profile_of(self.composed)

    @property
    def world(self) -> int:
        return self.composed.value("trainer.nnodes") * self.composed.value("trainer.n_gpus_per_node")

    def last_checkpoint(self) -> Checkpoint | None:
        return _look(self.output)[0]

    def complete(self) -> None:
        """The profile goes beside the weights: whoever loads them must speak it."""
        for _, path in steps_in(self.output):
            if (path / "actor" / "huggingface").is_dir():
                put_profile(path, self.profile.source)


def profile_of(composed: Composed) -> Profile:
    return chosen_profile(composed.ours.profile, composed.model, composed.ours.max_pixels)


def make_plan(composed: Composed, environment: Mapping[str, str]) -> Plan:
    """Raises DataError."""
    # A job that Slurm starts again goes on, whatever its first start was told.
    own = composed.value("trainer.find_last_checkpoint") or bool(environment.get("SLURM_RESTART_COUNT"))
    named = composed.value("trainer.load_checkpoint_path")
    resume, broken = _look(composed.output) if own else (None, ())
    goes_on = resume is not None
    if named and resume is None:
        resume = _named(Path(named))
    elif named:
        log.info("%s: goes on from there; trainer.load_checkpoint_path was for the first start", composed.output)
    plan = Plan(composed, _settings(composed), resume, broken, own)
    if goes_on:
        compare_settings(
            composed.output,
            plan.settings,
            f"Resume with the old ones, or choose another {OUTPUT}=...",
        )
    if resume is not None and resume.world != plan.world:
        raise DataError(
            f"{resume.path}: was written by {resume.world} processes, and EasyR1 cannot go on with {plan.world}; use "
            f"{resume.world} GPUs, or start over elsewhere from its merged weights (utils/model_merger.py)"
        )
    return plan


def prepare(plan: Plan) -> None:
    """The output folder as the run needs it. What was cut off is set aside; a run that starts over leaves the old."""
    output = plan.output
    if not plan.own and plan.resume is not None and plan.resume.path.resolve().parent == output.resolve():
        set_aside_later(output, plan.resume.step)  # one goes back: those after it are another branch
    elif not plan.own and (output / RUN_FILE).is_file():
        precious = (Path(plan.composed.model), Path(plan.composed.value("data.train_files")), Path.cwd(), ROOT)
        check_precious(output, precious, OUTPUT)
        set_aside(output, f"{output.name}.previous")
    output.mkdir(parents=True, exist_ok=True)
    for path, why in plan.broken:
        log.warning("%s: %s", path, why)
        set_aside(path, f"incomplete-{path.name}")
    write_settings(output, plan.settings)


def _look(output: Path) -> tuple[Checkpoint | None, tuple[tuple[Path, str], ...]]:
    earlier = look(output, last_written=LAST_WRITTEN)
    for path, _ in earlier.broken:
        if _weights_alone(path):
            raise DataError(
                f"{path}: was saved with trainer.save_model_only=true, and has no state to go on from; start elsewhere "
                f"from its merged weights (utils/model_merger.py), or choose another {OUTPUT}=..."
            )
    return earlier.last, earlier.broken


def _weights_alone(path: Path) -> bool:
    try:
        read_checkpoint(path, contents=("model",), last_written=LAST_WRITTEN)
    except DataError:
        return False
    return not list((path / "actor").glob("optim_*"))


def _named(path: Path) -> Checkpoint:
    try:
        return read_checkpoint(path, last_written=LAST_WRITTEN)
    except DataError as exc:
        raise DataError(f"trainer.load_checkpoint_path: {path}: {exc}") from exc


def _settings(composed: Composed) -> dict[str, Any]:
    """As they stand in `vilasr_run.json`; files count by what is in them. Raises DataError."""
    found: dict[str, Any] = {}
    for key in _KEYS:
        value = composed.value(key)
        found[key] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    found |= {f"vilasr.{name}": getattr(composed.ours, name) for name in _OURS}
    found[MODEL] = Path(composed.model).name
    for key in ("data.train_files", "data.val_files"):
        found[key] = file_digest(Path(composed.value(key)), key) if composed.value(key) else None
    found["vilasr.profile"] = hashlib.sha256(profile_of(composed).source.encode()).hexdigest()[:16]
    return found
