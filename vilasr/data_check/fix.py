"""Repairs of SFT files that are safe, and never lose the original.

Safe is what cannot change what an item teaches: an image's path is written as LLaMA-Factory finds it, a role is called
as `dataset_info.json` calls it. Items with which LLaMA-Factory stops, and those it drops silently, teach nothing: they
are moved aside to `NAME.rejected.json`, each with its reasons. Coordinates, replies and answers are never edited; items
whose only problem is there go aside when asked for by code. Question files are repaired only so: a benchmark without
some of its items is another benchmark.

The repaired file takes the name of the old one, which stays as `NAME.original.json`. Items that are left alone keep
their text to the letter.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vilasr.data_check.documents import Document, mended, read_document
from vilasr.data_check.problems import Code, Effect, Finding, Severity, effect_of
from vilasr.data_check.report import FileReport, Report
from vilasr.data_check.run import is_item
from vilasr.data_check.sources import Kind
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

ERRORS = "errors"  # stands for all codes that are errors
_UNUSABLE = (Effect.STOPS, Effect.DROPPED)


@dataclass
class FileFix:
    """What was done to one file: `refused` says why nothing was."""

    file: Path
    original: Path | None = None
    rejected: Path | None = None
    edits: list[dict[str, Any]] = field(default_factory=list)
    moved: list[dict[str, Any]] = field(default_factory=list)
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "original": str(self.original) if self.original else None,
            "rejected": str(self.rejected) if self.rejected else None,
            "edits": self.edits,
            "moved": self.moved,
            "refused": self.refused or None,
        }


def fix(report: Report, reject: Collection[str] = (), most_rejected: float = 0.5) -> list[FileFix]:
    """Repairs the files of a whole check (no sample). `reject` are further codes whose items go aside, or "errors".

    A file of which more than the share `most_rejected` would go aside is left as it is: its images are probably not
    unpacked. Raises DataError where a file cannot be written.
    """
    fixes, seen = [], set[Path]()
    for file in report.files:
        real = file.source.file.resolve()
        done = None if real in seen else _fix_file(file, reject, most_rejected)  # two datasets may name one file
        seen.add(real)
        if done is not None:
            fixes.append(done)
    return fixes


def _fix_file(file: FileReport, reject: Collection[str], most_rejected: float) -> FileFix | None:
    """None where there is nothing to do."""
    source, path = file.source, file.source.file
    edits: dict[int, list[Finding]] = {}
    moved: dict[int, list[Finding]] = {}
    for number, findings in file.fates.items():
        reasons = [f for f in findings if _goes_aside(f, source.kind, reject)]
        if reasons:
            moved[number] = reasons
        elif repairs := [f for f in findings if f.edit is not None]:
            edits[number] = repairs
    if not edits and not moved:
        return None
    done = FileFix(path)
    if file.items < file.total:
        done.refused = "only a sample was checked; check all items"
    elif source.shared:
        done.refused = "every file of its folder is read as data, the ones a repair writes would be too"
    elif len(moved) > most_rejected * file.total:
        done.refused = (
            f"{len(moved)} of {file.total} items would be moved aside; unpack the images again, or allow it with "
            "--max-rejected 1"
        )
    if done.refused:
        return done
    try:
        stamp = path.stat()
        if (stamp.st_size, stamp.st_mtime_ns) != file.stamp:
            raise DataError(f"{path}: has changed since it was checked; check it again")
        _write_all(file, edits, moved, done)
    except OSError as exc:
        raise DataError(f"{path}: cannot be repaired ({exc})") from exc
    return done


def _goes_aside(found: Finding, kind: Kind, reject: Collection[str]) -> bool:
    if found.severity is Severity.NOTE:
        return False
    if found.code in reject or (ERRORS in reject and found.severity is Severity.ERROR and found.edit is None):
        return True
    return kind is Kind.SFT and found.edit is None and effect_of(found.code) in _UNUSABLE


def _write_all(
    file: FileReport, edits: dict[int, list[Finding]], moved: dict[int, list[Finding]], done: FileFix
) -> None:
    source, path = file.source, file.source.file
    document = read_document(path, is_item(source))
    original = path.with_name(f"{path.stem}.original{path.suffix}")
    rejected = path.with_name(f"{path.stem}.rejected.json")
    content = path.read_bytes()
    if original.exists() and original.read_bytes() != content:
        raise DataError(f"{original}: holds an earlier original; move it away to repair {path.name} again")
    kept: list[str] = []
    aside: list[dict[str, Any]] = []
    for piece in document.pieces:
        text = document.text_of(piece)
        if piece.number in moved:
            aside.append(_aside(piece.number, text, moved[piece.number], done))
        elif piece.number in edits:
            kept.append(_edited(piece.number, text, edits[piece.number], done))
        else:
            kept.append(text)
    if aside:
        _write(rejected, json.dumps([*_earlier(rejected), *aside], ensure_ascii=False, indent=1) + "\n")
        done.rejected = rejected
    if not original.exists():
        _write(original, content)
    done.original = original
    _write(path, _joined(document, kept))
    log.info("%s: %d values repaired, %d items moved aside", path, len(done.edits), len(aside))


def _aside(number: int, text: str, reasons: Iterable[Finding], done: FileFix) -> dict[str, Any]:
    told = [{"code": f.code, "field": f.field, "message": f.message} for f in reasons]
    done.moved.append({"item": number, "reasons": told})
    entry: dict[str, Any] = {"item": number, "reasons": told}
    if all(f.code not in (Code.BROKEN_JSON, Code.BAD_ENCODING) for f in reasons):
        return entry | {"record": json.loads(text)}
    return entry | {"text": mended(text)}  # its bytes are in the original


def _edited(number: int, text: str, repairs: Iterable[Finding], done: FileFix) -> str:
    record = json.loads(text)
    for found in repairs:
        if found.edit is None:
            continue
        *way, last = found.edit.path
        place: Any = record
        for key in way:
            place = place[key]
        if isinstance(place, str):  # one path instead of a list of them
            record[way[-1]] = found.edit.new
        else:
            place[last] = found.edit.new
        done.edits.append(
            {"item": number, "field": found.field, "code": found.code, "old": found.edit.old, "new": found.edit.new}
        )
    return json.dumps(record, ensure_ascii=False)


def _joined(document: Document, items: list[str]) -> str:
    if not document.is_list:
        return "".join(item.strip() + "\n" for item in items)
    return "[\n" + ",\n".join(items) + "\n]\n"


def _earlier(path: Path) -> list[Any]:
    """What earlier repairs moved aside."""
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); move it away") from exc
    if not isinstance(found, list):
        raise DataError(f"{path}: must hold a list; move it away")
    return found


def _write(path: Path, content: str | bytes) -> None:
    """All of it or nothing."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
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
