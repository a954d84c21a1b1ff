"""The page: one HTML file with its script, style, data and pictures inside, and a policy that lets nothing else in.

Whatever a model said reaches the page as data: as JSON without the characters that could end its element, or as
base64 of compressed JSON. The script puts it on the page as text only. The content security policy names script and
style by their hashes and forbids every request, so that not even a mistake there could run or fetch anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vilasr.drawing.canvas import PALETTE
from vilasr.tasks import DataError
from vilasr.viewer.choice import Entry
from vilasr.viewer.collect import Report
from vilasr.viewer.details import details
from vilasr.viewer.folders import results_files
from vilasr.viewer.frames import Frames
from vilasr.viewer.search import search_texts

_ASSETS = Path(__file__).resolve().parent / "assets"
_SCRIPTS = (
    "text.js", "data.js", "compare.js", "overview.js", "comparisons.js", "search.js", "list.js", "drawing.js",
    "trace.js", "steps.js", "lanes.js", "main.js",
)  # fmt: skip
log = logging.getLogger(__name__)

_CHUNK = 32  # traces that are decompressed together
_TOLD = 5
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}


def script() -> str:
    """The page's one script: the assets' files in one scope."""
    parts = "\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def style() -> str:
    return (_ASSETS / "viewer.css").read_text(encoding="utf-8")


def policy(script_text: str, style_text: str) -> str:
    """The content security policy: this script, this style, pictures that are inside the page; nothing else."""
    rules = (
        "default-src 'none'",
        f"script-src '{_hash(script_text)}'",
        f"style-src '{_hash(style_text)}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return "; ".join(rules)


def json_text(value: Any) -> str:
    """JSON that can stand in a script element: in ASCII and without `<`, `>` and `&`."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def packed(value: Any) -> str:
    """Compressed JSON in base64, which the page unpacks when it is looked at."""
    raw = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64.b64encode(deflate.compress(raw) + deflate.flush()).decode()


@dataclass(frozen=True, slots=True)
class Written:
    """A report's `size` in bytes, and how many of its traces are `broken`: records that cannot be shown in full."""

    size: int
    broken: int


def check_output(path: Path, folders: Sequence[Path]) -> None:
    """Raises DataError where no report can be written, or where it would replace the results of one of the folders."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name the file of the report, such as {path / 'report.html'}")
    if not path.parent.is_dir():
        raise DataError(f"{path}: No such file can be written, as {path.parent} is no folder; make it first")
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no regular file; name another")
    for source in (source for folder in folders for source in results_files(folder)):
        if path.exists() and path.samefile(source):
            raise DataError(f"{path}: is what the report is made of; name another file for it")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"{path}: the folder {path.parent} cannot be written to")


def write_page(path: Path, report: Report, frames: Frames, title: str) -> Written:
    """Writes the report. The same input gives the same bytes. Raises OSError, or DataError as `check_output` does."""
    check_output(path, [run.folder for run in report.runs])
    number, name = tempfile.mkstemp(dir=path.parent, prefix=".view_traces-", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            broken = _write(file, report, frames, title)
            size = file.tell()
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # a temporary file is its owner's alone
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return Written(size, broken)


def _write(file: BinaryIO, report: Report, frames: Frames, title: str) -> int:
    """Returns how many traces are broken. What is seen first stands first: a browser shows the overview while it
    still reads traces and pictures."""
    script_text, style_text = script(), style()
    broken: list[str] = []
    template = (_ASSETS / "page.html").read_text(encoding="utf-8")
    head, tail = template.split("<!-- data -->")
    index = {
        "title": title,
        "results": report.results,
        "runs": [run.overview() for run in report.runs],
        "columns": report.columns(),
        "chunk": _CHUNK,
        "palette": PALETTE,
        "left_out": frames.left_out,
        "missing": frames.missing,
        "skipped": report.skipped,
        "comparisons": [pair.record() for pair in report.comparisons.pairs],
        "apart": report.comparisons.apart,
    }
    head = head.replace("{policy}", policy(script_text, style_text)).replace("{style}", style_text)
    file.write(head.encode())
    file.write(f'<script type="application/json" id="index">{json_text(index)}</script>\n'.encode())
    file.write(f"<script>{script_text}</script>\n".encode())
    file.write(f'<script type="text/plain" id="texts">{packed(search_texts(report.entries))}</script>\n'.encode())
    for number, chunk in enumerate(_chunks(report, frames, broken)):
        file.write(f'<script type="text/plain" id="traces-{number}">{chunk}</script>\n'.encode())
    for number, picture in enumerate(frames.pictures):
        text = base64.b64encode(picture).decode()
        file.write(f'<script type="text/plain" id="picture-{number}">{text}</script>\n'.encode())
    file.write(tail.encode())
    if len(broken) > _TOLD:
        log.warning("%d more traces cannot be shown in full", len(broken) - _TOLD)
    return len(broken)


def _chunks(report: Report, frames: Frames, broken: list[str]) -> Iterator[str]:
    """The traces, packed. Ids of those that are broken are appended to `broken`."""
    entries: list[Entry] = report.entries
    for start in range(0, len(entries), _CHUNK):
        shown = []
        for entry in entries[start : start + _CHUNK]:
            shown.append(details(entry, frames))
            if "broken" in shown[-1]:
                broken.append(entry.result.id)
                if len(broken) <= _TOLD:
                    folder = report.runs[entry.run].folder
                    log.warning("%s: item %s: cannot be shown in full: %s", folder, broken[-1], shown[-1]["broken"])
        yield packed(shown)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
