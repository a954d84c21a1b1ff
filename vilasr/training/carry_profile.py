"""Puts the profile a model was trained with beside its weights.

    python -m vilasr.training.carry_profile config_cold_start.yaml [key=value ...]

reads `dataset_dir`, `model_name_or_path` and `output_dir` from a LLaMA-Factory configuration and its overrides, and
copies the profile of the data, or without one of the model, or ours, to `output_dir`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vilasr.prompts import PROFILE_NAME, ProfileError, default_profile, load_profile
from vilasr.tasks import DataError
from vilasr.training.recipe import read_config

log = logging.getLogger(__name__)


def places(config: Mapping[str, Any]) -> tuple[Path, Path]:
    """Where a profile is looked for: beside the data, beside the model the training starts from."""
    return Path(config["dataset_dir"]) / PROFILE_NAME, Path(config["model_name_or_path"]) / PROFILE_NAME


def find_profile(config: Mapping[str, Any]) -> Path | None:
    """The profile that will go beside the weights; None where the default one will."""
    return next((path for path in places(config) if path.is_file()), None)


def carry_profile(config: Mapping[str, Any]) -> Path:
    """Copy; returns where to. Raises DataError or ProfileError."""
    for key in ("dataset_dir", "model_name_or_path", "output_dir"):
        if not isinstance(config.get(key), str):
            raise DataError(f"key {key!r} must be given in the configuration or as {key}=...")
    output = Path(config["output_dir"])
    if not output.is_dir():
        raise DataError(f"{output}: no such folder; the training did not finish")
    beside_data, beside_model = places(config)
    source = find_profile(config)
    profile = load_profile(source) if source else default_profile()
    if source is None:
        log.warning("neither %s nor %s exists: the default profile is saved", beside_data, beside_model)
    elif source == beside_data and beside_model.is_file() and load_profile(beside_model) != profile:
        log.warning("%s differs from the model's own: the data's is saved", beside_data)
    target = output / PROFILE_NAME
    target.write_text(profile.source, encoding="utf-8")
    return target


def main(arguments: Sequence[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not arguments:
        log.error("usage: python -m vilasr.training.carry_profile CONFIG [key=value ...]")
        return 2
    try:
        log.info("profile: %s", carry_profile(read_config(Path(arguments[0]), arguments[1:])))
    except (DataError, ProfileError, OSError) as exc:
        log.error("carry_profile: %s", exc)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
