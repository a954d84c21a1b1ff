"""The small files of a model folder: configuration, tokenizer, processor, chat template, defaults, profile."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vilasr.profile_checks import ProfileError
from vilasr.prompts import PROFILE_NAME, load_profile
from vilasr.tasks import DataError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_LARGEST = 256 << 20  # bytes; vocabularies take tens of MB
_KINDS = (".json", ".jinja", ".txt", ".model", ".yaml")
_NOT_COMPANIONS = ("model.safetensors.index.json", "pytorch_model.bin.index.json", "merge_manifest.json")
_DTYPE_KEYS = ("dtype", "torch_dtype")  # transformers 5 and 4
_ATTENTION = "attn_implementation"


def collect(folder: Path, profile: Path | None, dtype: torch.dtype | None) -> dict[str, bytes]:
    """All of `folder` (actor/huggingface) by name, the configuration with the dtype that is written. `profile` takes
    the place of the one in `folder`. Raises DataError."""
    found: dict[str, bytes] = {}
    for path in _files(folder):
        try:
            found[path.name] = path.read_bytes()
        except OSError as exc:
            raise DataError(f"{path}: cannot be read ({exc}); copy it again") from exc
    if not found.keys() & {"tokenizer.json", "vocab.json", "tokenizer.model"}:
        raise DataError(f"{folder}: holds no tokenizer; copy the tokenizer and processor files of the base model there")
    found["config.json"] = configuration(folder / "config.json", dtype).encode()
    source = profile or folder / PROFILE_NAME
    if profile is not None or PROFILE_NAME in found:
        try:
            load_profile(source)
        except ProfileError as exc:
            raise DataError(str(exc)) from exc
        found[PROFILE_NAME] = source.read_bytes()
    else:
        log.warning("%s: no %s; inference will use the default profile. Name another with --profile", folder, source)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.suffix in _KINDS and path.is_file() and path.name not in _NOT_COMPANIONS:
            if path.stat().st_size > _LARGEST:
                raise DataError(f"{path}: is too large for a file of this kind; move it away")
            yield path


def configuration(path: Path, dtype: torch.dtype | None = None) -> str:
    """The text of a configuration without the attention it was trained with, which verl leaves there and others may not
    have; with another dtype, in all its parts, where one is given. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8")
        config = json.loads(text)
    except (OSError, ValueError, RecursionError) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); copy it again") from exc
    if not isinstance(config, dict):
        raise DataError(f"{path}: must hold a JSON object; copy it again")
    attention = config.pop(_ATTENTION, None)
    if dtype is not None:
        name = str(dtype).removeprefix("torch.")
        if not any(key in config for key in _DTYPE_KEYS):
            config["dtype"] = name
        _set_dtype(config, name)
    elif attention is None:
        return text
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def _set_dtype(config: dict[str, Any], name: str) -> None:
    for key, value in config.items():
        if isinstance(value, dict):
            _set_dtype(value, name)
        elif key in _DTYPE_KEYS and isinstance(value, str):
            config[key] = name
