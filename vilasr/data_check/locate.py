"""Finds and measures the images of one file's items, each image once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from vilasr.data_check.headers import Header, read_header
from vilasr.data_check.problems import Code, Edit, Finding, finding
from vilasr.data_check.sources import Kind, Source
from vilasr.tasks import DataError, find_image

_REMEMBERED = 65_536  # images a process; an entry has some hundred bytes


@dataclass(frozen=True, slots=True)
class Located:
    """`code` and `message` say what is wrong with the place; `relative` is how the file should name the image."""

    path: Path | None
    header: Header
    code: str = ""
    message: str = ""
    relative: str = ""


class Images:
    """Images as LLaMA-Factory finds them for SFT data, by our own rules for questions."""

    def __init__(self, source: Source, pixels: bool) -> None:
        self._source, self._pixels = source, pixels
        self.locate = lru_cache(_REMEMBERED)(self._locate)
        self._is_folder = lru_cache(_REMEMBERED)(os.path.isdir)

    def _locate(self, name: str) -> Located:
        source = self._source
        if "\x00" in name:
            return Located(None, Header(), Code.IMAGE_MISSING, f"{name!r} is no path")
        try:
            if source.kind is Kind.QUESTIONS:
                path = find_image(name, source.file, source.data_root)
                return Located(path, read_header(path, self._pixels))
            return self._as_trained(name)
        except (OSError, DataError) as exc:  # OSError: a name too long for the file system
            return Located(None, Header(), Code.IMAGE_MISSING, str(exc).removeprefix("image_path: "))

    def _as_trained(self, name: str) -> Located:
        source = self._source
        path = source.media_dir / name
        if os.path.isfile(path):
            return Located(path, read_header(path, self._pixels))
        code, path = Code.IMAGE_IN_CWD, Path(name)
        if not os.path.isfile(path):
            code, path = Code.IMAGE_ELSEWHERE, self._elsewhere(name)
        relative = _relative(path, source.media_dir)
        if code is Code.IMAGE_IN_CWD:
            message = f"{name!r} is found from the working directory only; --fix writes {relative!r}"
        else:
            message = (
                f"{name!r} is not where LLaMA-Factory looks ({source.media_dir}, the working directory); "
                f"--fix writes {relative!r}, which it finds"
            )
        return Located(path, read_header(path, self._pixels), code, message, relative)

    def _elsewhere(self, name: str) -> Path:
        """By our own rules, from above the file's folder, and without the path's first folders."""
        source = self._source
        try:
            return find_image(name, source.file, source.data_root)
        except DataError as exc:
            try:
                return find_image(name, source.file, source.file.parent.parent)
            except DataError:
                if (path := self._by_suffix(name)) is not None:
                    return path
                places = dict.fromkeys(map(str, (source.media_dir, Path.cwd(), source.file.parent)))
                message = f"no file {name!r} in {', '.join(places)}, nor without its first folders"
                raise DataError(f"{message}; unpack the archives again") from exc

    def _by_suffix(self, name: str) -> Path | None:
        """The file at the longest end of the path, of folder and name at least: a path from another machine, or from
        above the data. Names alone repeat too often."""
        source, parts = self._source, PurePosixPath(name.replace("\\", "/")).parts
        folders = dict.fromkeys(p for p in (source.media_dir, source.file.parent, source.data_root) if p is not None)
        for number in range(len(parts) - 1):
            rest = parts[number:]
            if rest[0].startswith("/") or ".." in rest:
                continue
            for folder in folders:
                # most ends start with a folder that is not there: that is asked once, not for each image
                if self._is_folder(folder / rest[0]) and os.path.isfile(path := folder.joinpath(*rest)):
                    return path
        return None


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


def about(located: Located, name: str, field: str, path: tuple[str | int, ...], trained: bool) -> Iterator[Finding]:
    """What is wrong with an image; `path` leads to its name in the item. `trained` is for LLaMA-Factory, which does
    not turn images upright."""
    header = located.header
    if located.code:
        edit = Edit(path, name, located.relative) if located.relative else None
        yield finding(located.code, field, located.message, edit=edit)
    if located.path is None:
        return
    if header.too_big:
        yield finding(Code.IMAGE_TOO_BIG, field, f"{located.path}: {header.error}")
    elif header.error:
        yield finding(Code.IMAGE_UNREADABLE, field, f"{located.path}: {header.error}; replace the file")
    elif header.too_narrow:
        message = f"{located.path}: {header.width} x {header.height} is longer than 200 : 1 and would be distorted"
        yield finding(Code.IMAGE_TOO_NARROW, field, message)
    if header.error:
        return
    if trained and header.orientation not in (0, 1):
        message = (
            f"{located.path}: turned by its EXIF tag ({header.orientation}), which LLaMA-Factory ignores and inference "
            "follows; save it upright and check its coordinates"
        )
        yield finding(Code.IMAGE_ROTATED, field, message)
    if trained and header.odd_mode:
        yield finding(Code.IMAGE_MODE, field, f"{located.path}: {header.odd_mode}")
    if header.several:
        yield finding(Code.IMAGE_FRAMES, field, f"{located.path}: holds several frames; the first is used")
