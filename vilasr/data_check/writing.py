"""Writes files: all of one or nothing, as UTF-8 whatever the texts hold."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vilasr.tasks import DataError


def dumps(value: object, indent: int | None = None) -> str:
    """JSON as readable as can be: with escapes only where a text holds a lone surrogate, which has no UTF-8."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def add_rejected(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Adds items moved aside to those of earlier repairs; an item that is there already is not added again."""
    earlier = _earlier(path)
    known = {_content(entry) for entry in earlier}
    new = [entry for entry in entries if _content(entry) not in known]
    if new:
        write(path, dumps([*earlier, *new], indent=1) + "\n")


def _content(entry: object) -> str:
    """The item itself: a later repair may know it by another number and find other reasons."""
    content = entry.get("record", entry.get("text")) if isinstance(entry, dict) else entry
    return json.dumps(content, sort_keys=True)


def _earlier(path: Path) -> list[Any]:
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); move it away") from exc
    if not isinstance(found, list):
        raise DataError(f"{path}: must hold a list; move it away")
    return found


def write(path: Path, content: str | bytes) -> None:
    """All of it or nothing. Bytes that were no UTF-8 when they were read are written as they were."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
