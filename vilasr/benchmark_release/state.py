"""Which conversion a folder of images belongs to, so that what is there is only used for the same one."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vilasr.sft_files import part
from vilasr.tasks import DataError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

log = logging.getLogger(__name__)

STATE_NAME = ".conversion.json"
_LOCK_NAME = ".lock"
_OURS = re.compile(r'"release": \{')  # in each of our records and in no one else's


@contextlib.contextmanager
def claim(file: Path, images: Path, settings: dict[str, Any], overwrite: bool) -> Iterator[None]:
    """Holds `images`, the folder of the benchmark `file`, for a conversion with these settings.

    Raises DataError where another run holds it, where an earlier conversion had other settings (unless `overwrite`,
    which removes it), and for a file or folder that no conversion made.
    """
    if file.exists() and not _is_ours(file):
        raise DataError(f"{file}: was not made by this tool and is not overwritten; choose another --out")
    images.mkdir(parents=True, exist_ok=True)
    with (images / _LOCK_NAME).open("ab") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise DataError(f"{images}: another run is writing it; wait for its end") from exc
            except OSError as exc:  # some network file systems have no locks
                log.warning("%s: cannot be locked (%s); see to it that no second run writes it", images, exc)
        _settle(file, images, settings, overwrite)
        yield


def _settle(file: Path, images: Path, settings: dict[str, Any], overwrite: bool) -> None:
    before = _read(images / STATE_NAME)
    if before is None and any(path.name != _LOCK_NAME for path in images.iterdir() if not _is_part(path)):
        raise DataError(f"{images}: holds files that this tool did not make; choose another --out")
    if before == settings:
        return
    if before is not None or file.exists():
        if not overwrite:
            changed = sorted(key for key in settings if (before or {}).get(key) != settings[key])
            raise DataError(
                f"{images}: holds a conversion with other settings (changed: {', '.join(changed)}); choose another "
                "--out, or give --overwrite to replace it"
            )
        file.unlink(missing_ok=True)  # first, so that no file names images that are being replaced
        for path in sorted(images.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
    half = part(images / STATE_NAME)
    half.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(half, images / STATE_NAME)


def _is_part(path: Path) -> bool:
    return path.name == part(path.with_name(STATE_NAME)).name


def _is_ours(file: Path) -> bool:
    with file.open(encoding="utf-8", errors="replace") as text:
        return _OURS.search(text.read(1_000_000)) is not None


def _read(path: Path) -> dict[str, Any] | None:
    """A damaged state is that of an unknown conversion."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
