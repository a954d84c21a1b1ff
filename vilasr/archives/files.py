"""Files on disk: written whole or not at all, and compared without being trusted.

A file is written under a temporary name in `<stage>/.unzip-partial/` and renamed once its CRC is right, so whatever a
kill leaves behind lies in that folder. What differs from the archive and is in the way is kept as `NAME.previous`: it
may be somebody's own work.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from vilasr.archives.checks import PARTIAL
from vilasr.archives.member_data import PIECE
from vilasr.one_line import OneLineError

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)

_REPAIRED = (".json", ".jsonl")  # the files that are repaired


class OutputError(OneLineError, RuntimeError):
    """The data folder cannot be written. Nothing more can be unpacked; what is complete is kept."""


class StoppedError(BaseException):
    """The run was asked to end. Like KeyboardInterrupt it may come anywhere, so that no `except Exception` (that of
    logging, say) must take it."""


def explain(exc: OSError, path: str | Path) -> OutputError:
    """One sentence on an error of writing: the file, the reason and what to do."""
    advice = "see to it that the folder can be written"
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "free some space (or inodes, or quota)"
    elif exc.errno == errno.EFBIG:
        advice = "raise the limit on file sizes (ulimit -f) or use another file system"
    return OutputError(f"{path}: cannot be written ({exc.strerror or exc}); {advice} and run this again")


def write_file(
    target: str, temporary: str, pieces: Iterable[bytes | memoryview], stopped: Callable[[], bool]
) -> str | None:
    """Write `target` by way of `temporary`, on the same file system; returns where a file in the way went.

    Raises what `pieces` raises, OutputError or StoppedError; `target` is then what it was.
    """
    moved = None
    try:
        handle = os.open(temporary, _FLAGS, 0o666)
    except OSError as exc:
        raise explain(exc, temporary) from exc
    try:
        try:
            for piece in pieces:
                _write(handle, piece, target)
                if stopped():
                    raise StoppedError
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(handle)
            raise
        try:
            os.close(handle)  # network file systems may tell only here that the disk is full
            if os.path.lexists(target):
                moved = unused_name(target)
                os.rename(target, moved)
            os.replace(temporary, target)
        except OSError as exc:
            raise explain(exc, target) from exc
    except BaseException:
        with contextlib.suppress(OSError):  # the next run removes it
            os.unlink(temporary)
        raise
    return moved


def _write(handle: int, piece: bytes | memoryview, target: str) -> None:
    """All of it. An OSError of the archive passes through `pieces`, one of writing is told apart here."""
    try:
        written = os.write(handle, piece)
        while written < len(piece):  # a nearly full disk takes a part first
            written += os.write(handle, memoryview(piece)[written:])
    except OSError as exc:
        raise explain(exc, target) from exc


def unused_name(path: str) -> str:
    """ "a.json" -> "a.json.previous", "a.json.previous-2", ..."""
    name, number = f"{path}.previous", 2
    while os.path.lexists(name):
        name, number = f"{path}.previous-{number}", number + 1
    return name


def file_size(path: str) -> int | None:
    """Bytes of a regular file; -1 of anything else that is there, None if nothing is."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def has_crc(path: str, crc: int, stopped: Callable[[], bool]) -> bool:
    """Whether a file has this CRC-32; False where it cannot be read. Raises StoppedError."""
    found = 0
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(PIECE):
                found = zlib.crc32(piece, found)
                if stopped():
                    raise StoppedError
    except OSError:
        return False
    return found == crc


def is_repaired(path: str, size: int, crc: int, stopped: Callable[[], bool]) -> bool:
    """Whether a file is another one on purpose: tools/check_data.py --fix keeps what it repairs, untouched, as
    `NAME.original.json` beside it, and that one has this size and CRC-32. Raises StoppedError."""
    stem, suffix = os.path.splitext(path)
    if suffix not in _REPAIRED:
        return False
    original = f"{stem}.original{suffix}"
    return file_size(original) == size and has_crc(original, crc, stopped)


def make_partial(stage: Path) -> Path:
    """An empty folder for temporary files; removes what a killed run left there. Raises OutputError."""
    partial = stage / PARTIAL
    remove_partial(stage)
    try:
        partial.mkdir(parents=True)
    except OSError as exc:
        raise explain(exc, partial) from exc
    return partial


def remove_partial(stage: Path) -> None:
    """Raises OutputError."""
    partial = stage / PARTIAL
    try:
        if partial.is_symlink():
            partial.unlink()
        elif partial.exists():
            shutil.rmtree(partial)
    except OSError as exc:
        raise explain(exc, partial) from exc
