"""What was unpacked before: one small file an archive in `<data>/.unzip/`, and the lock of a run.

A record says: every member of an archive with this directory was written and its CRC checked, and all of it is on the
disk. So a later run only looks whether the files are there with their sizes. Without a record (a killed run, files of
another tool) nothing is believed: files of the right size are read and their CRC compared, which costs a fraction of
unpacking them again and needs no journal.

A record also keeps some of the files, so that a run notices that they are gone when the archive is gone too.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vilasr.archives.files import OutputError, explain, file_size, is_repaired
from vilasr.archives.layout import Item

log = logging.getLogger(__name__)

FOLDER = ".unzip"
MOST_KEPT = 1000  # files of a record: all of a small archive; looking at them takes a moment on any file system
_VERSION = 2


class Kept(NamedTuple):
    """A file that an archive put into its stage's folder."""

    path: str
    size: int
    crc: int


@dataclass(frozen=True)
class Record:
    """An archive that was unpacked: `directory` is the SHA-256 of its directory, `kept` are some of its files."""

    archive: str
    directory: str
    files: int
    bytes: int
    kept: tuple[Kept, ...]


def make_record(archive: str, directory: str, items: Iterable[Item]) -> Record:
    files = [Kept(i.path, i.member.size, i.member.crc) for i in items if not i.member.is_folder]
    return Record(archive, directory, len(files), sum(file.size for file in files), choose(files))


def choose(files: Sequence[Kept]) -> tuple[Kept, ...]:
    """At most MOST_KEPT of them: one of each folder, where there are not more than that, and others evenly."""
    if len(files) <= MOST_KEPT:
        return tuple(files)
    first = {file.path.rpartition("/")[0]: file for file in reversed(files)}
    half = MOST_KEPT // 2
    return tuple(sorted({*_evenly([*first.values()], half), *_evenly(files, half)}))


def _evenly(files: Sequence[Kept], most: int) -> Iterator[Kept]:
    count = min(most, len(files))
    return (files[number * len(files) // count] for number in range(count))


def _record_path(data: Path, archive: str) -> Path:
    return data / FOLDER / f"{archive}.json"


def read_record(data: Path, archive: str) -> Record | None:
    """A damaged record, or one of another version, is none."""
    try:
        record: Any = json.loads(_record_path(data, archive).read_text(encoding="utf-8"))
        if record["version"] != _VERSION:
            return None
        kept = tuple(Kept(_path(path), int(size), int(crc)) for path, size, crc in record["kept"])
        return Record(archive, str(record["directory"]), int(record["files"]), int(record["bytes"]), kept)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _path(value: object) -> str:
    """Raises ValueError for what is no path anywhere."""
    path = str(value)
    if "\x00" in path or len(path) > 2048 or any(len(part) > 255 for part in os.fsencode(path).split(b"/")):
        raise ValueError("a path that no file can have")
    return path


def is_recorded(data: Path, archive: str, digest: str) -> bool:
    """Whether an archive with this directory (its SHA-256) was unpacked completely."""
    record = read_record(data, archive)
    return record is not None and record.directory == digest


def recorded_names(data: Path) -> list[str]:
    """The names of all archives that have a record."""
    with contextlib.suppress(OSError):
        return sorted(path.name.removesuffix(".json") for path in (data / FOLDER).iterdir() if path.suffix == ".json")
    return []


def lost_files(data: Path, archive: str, stage: Path, others: Iterable[Iterable[Item]]) -> str:
    """What is wrong with the files of a recorded archive that is gone; "" if they seem to be there. `others` are the
    members of the stage's archives that are there: their files are not lost."""
    path = _record_path(data, archive)
    forget = f"or, if its files are no longer wanted, delete {path}"
    record = read_record(data, archive)
    if record is None:
        return f"its record {path} cannot be read and the archive is gone: download it again, {forget}"
    lost = [file.path for file in record.kept if not _is_there(os.path.join(stage, file.path), file)]
    if lost:
        there = {item.path for items in others for item in items}
        lost = [name for name in lost if name not in there]
    if not lost:
        return ""
    return (
        f"files of {archive} are missing or changed ({len(lost):,} of {len(record.kept):,} looked at: "
        f"{stage / lost[0]} ...) and the archive is gone: download it again, {forget}"
    )


def _is_there(path: str, file: Kept) -> bool:
    size = file_size(path)
    if size is None or size < 0:
        return False
    return size == file.size or is_repaired(path, file.size, file.crc, lambda: False)


def write_record(data: Path, record: Record, folder: Path) -> None:
    """Record an archive unpacked into `folder`. Raises OutputError.

    First the file system is told to put everything on the disk: files are not flushed one by one, which would take many
    times as long, and a record must not survive a power failure that its files do not.
    """
    path = _record_path(data, record.archive)
    temporary = path.with_name(path.name + ".tmp")
    try:
        _flush(folder)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"version": _VERSION, **asdict(record)}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as exc:
        raise explain(exc, path) from exc


def drop_record(data: Path, archive: str) -> None:
    """So that a run which is killed while it repairs an archive does not leave it recorded. Raises OutputError."""
    path = _record_path(data, archive)
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise explain(exc, path) from exc


def _flush(folder: Path) -> None:
    """The file system of `folder` alone where the C library can do it: sync() waits for every mount, dead ones too."""
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError, TypeError):
        getattr(os, "sync", lambda: None)()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(handle):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(data: Path) -> Iterator[None]:
    """One run a data folder. Raises OutputError if another one is at work or the folder cannot be written."""
    folder = data / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        file = (folder / "lock").open("ab")
    except OSError as exc:
        raise explain(exc, folder) from exc
    with file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise OutputError(f"{data}: another run is unpacking into it; wait for it or stop it") from exc
        except OSError as exc:  # some network file systems have no locks
            log.warning("%s: cannot be locked (%s); see to it that no second run unpacks into it", data, exc)
        yield
