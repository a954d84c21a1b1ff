"""The page: one HTML file with its script, style, data and pictures inside, and a policy that lets nothing else in.

Whatever a model said reaches the page as data: as JSON without the characters that could end its element, or as
base64 of compressed JSON. The script puts it on the page as text only. The content security policy names script and
style by their hashes and forbids every request, so that not even a mistake there could run or fetch anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vilasr.drawing.canvas import PALETTE
from vilasr.viewer.collect import Entry, Report
from vilasr.viewer.details import detail
from vilasr.viewer.frames import Frames

_ASSETS = Path(__file__).resolve().parent / "assets"
_SCRIPTS = ("text.js", "data.js", "overview.js", "list.js", "drawing.js", "trace.js", "steps.js", "main.js")
_CHUNK = 32  # traces that are decompressed together
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


def write_page(path: Path, report: Report, frames: Frames, title: str) -> int:
    """Writes the report and returns its size in bytes. The same input gives the same bytes. Raises OSError."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            _write(file, report, frames, title)
            size = file.tell()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return size


def _write(file: BinaryIO, report: Report, frames: Frames, title: str) -> None:
    """What is seen first stands first: a browser shows the overview while it still reads traces and pictures."""
    script_text, style_text = script(), style()
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
    }
    head = head.replace("{policy}", policy(script_text, style_text)).replace("{style}", style_text)
    file.write(head.encode())
    file.write(f'<script type="application/json" id="index">{json_text(index)}</script>\n'.encode())
    file.write(f"<script>{script_text}</script>\n".encode())
    for number, chunk in enumerate(_chunks(report, frames)):
        file.write(f'<script type="text/plain" id="traces-{number}">{chunk}</script>\n'.encode())
    for number, picture in enumerate(frames.pictures):
        text = base64.b64encode(picture).decode()
        file.write(f'<script type="text/plain" id="picture-{number}">{text}</script>\n'.encode())
    file.write(tail.encode())


def _chunks(report: Report, frames: Frames) -> Iterator[str]:
    entries: list[Entry] = report.entries
    for start in range(0, len(entries), _CHUNK):
        yield packed([detail(entry, frames.of(entry)) for entry in entries[start : start + _CHUNK]])


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
