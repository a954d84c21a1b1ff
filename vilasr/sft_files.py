"""Conversations on disk as LLaMA-Factory reads them: ShareGPT files, `dataset_info.json`, the profile beside them."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import yaml
from PIL import Image

from vilasr.prompts import PROFILE_NAME, wording
from vilasr.tasks import DataError

INFO_NAME = "dataset_info.json"
DATASET_ENTRY = {  # what LLaMA-Factory is told of an SFT file; `file_name` comes to it
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "images": "images"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    },
}


def part(path: Path) -> Path:
    """The name of a file that is not complete yet, in the same folder."""
    return path.with_name(f".{path.name}.part")


def append_record(file: TextIO, record: str, first: bool) -> None:
    """One more record of a JSON list, in one line; the caller writes the closing bracket."""
    file.write(("[\n" if first else ",\n") + record)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)  # flat colours compress well at any level
    return file.getvalue()


def read_dataset_info(folder: Path) -> dict[str, Any]:
    """The datasets listed in the folder so far. Raises DataError."""
    path = folder / INFO_NAME
    try:
        info = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); repair or remove it") from exc
    if not isinstance(info, dict):
        raise DataError(f"{path}: must hold an object; repair or remove it")
    return info


def has_other_profile(folder: Path, profile: str) -> bool:
    """Whether the data in the folder were written in another wording than this one, a profile's YAML."""
    path = folder / PROFILE_NAME
    if not path.is_file():
        return False
    try:
        return wording(path.read_text(encoding="utf-8")) != wording(profile)
    except (
        ValueError,
        yaml.YAMLError,
        TypeError,
        ArithmeticError,
        RecursionError,
    ):  # no YAML, or keys that no profile has
        return True


def list_datasets(folder: Path, files: Mapping[str, Path], profile: str) -> None:
    """Enter `files`, by the names of their datasets, relative to `folder`; the other entries stay. The profile's YAML
    is written beside. Raises DataError, OSError."""
    old = read_dataset_info(folder)
    new = {**old, **{name: {"file_name": file.as_posix(), **DATASET_ENTRY} for name, file in files.items()}}
    texts = {}
    if has_other_profile(folder, profile) or not (folder / PROFILE_NAME).is_file():
        texts[PROFILE_NAME] = profile
    if new != old:
        texts[INFO_NAME] = json.dumps(new, indent=2, ensure_ascii=False) + "\n"
    for name, text in texts.items():
        path = folder / name
        part(path).write_text(text, encoding="utf-8", newline="")
        os.replace(part(path), path)
