"""The thumbnail of each picture, made once and kept on disk for all runs and shards that read the same pictures."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vilasr.data_engine.image_hash import SIDE, Thumbnail, thumbnail
from vilasr.images import ImageError, load_image
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

_FORMAT = 2  # another one when thumbnails are made otherwise


@dataclass(frozen=True, slots=True)
class _Known:
    size: int
    modified: int  # nanoseconds
    pixels: bytes


@dataclass(frozen=True, slots=True)
class _Content:
    """Of a file: the files' names as JSON, their sizes and times, their thumbnails one behind the other."""

    paths: NDArray[np.uint8]
    stamps: NDArray[np.int64]
    pixels: NDArray[np.uint8]


class Thumbnails:
    """1.6 KB a picture, on disk too where `caches` name files: all of them are read, the first that can be written is
    written, and that another one is used is told once. In them, files stand by their path from `root`, so that a folder
    may lie elsewhere for another process.

    A file that changed in size or time is read again. A cache that is damaged or of another version is made anew, with
    a warning. Several processes may use the same ones: one fills them at a time, and none loses what another wrote.
    """

    def __init__(self, caches: Sequence[Path] = (), root: Path | None = None) -> None:
        self.made: set[str] = set()  # files that were decoded, not taken from a cache
        self._caches = list(caches)
        self._root = None if root is None else os.path.realpath(root)
        self._unsaved: set[str] = set()
        self._known: dict[str, _Known] = {}
        self._seen: dict[Path, tuple[int, int, int] | None] = {}  # what each cache was when it was read
        self._locked = False
        self._update()

    def of(self, paths: Iterable[Path], step: Callable[[], object] = lambda: None) -> dict[Path, Thumbnail | DataError]:
        """By path; the files are read in threads, each once, and `step` is called for each path."""
        found: dict[str, Thumbnail | DataError] = {}
        real = {path: os.path.realpath(path) for path in paths}
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            distinct = sorted(set(real.values()))
            for name, one in zip(distinct, pool.map(self._one, distinct), strict=True):
                found[name] = one
                step()
        for _ in range(len(real) - len(distinct)):
            step()
        return {path: found[name] for path, name in real.items()}

    def _one(self, name: str) -> Thumbnail | DataError:
        try:
            stat = os.stat(name)
            known = self._known.get(name)
            if known is None or (known.size, known.modified) != (stat.st_size, stat.st_mtime_ns):
                pixels = thumbnail(load_image(Path(name))).tobytes()
                known = self._known[name] = _Known(stat.st_size, stat.st_mtime_ns, pixels)
                self.made.add(name)
                self._unsaved.add(name)
        except ImageError as exc:
            return DataError(str(exc))
        except OSError as exc:
            return DataError(f"{name}: cannot be read ({exc.strerror}); check the file and its rights")
        return np.frombuffer(known.pixels, np.uint8).reshape(SIDE, SIDE)

    @contextlib.contextmanager
    def filling(self) -> Iterator[None]:
        """While another process fills the same cache, waits, and then knows what that one has read. Where files cannot
        be locked each process reads for itself."""
        if self._locked or not self._caches:
            yield
            return
        with contextlib.ExitStack() as stack:
            self._lock(stack)
            self._locked = True
            try:
                self._update()
                yield
            finally:
                self._locked = False

    def _lock(self, stack: contextlib.ExitStack) -> None:
        try:
            import fcntl  # not on Windows
        except ModuleNotFoundError:
            return
        for cache in self._caches:
            try:
                cache.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(cache.with_name(f"{cache.name}.lock").open("ab"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    log.info("%s: another run reads these pictures; waiting for it", cache)
                    fcntl.flock(file, fcntl.LOCK_EX)
                return
            except OSError:
                continue  # a folder that is read only, or a file system without locks

    def save(self) -> None:
        """Writes a cache, whole or not at all, with what others have written since; disks that refuse are a warning,
        for they only cost time."""
        if not self._caches or not self._unsaved:
            return
        with self.filling():
            content = self._content()
            refused = ""
            for cache in list(self._caches):
                try:
                    _write(cache, content)
                except OSError as exc:
                    refused += f"{cache}: thumbnails cannot be kept there ({exc}); "
                    self._caches.remove(cache)  # neither tried nor told again
                    continue
                self._seen[cache] = _stamp(cache)
                self._unsaved.clear()
                if refused:
                    log.warning("%sthey are kept in %s", refused, cache)
                return
            log.warning("%sthe pictures are read again by each run", refused)

    def _content(self) -> _Content:
        names = [name if self._root is None else os.path.relpath(name, self._root) for name in self._known]
        known = self._known.values()
        return _Content(
            paths=np.frombuffer(json.dumps(names).encode(), np.uint8),
            stamps=np.array([(one.size, one.modified) for one in known], np.int64).reshape(-1, 2),
            pixels=np.frombuffer(b"".join(one.pixels for one in known), np.uint8),
        )

    def _update(self) -> None:
        """Adds what caches hold that were written since they were read; what was read from pictures is newer."""
        for cache in reversed(self._caches):  # the first counts most
            stamp = _stamp(cache)
            if stamp is not None and stamp != self._seen.get(cache):
                found = _read(cache, self._root)
                self._known.update((name, one) for name, one in found.items() if name not in self._unsaved)
            self._seen[cache] = stamp


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _write(path: Path, content: _Content) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, format=np.int64(_FORMAT), paths=content.paths, stamps=content.stamps, pixels=content.pixels)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _read(path: Path, root: str | None) -> dict[str, _Known]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file["format"]) != _FORMAT:
                raise ValueError(f"it is of version {int(file['format'])}, not {_FORMAT}")
            names = json.loads(file["paths"].tobytes())
            pixels, stamps = file["pixels"].reshape(len(names), SIDE * SIDE), file["stamps"]
            if pixels.dtype != np.uint8 or stamps.dtype != np.int64:
                raise ValueError("its numbers are of another kind")
            if root is not None:
                names = [os.path.normpath(os.path.join(root, name)) for name in names]
            return {
                name: _Known(size, modified, one.tobytes())
                for name, (size, modified), one in zip(names, stamps.tolist(), pixels, strict=True)
            }
    except FileNotFoundError:
        return {}
    except Exception as exc:  # zipfile and numpy make many things of damaged bytes, even SyntaxError
        log.warning("%s: damaged, or no file of thumbnails (%s); it is made anew", path, exc)
        return {}
