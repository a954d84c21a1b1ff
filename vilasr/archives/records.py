"""What was unpacked before: one small file an archive in `<data>/.unzip/`, and the lock of a run.

A record says: every member of an archive with this directory was written and its CRC checked, and all of it is on the
disk. So a later run only looks whether the files are there with their sizes. Without a record (a killed run, files of
another tool) nothing is believed: files of the right size are read and their CRC compared, which costs a fraction of
unpacking them again and needs no journal.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from vilasr.archives.files import OutputError, explain

log = logging.getLogger(__name__)

FOLDER = ".unzip"
_VERSION = 1


def _record_path(data: Path, archive: str) -> Path:
    return data / FOLDER / f"{archive}.json"


def is_recorded(data: Path, archive: str, digest: str) -> bool:
    """Whether an archive with this directory (its SHA-256) was unpacked completely. A damaged record is none."""
    try:
        record = json.loads(_record_path(data, archive).read_text(encoding="utf-8"))
        return record["version"] == _VERSION and record["directory"] == digest
    except (OSError, ValueError, TypeError, KeyError):
        return False


def recorded_names(data: Path) -> list[str]:
    """The names of all archives that have a record."""
    with contextlib.suppress(OSError):
        return sorted(path.name.removesuffix(".json") for path in (data / FOLDER).iterdir() if path.suffix == ".json")
    return []


def write_record(data: Path, archive: str, digest: str, files: int, size: int, folder: Path) -> None:
    """Record an archive unpacked into `folder` (`size` bytes in `files` files). Raises OutputError.

    First the file system is told to put everything on the disk: files are not flushed one by one, which would take many
    times as long, and a record must not survive a power failure that its files do not.
    """
    path = _record_path(data, archive)
    temporary = path.with_name(path.name + ".tmp")
    record = {"version": _VERSION, "archive": archive, "directory": digest, "files": files, "bytes": size}
    try:
        _flush(folder)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(record, file, indent=2)
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
