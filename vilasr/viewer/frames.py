"""The question's images as small files inside the page: each distinct picture once, clean, within a budget."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image

from vilasr.images import ImageError, load_image
from vilasr.results import Result
from vilasr.tasks import DataError, find_image
from vilasr.viewer.choice import Entry
from vilasr.viewer.collect import Report
from vilasr.viewer.folders import RESULTS

log = logging.getLogger(__name__)

_BATCH = 64  # pictures encoded at once, to bound memory and what is done in vain beyond the budget
_FEW_COLORS = 256  # drawings such as mazes: lossless is smaller and sharp
_QUALITY = 82
_SHOWN = 5
MAX_SIDE = 16_383  # of a WebP file
_UNUSABLE = (DataError, ImageError, OSError, ValueError, OverflowError, MemoryError)
_LONGEST = 100_000  # of an image in a record


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """`max_side`: longer pictures are made smaller; at most `MAX_SIDE`. `max_mb`: of all pictures as written in the
    page; the rest are left out, and their marks shown on an empty frame. `data_root`: where relative
    paths are looked up too."""

    max_side: int = 768
    max_mb: float = 200.0
    data_root: Path | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """The picture of a question's image by its number in the page, or None and the `reason`."""

    number: int | None
    reason: str = ""
    name: str = ""  # of its file, without the folders


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file at the size the model saw."""

    name: str
    size: tuple[int, int]
    results: Path


def is_side(value: object) -> bool:
    """Whether a record's width or height can be one."""
    return type(value) is int and 1 <= value <= _LONGEST  # a bool is an int too


class Frames:
    """The pictures of a report. `pictures` are the WebP files in the page; `of(entry)` are those of one trace."""

    def __init__(self, report: Report, options: FrameOptions = FrameOptions()) -> None:
        self.pictures: list[bytes] = []
        self.missing = 0
        self.left_out = 0
        self._report = report
        self._numbers: dict[str, int] = {}  # by the content's hash
        self._shown: dict[_Wanted, Shown] = {}
        self._make(options)

    def of(self, entry: Entry) -> list[Shown]:
        return [self._shown[wanted] for wanted in self._wanted(entry)]

    def _wanted(self, entry: Entry) -> list[_Wanted]:
        results = self._report.runs[entry.run].folder / RESULTS
        return [_Wanted(name, size, results) for name, size in _files(entry.result)]

    def _make(self, options: FrameOptions) -> None:
        """Batch by batch in the order of the traces, so that the same input gives the same numbers."""
        wanted = iter(dict.fromkeys(one for entry in self._report.entries for one in self._wanted(entry)))
        budget = options.max_mb * 1e6
        full = False
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while batch := list(islice(wanted, _BATCH)):
                encoded: Iterator[bytes | str]
                work = _find_problem if full else _encode
                encoded = pool.map(lambda one, work=work: work(one, options), batch)
                for one, picture in zip(batch, encoded, strict=True):
                    name = Path(one.name).name
                    if isinstance(picture, str):
                        self.missing += 1
                        if self.missing <= _SHOWN:
                            log.warning("%s", picture)
                        self._shown[one] = Shown(None, "the file is missing or unreadable", name)
                    elif full:
                        self._shown[one] = self._leave_out(name)
                    else:
                        size = 4 * len(picture) / 3
                        known = self._numbers.get(hashlib.sha256(picture).hexdigest())
                        if known is None and size > budget:
                            full = True
                            self._shown[one] = self._leave_out(name)
                            continue
                        budget -= 0 if known is not None else size
                        self._shown[one] = Shown(self._add(picture), name=name)
        if self.missing > _SHOWN:
            log.warning("%d more images are missing", self.missing - _SHOWN)
        if self.left_out:
            log.warning(
                "%d images are beyond --max-mb %g and left out: raise it, lower --max-side, or choose fewer traces",
                self.left_out,
                options.max_mb,
            )

    def _leave_out(self, name: str) -> Shown:
        self.left_out += 1
        return Shown(None, "left out, as the report has no room for more images (--max-mb)", name)

    def _add(self, picture: bytes) -> int:
        key = hashlib.sha256(picture).hexdigest()
        if key not in self._numbers:
            self._numbers[key] = len(self.pictures)
            self.pictures.append(picture)
        return self._numbers[key]


def _files(result: Result) -> list[tuple[str, tuple[int, int]]]:
    """Each question image's file and size. A record whose sizes are none is told by `details`, not here."""
    if result.trace is None:
        return []
    roots = [node for node in result.trace.images if node.parent is None]
    if len(roots) != len(result.image_files):
        return []
    sizes = [(node.width, node.height) for node in roots]
    return [(str(name), size) for name, size in zip(result.image_files, sizes, strict=True) if all(map(is_side, size))]


def _find_problem(wanted: _Wanted, options: FrameOptions) -> bytes | str:
    """What is wrong with a file that is not embedded: whether it is there; no bytes if so."""
    try:
        find_image(wanted.name, wanted.results, options.data_root)
    except _UNUSABLE as exc:
        return f"{wanted.results}: {exc}"
    return b""


def _encode(wanted: _Wanted, options: FrameOptions) -> bytes | str:
    """The picture, or what is wrong with its file."""
    try:
        image = load_image(find_image(wanted.name, wanted.results, options.data_root))
        scale = min(1.0, options.max_side / max(wanted.size))
        width, height = (max(1, round(side * scale)) for side in wanted.size)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        if image.getcolors(_FEW_COLORS) is not None:
            image.save(file, "WEBP", lossless=True, quality=50, method=3)
        else:
            image.save(file, "WEBP", quality=_QUALITY, method=2)
    except _UNUSABLE as exc:
        return f"{wanted.results}: {exc or type(exc).__name__}"
    return file.getvalue()
