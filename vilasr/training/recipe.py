"""Reads a LLaMA-Factory recipe: a YAML and `key=value` overrides, with paths that mean the same from anywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vilasr.tasks import DataError

ROOT = Path(__file__).resolve().parents[2]  # of the repository: what a recipe's relative paths start from
_MODELS = ("model_name_or_path", "adapter_name_or_path")  # folders, or names on the hub
_PATHS = (
    "dataset_dir",
    "media_dir",
    "output_dir",
    "deepspeed",
    "tokenized_path",
    "cache_dir",
    "model_name_or_path",
    "resume_from_checkpoint",
    "adapter_name_or_path",
)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers and truth values, as LLaMA-Factory reads overrides: 1e-5 is a number, `no` a text."""


_OURS = {
    "tag:yaml.org,2002:bool": (r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?\d+$", "-+0123456789"),
    "tag:yaml.org,2002:float": (r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$", "-+.0123456789"),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OURS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, (_pattern, _first) in _OURS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


def _load(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)


def read_config(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A LLaMA-Factory YAML with `key=value` overrides applied.

    Relative paths in the YAML start at the repository, those in overrides at the working directory; both come back
    absolute. A model that is no folder there is the name of one on the hub and stays as it is. Raises DataError naming
    the file or the override.
    """
    try:
        config = _load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise DataError(f"{path}: cannot be read ({exc})") from exc
    if not isinstance(config, dict):
        raise DataError(f"{path}: must hold a mapping of keys")
    config = {key: _value(key, value, ROOT) for key, value in config.items()}
    return config | read_overrides(overrides)


def read_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """The `key=value` arguments as a mapping; values are read as YAML. Raises DataError."""
    found = {}
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise DataError(f"{override!r}: overrides are written key=value")
        try:
            found[key] = _value(key, _load(value), Path.cwd())
        except yaml.YAMLError as exc:
            raise DataError(f"{override!r}: the value is not YAML ({exc})") from exc
    return found


def _value(key: str, value: Any, start: Path) -> Any:
    if not isinstance(value, str) or not value or key not in _PATHS:
        return value
    return absolute(value, start, key in _MODELS)


def absolute(value: str, start: Path, model: bool = False) -> str:
    """A path, which starts at `start` if it is relative. A `model` that is no folder there may be one on the hub."""
    path = start / value
    if model and not path.exists() and value.count("/") == 1 and not value.startswith((".", "/")):
        return value  # as in Qwen/Qwen2.5-VL-7B-Instruct
    return str(path)
