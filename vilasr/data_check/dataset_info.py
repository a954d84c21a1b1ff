"""LLaMA-Factory's `dataset_info.json`: which files there are, and how the items of each are written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.tasks import DataError

INFO_NAME = "dataset_info.json"
_REMOTE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


@dataclass(frozen=True, slots=True)
class Tags:
    """Keys and role names of a turn. LLaMA-Factory's own values where an entry has no `tags`."""

    role: str = "from"
    content: str = "value"
    user: str = "human"
    assistant: str = "gpt"
    system: str | None = "system"


@dataclass(frozen=True, slots=True)
class Dataset:
    """One entry. `file` is None for data that is not on this machine; `images` and `system` are None without such a
    column."""

    name: str
    file: Path | None
    messages: str = "conversations"
    images: str | None = None
    system: str | None = None
    tags: Tags = Tags()


class Entries(Mapping[str, Dataset]):
    """The entries of one file by name, each read when it is asked for, as LLaMA-Factory does it: one that is not for
    us raises DataError, naming file and key, and does not hide the others."""

    def __init__(self, path: Path, entries: Mapping[str, object]) -> None:
        self._path, self._entries = path, entries

    def __getitem__(self, name: str) -> Dataset:
        return _dataset(name, self._entries[name], self._path)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def file(self, name: str) -> Path | None:
        """The file that an entry names, whatever else is wrong with it."""
        entry = self._entries[name]
        file = None if not isinstance(entry, dict) or _is_remote(entry) else entry.get("file_name")
        found = self._path.parent / file if isinstance(file, str) and file else None
        return found if found is not None and not _unusable(found) else None


def read_dataset_info(folder: Path) -> Entries:
    """All entries of the folder's `dataset_info.json`. Raises DataError where it cannot be read."""
    path = folder / INFO_NAME
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); repair it or copy it again") from exc
    if not isinstance(entries, dict):
        raise DataError(f"{path}: must hold an object with an entry for each dataset; repair it")
    return Entries(path, entries)


def _is_remote(entry: Mapping[str, Any]) -> bool:
    return any(key in entry for key in _REMOTE)  # it wins over file_name there, too


def _dataset(name: str, entry: object, path: Path) -> Dataset:
    where = f"{path}: {name}"
    if not isinstance(entry, dict):
        raise DataError(f'{where}: must be an object, such as {{"file_name": ...}}')
    if _is_remote(entry):
        return Dataset(name, None)
    file = entry.get("file_name")
    if not isinstance(file, str) or not file:
        raise DataError(f"{where}.file_name: must be the name of a file, relative to {path.parent}")
    formatting = entry.get("formatting", "alpaca")
    if formatting != "sharegpt":
        raise DataError(f'{where}.formatting: is {formatting!r} (without the key it is "alpaca"); write "sharegpt"')
    columns = _mapping(entry, "columns", where)
    # An entry that gives any column gives them all: LLaMA-Factory has no default for the others then.
    messages = "conversations" if columns is None else columns.get("messages")
    if not isinstance(messages, str):
        raise DataError(f'{where}.columns.messages: is missing; write "messages": "conversations"')
    images, system = ((columns or {}).get(key) for key in ("images", "system"))
    for key, value in (("images", images), ("system", system)):
        if value is not None and not isinstance(value, str):
            raise DataError(f"{where}.columns.{key}: must be the name of a field")
    if problem := _unusable(path.parent / file):
        raise DataError(f"{where}.file_name: cannot be looked up ({problem}); name a file relative to {path.parent}")
    return Dataset(name, path.parent / file, messages, images, system, _tags(_mapping(entry, "tags", where), where))


def _unusable(file: Path) -> str | None:
    """Why the system does not even look for the file: a name longer than it allows, a folder that may not be read."""
    try:
        file.exists()
    except OSError as exc:
        return exc.strerror or str(exc)
    return None


def _mapping(entry: Mapping[str, Any], key: str, where: str) -> dict[str, Any] | None:
    value = entry.get(key)
    if key in entry and not isinstance(value, dict):
        raise DataError(f"{where}.{key}: must be an object")
    return value


def _tags(tags: Mapping[str, Any] | None, where: str) -> Tags:
    if tags is None:
        return Tags()
    found: dict[str, str] = {}
    for key in ("role", "content", "user", "assistant"):
        value = tags.get(f"{key}_tag")
        if not isinstance(value, str):
            raise DataError(f"{where}.tags.{key}_tag: is missing; with any tag given LLaMA-Factory has no default")
        found[key] = value
    system = tags.get("system_tag")
    if system is not None and not isinstance(system, str):
        raise DataError(f"{where}.tags.system_tag: must be a text")
    return Tags(**found, system=system)
