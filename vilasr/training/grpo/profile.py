"""Which profile a GRPO run speaks: the configured one or the model's own, with the run's image limit."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

from vilasr.prompts import Profile, load_profile, profile_for_checkpoint


@functools.cache
def chosen_profile(path: str | None, model: str, max_pixels: int | None) -> Profile:
    """Of the YAML at `path`, or beside the `model`, or ours; `max_pixels` (width x height) replaces its image limit.
    Raises ProfileError."""
    profile = load_profile(Path(path)) if path else profile_for_checkpoint(model)
    return replace(profile, image=replace(profile.image, max_pixels=max_pixels)) if max_pixels else profile
