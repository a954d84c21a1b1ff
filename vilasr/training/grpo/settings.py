"""What must not change between the parts of a run: it decides what is learned, or verl could not go on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vilasr.prompts import Profile
from vilasr.training.grpo.config import MODEL, files_in, value_of
from vilasr.training.grpo.profile import chosen_profile
from vilasr.training.resume import file_digest

_ACTOR, _MODEL, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.model", "actor_rollout_ref.rollout"
# A mapping counts with all that is in it. model.override_config does not count: the attention implementation, which is
# what recipes set there, changes nothing that is learned.
_KEYS = (
    "algorithm",
    "data.filter_overlong_prompts",
    "data.held_out",
    "data.max_prompt_length",
    "data.max_response_length",
    "data.seed",
    "data.shuffle",
    "data.train_batch_size",
    "data.train_max_samples",
    *(f"{_MODEL}.{key}" for key in ("exclude_modules", "lora_alpha", "lora_rank", "target_modules")),
    *(
        f"{_ACTOR}.{key}"
        for key in ("clip_ratio", "clip_ratio_c", "clip_ratio_high", "clip_ratio_low", "entropy_coeff")
    ),
    *(f"{_ACTOR}.{key}" for key in ("kl_loss_coef", "kl_loss_type", "loss_agg_mode", "optim")),
    *(f"{_ACTOR}.{key}" for key in ("policy_loss", "ppo_epochs", "ppo_mini_batch_size", "strategy", "use_kl_loss")),
    f"{_ACTOR}.fsdp_config.dtype",
    f"{_ACTOR}.fsdp_config.mixed_precision",
    f"{_ACTOR}.fsdp_config.model_dtype",
    *(f"{_ROLLOUT}.{key}" for key in ("n", "temperature", "top_k", "top_p")),
    "vilasr.beta",
    "vilasr.max_pixels",
    "vilasr.turn_tokens",
)


def settings_of(config: DictConfig) -> dict[str, Any]:
    """As they stand in `vilasr_run.json`. Files count by what is in them, the model by the name of its folder: a disk
    may be mounted elsewhere next time. Raises DataError."""
    found: dict[str, Any] = {}
    for key in _KEYS:
        value = OmegaConf.select(config, key)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value)
        found |= dict(_flat(key, value))
    found[MODEL] = Path(value_of(config, MODEL)).name
    for key in ("data.train_files", "data.val_files"):
        found[key] = [file_digest(file, key) for file in files_in(config, key)]
    found["vilasr.profile"] = hashlib.sha256(profile_of(config).source.encode()).hexdigest()[:16]
    return found


def profile_of(config: DictConfig) -> Profile:
    """The one that is spoken. Raises ProfileError."""
    limit = value_of(config, "vilasr.max_pixels")
    return chosen_profile(value_of(config, "vilasr.profile"), value_of(config, MODEL), limit)


def _flat(key: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(key, value)]
    return [pair for name, inner in sorted(value.items()) for pair in _flat(f"{key}.{name}", inner)]
