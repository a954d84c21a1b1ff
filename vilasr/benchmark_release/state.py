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
VIDEOS = "videos"  # in the settings: what each video, "<dataset>/<scene>", was made of
_LOCK_NAME = ".lock"
_OURS = re.compile(r'"release": \{')  # in each of our records and in no one else's
_SIZE = r"(?:\d+x)?\d+-\d+"
# Folders and files as `convert` names them, below the images' folder; half-written ones carry a dot and ".part".
_IMAGE = re.compile(rf"{_SIZE}/[A-Za-z0-9_][\w.-]*/(?:[A-Za-z0-9_][\w.-]*|\.[\w.-]+\.part)/\d{{2,}}\.png", re.ASCII)


@contextlib.contextmanager
def claim(file: Path, images: Path, settings: dict[str, Any], overwrite: bool) -> Iterator[None]:
    """Holds `images`, the folder of the benchmark `file`, for a conversion with these settings.

    Of a video that was replaced the frames are removed, to be made again. Raises DataError where another run holds the
    folder, where an earlier conversion had other settings or cannot be told (unless `overwrite`, which removes it), and
    for a file or folder that no conversion made.
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
    if before == settings:
        return
    if before is not None or file.exists() or _content(images):
        changed = sorted(key for key in settings if (before or {}).get(key) != settings[key])
        if changed != [VIDEOS] and not overwrite:
            raise DataError(_why(file, images, before, changed))
        stale = _content(images) if changed != [VIDEOS] else _replaced(images, before or {}, settings)
        for folder in stale:
            _check_ours(images, folder)
        file.unlink(missing_ok=True)  # first, so that no file names images that are being replaced
        for folder in stale:
            shutil.rmtree(folder)
    half = part(images / STATE_NAME)
    half.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(half, images / STATE_NAME)  # last, so that a run killed before it removes the rest


def _why(file: Path, images: Path, before: dict[str, Any] | None, changed: list[str]) -> str:
    ways = "choose another --out, or give --overwrite to replace it"
    if before is not None:
        return f"{images}: holds a conversion with other settings (changed: {', '.join(changed)}); {ways}"
    content = _content(images)
    if not content:
        return f"{images}: the images of {file} are gone; {ways}"
    if file.exists():
        return f"{images / STATE_NAME}: is gone, so the settings of {file} cannot be told; {ways}"
    return f"{images}: holds {content[0].name} and no {STATE_NAME}, so what made it cannot be told; {ways}"


def _content(images: Path) -> list[Path]:
    """All but the conversion's own notes."""
    own = {_LOCK_NAME, STATE_NAME, part(images / STATE_NAME).name}
    return sorted(path for path in images.iterdir() if path.name not in own)


def _replaced(images: Path, before: dict[str, Any], settings: dict[str, Any]) -> list[Path]:
    """The folders of videos that are others than they were."""
    old, new = before.get(VIDEOS), settings[VIDEOS]
    old = old if isinstance(old, dict) else {}
    scenes = [scene for scene in new if old.get(scene) != new[scene]]
    if scenes:
        log.info("%d videos were replaced since the last run", len(scenes))
    return [folder for scene in scenes for folder in sorted(images.glob(f"*/{scene}"))]


def _check_ours(images: Path, folder: Path) -> None:
    """Raises DataError for what is no image of a conversion's, before it is removed with the others."""
    for path in [folder, *sorted(folder.rglob("*"))]:
        name = path.relative_to(images).as_posix()
        if not ((path.is_file() and _IMAGE.fullmatch(name)) or (path.is_dir() and not path.is_symlink())):
            raise DataError(
                f"{path}: was not made by this tool and is not removed; move it away or choose another --out"
            )


def _is_ours(file: Path) -> bool:
    with file.open(encoding="utf-8", errors="replace") as text:
        return _OURS.search(text.read(1_000_000)) is not None


def _read(path: Path) -> dict[str, Any] | None:
    """A damaged state is that of an unknown conversion."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}
