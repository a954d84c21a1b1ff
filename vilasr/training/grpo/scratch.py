"""The folder of a run that lies on its machine alone: Ray's session. It goes with the run; only Ray's logs are kept."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

_PREFIX, _LOCK = "vilasr-", "pid"
_NEW = 60  # seconds in which a folder may have no lock yet


def place() -> Path:
    """Short: the paths of Ray's sockets may have 107 characters."""
    short = Path("/tmp")  # noqa: S108
    return short if short.is_dir() else Path(tempfile.gettempdir())


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of its own, so that two runs on a machine never meet. Those of killed runs are removed before."""
    remove_stale(place())
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place()))
    try:
        with (folder / _LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(str(os.getpid()))
            file.flush()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(where: Path) -> list[Path]:
    """Remove folders of ours whose run is gone with all that it started; returns them."""
    removed = [folder for folder in where.glob(f"{_PREFIX}*") if _is_stale(folder)]
    for folder in removed:
        shutil.rmtree(folder, ignore_errors=True)
        log.info("%s, of a run that was killed, is removed", folder)
    return removed


def _is_stale(folder: Path) -> bool:
    lock = folder / _LOCK
    try:
        seen = lock.stat()
        if seen.st_uid != os.getuid() or time.time() - seen.st_mtime < _NEW:
            return False
        with lock.open() as file:  # a lock holds across containers, where process ids do not
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            number = file.read()
    except OSError:
        return False
    return number.isdigit() and not Path(f"/proc/{number}").exists() and not _is_used(folder)


def _is_used(folder: Path) -> bool:
    """Whether a process names the folder: verl and Ray outlive a launcher that was killed."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(folder) in path.read_bytes():
                return True
        except OSError:  # it has ended
            continue
    return False


def keep_logs(ray: Path, output: Path) -> Path | None:
    """Copy the logs of the Ray session in `ray` to the first free `ray_logs-N` of the output."""
    sessions = [path for path in ray.glob("session_*/logs") if not path.parent.is_symlink()]
    if not sessions:
        return None
    number = 1
    while (output / f"ray_logs-{number}").exists():
        number += 1
    kept = output / f"ray_logs-{number}"
    for path in sessions:
        try:
            shutil.copytree(path, kept / path.parent.name, symlinks=True)
        except (OSError, shutil.Error) as exc:  # what of it could be copied is there
            log.warning("%s: not all of Ray's logs could be copied (%s)", kept, str(exc)[:200])
    return kept
