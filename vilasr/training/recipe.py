"""Reads a LLaMA-Factory recipe: a YAML and `key=value` overrides, with paths that mean the same from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vilasr.tasks import DataError

ROOT = Path(__file__).resolve().parents[2]  # of the repository: what a recipe's relative paths start from
_PATHS = ("dataset_dir", "media_dir", "output_dir", "deepspeed", "tokenized_path", "cache_dir", "model_name_or_path")


def read_config(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A LLaMA-Factory YAML with `key=value` overrides applied.

    Relative paths in the YAML start at the repository, those in overrides at the working directory; both come back
    absolute. A model that is no folder there is the name of one on the hub and stays as it is. Raises DataError naming
    the file or the override.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise DataError(f"{path}: cannot be read ({exc})") from exc
    if not isinstance(config, dict):
        raise DataError(f"{path}: must hold a mapping of keys")
    config = {key: _absolute(key, value, ROOT) for key, value in config.items()}
    return config | read_overrides(overrides)


def read_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """The `key=value` arguments as a mapping; values are read as YAML. Raises DataError."""
    found = {}
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise DataError(f"{override!r}: overrides are written key=value")
        try:
            found[key] = _absolute(key, yaml.safe_load(value), Path.cwd())
        except yaml.YAMLError as exc:
            raise DataError(f"{override!r}: the value is not YAML ({exc})") from exc
    return found


def _absolute(key: str, value: Any, start: Path) -> Any:
    if key not in _PATHS or not isinstance(value, str) or not value:
        return value
    path = start / value
    if key == "model_name_or_path" and not path.exists() and value.count("/") == 1 and not value.startswith((".", "/")):
        return value  # as in Qwen/Qwen2.5-VL-7B-Instruct
    return str(path)
