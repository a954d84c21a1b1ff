"""A checkpoint as transformers 4 reads it: EasyR1 needs that version, and what the earlier stages save is version 5's.

Transformers 4 opens such a folder and misses some of it without a word: the rotary embedding's sections above all. The
weights are the same in both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vilasr.data_check.writing import write
from vilasr.tasks import DataError

_CONFIG, _TOKENIZER, _PROCESSOR = "config.json", "tokenizer_config.json", "processor_config.json"
_IMAGES, _VIDEOS = "preprocessor_config.json", "video_preprocessor_config.json"


def is_new(model: Path) -> bool:
    """Whether a folder was written by transformers 5. Raises DataError."""
    return "rope_parameters" in _text_of(_read(model / _CONFIG))


def as_version_4(model: Path, folder: Path) -> Path:
    """`model` itself, if it is readable as it is; else `folder`, made anew: small files translated, all others links.
    Raises DataError."""
    if not is_new(model):
        return model
    made = {_CONFIG: config(_read(model / _CONFIG), model / _CONFIG), _TOKENIZER: tokenizer(_read(model / _TOKENIZER))}
    if (model / _PROCESSOR).is_file():
        processor = _read(model / _PROCESSOR)
        made[_IMAGES] = processor_part(processor, "image_processor", model / _PROCESSOR)
        if "video_processor" in processor:
            made[_VIDEOS] = processor_part(processor, "video_processor", model / _PROCESSOR)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for file in model.iterdir():
        if file.is_file() and file.name not in made and file.name != _PROCESSOR:
            (folder / file.name).symlink_to(file.resolve())
    for name, values in made.items():
        write(folder / name, json.dumps(values, indent=2) + "\n")
    return folder


def config(found: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """`rope_parameters` were `rope_theta` and `rope_scaling`, whose type was mrope; `dtype` was `torch_dtype`. Raises
    DataError."""
    made = dict(found)
    if isinstance(made.get("text_config"), dict):
        # version 4 looks up what the whole has in this part too
        whole = {name: made[name] for name in ("architectures",) if name in made}
        made["text_config"] = {**whole, **_text(made["text_config"], file)}
    else:
        made = _text(made, file)
    if isinstance(made.get("vision_config"), dict):
        made["vision_config"] = dict(made["vision_config"])
    for section in (made, made.get("text_config"), made.get("vision_config")):
        if isinstance(section, dict) and "dtype" in section:
            section["torch_dtype"] = section.pop("dtype")
    return made


def _text(found: Mapping[str, Any], file: Path) -> dict[str, Any]:
    made = dict(found)
    rope = made.pop("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope:
        raise DataError(f"{file}: 'rope_parameters' must be an object with 'rope_theta'")
    rope = dict(rope)
    made["rope_theta"] = rope.pop("rope_theta")
    sections = rope.get("mrope_section")
    made["rope_scaling"] = {**rope, "type": "mrope"} if sections else rope
    return made


def tokenizer(found: Mapping[str, Any]) -> dict[str, Any]:
    """A list of `extra_special_tokens` was called `additional_special_tokens`."""
    made = dict(found)
    extra = made.get("extra_special_tokens")
    if isinstance(extra, list):
        del made["extra_special_tokens"]
        made["additional_special_tokens"] = extra
    return made


def processor_part(processor: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    """It had a file of its own. Raises DataError."""
    values = processor.get(name)
    if not isinstance(values, dict):
        raise DataError(f"{file}: {name!r} must be an object")
    made = dict(values)
    if "processor_class" in processor:
        made["processor_class"] = processor["processor_class"]
    size = made.get("size")
    if isinstance(size, dict) and {"shortest_edge", "longest_edge"} <= size.keys():
        made |= {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    return made


def image_limits(model: Path) -> tuple[int, int]:
    """(least, most) pixels of an image that the model's own processor leaves as it is. Raises DataError."""
    if (model / _PROCESSOR).is_file():
        found = _read(model / _PROCESSOR).get("image_processor") or {}
    else:
        found = _read(model / _IMAGES)
    size = found.get("size") or {}
    least = found.get("min_pixels") or size.get("shortest_edge") or 0
    most = found.get("max_pixels") or size.get("longest_edge") or 1 << 62
    return int(least), int(most)


def _text_of(found: Mapping[str, Any]) -> Mapping[str, Any]:
    text = found.get("text_config")
    return text if isinstance(text, dict) else found


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise DataError(f"{file}: cannot be read ({exc})") from exc
    if not isinstance(found, dict):
        raise DataError(f"{file}: must hold an object")
    return found
