"""Repairs of SFT files that are safe, and never lose the original.

Safe is what cannot change what an item teaches: an image's path is written as LLaMA-Factory finds it, a role is called
as `dataset_info.json` calls it. Items with which LLaMA-Factory stops, and those it drops, teach nothing: they are
moved aside to `NAME.rejected.json`, each with its reasons. Coordinates, replies and answers are never edited; items
whose only problem is there go aside when asked for by code. Question files are repaired only so: a benchmark without
some of its items is another benchmark.

The repaired file takes the name of the old one, which stays as `NAME.original.json`. Items that are left alone keep
their text to the letter. A later repair does not touch that first original. The version it starts from needs no copy
where nothing of it would be lost: items left alone are still in the file, those moved aside are whole in the rejected
file, and those edited stand in the first original as they were. Where one of them does not (it was edited before, or by
hand, or has broken bytes), that version stays as `NAME.2.original.json` and so on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from vilasr.data_check.advice import advice
from vilasr.data_check.documents import Document, bad_bytes, mended, read_document
from vilasr.data_check.problems import Code, Effect, Finding, Severity, effect_of
from vilasr.data_check.report import FileReport, Report
from vilasr.data_check.run import is_item
from vilasr.data_check.sources import Kind
from vilasr.data_check.writing import add_rejected, dumps, write
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

    A file of which more than the share `most_rejected` would go aside is left as it is: it has one cause for all, as
    images that are not unpacked. So is one that cannot be written; the others are repaired all the same.
    """
    fixes, seen = [], set[Path]()
    for file in report.files:
        path = file.source.file
        if (real := path.resolve()) in seen:  # two datasets may name one file
            continue
        seen.add(real)
        try:
            done = _fix_file(file, reject, most_rejected)
        except (DataError, OSError, RecursionError) as exc:
            done = FileFix(path, refused=str(exc) if isinstance(exc, DataError) else f"cannot be repaired ({exc})")
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
            f"{len(moved)} of {file.total} items would be moved aside, {advice(moved.values())}; "
            "or allow it with --max-rejected 1"
        )
    if done.refused:
        return done
    stamp = path.stat()
    if (stamp.st_size, stamp.st_mtime_ns) != file.stamp:
        raise DataError("has changed since it was checked; check it again")
    _write_all(file, edits, moved, done)
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
    kept: list[str] = []
    aside: list[dict[str, Any]] = []
    changed: list[str] = []  # texts that will stand to the byte in neither file
    for piece in document.pieces:
        text = document.text_of(piece)
        if piece.number in moved:
            aside.append(_aside(piece.number, text, moved[piece.number], done))
            changed += [text] if bad_bytes(text) else []
        elif piece.number in edits:
            changed.append(text)
            kept.append(_edited(piece.number, text, edits[piece.number], done))
        else:
            kept.append(text)
    if aside:
        done.rejected = path.with_name(f"{path.stem}.rejected.json")
        add_rejected(done.rejected, aside)
    done.original = _keep(path, changed, is_item(source))
    write(path, _joined(document, kept))
    log.info("%s: %d values repaired, %d items moved aside", path, len(done.edits), len(aside))


def _keep(path: Path, changed: Iterable[str], known_item: Callable[[object], bool]) -> Path:
    """Where the file as it is stands for good: a copy, or the first original where that has all that `changed`."""
    content = path.read_bytes()
    first = path.with_name(f"{path.stem}.original{path.suffix}")
    if first.exists() and first.read_bytes() != content:
        earlier = read_document(first, known_item)
        whole = {earlier.text_of(piece).strip() for piece in earlier.pieces}
        if all(text.strip() in whole for text in changed):
            return first
    copies = (path.with_name(f"{path.stem}.{number}.original{path.suffix}") for number in count(2))
    copy = first
    while copy.exists() and copy.read_bytes() != content:
        copy = next(copies)
    if not copy.exists():
        write(copy, content)
    return copy


def _aside(number: int, text: str, reasons: Iterable[Finding], done: FileFix) -> dict[str, Any]:
    told = [{"code": f.code, "field": f.field, "message": f.message} for f in reasons]
    done.moved.append({"item": number, "reasons": told})
    entry: dict[str, Any] = {"item": number, "reasons": told}
    if all(f.code not in (Code.BROKEN_JSON, Code.BAD_ENCODING) for f in reasons):
        try:
            whole = entry | {"record": json.loads(text)}
            dumps(whole, indent=1)
            return whole
        except RecursionError:  # nested too deeply to be written so
            pass
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
    return dumps(record)


def _joined(document: Document, items: list[str]) -> str:
    if not document.is_list:
        return "".join(item.strip() + "\n" for item in items)
    return "[\n" + ",\n".join(items) + "\n]\n"
