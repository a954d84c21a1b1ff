"""Whether two pictures are copies of one another: re-encoded, resized, a little cropped, brighter or grey.

A picture is kept as a thumbnail of its luminance, 40 x 40. A pair is looked for by the low frequencies of the
thumbnails (what pHash takes the signs of, here not rounded to bits), then confirmed on the thumbnails themselves: each
pixel of one must lie within the range of the 3 x 3 pixels around that place in the other, which forgives shifts of up
to a pixel. `imagehash` was measured beside it (python -m tests.bench_leaks --imagehash): pictures of one style,
as our mazes are, come as close to each other by any of its hashes as slightly cropped copies come to their originals.
At a distance that finds 98 % of the copies, pHash of 64 and 256 bits takes 67 and 44 of 600 small training mazes for
test mazes; the confirmation none of 2,000.

Not found: pictures that are turned, mirrored, collaged, or cropped by much more than 2 % a side. Colours are not
compared, and small things are not seen: mazes of 6 x 6 cells and more that differ in a single wall may count as copies.
Pictures without content (one colour, almost) are never copies of each other.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vilasr.images import ImageError, load_image
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

Thumbnail = NDArray[np.uint8]  # (SIDE, SIDE)
Floats = NDArray[np.float32]

SIDE = 40  # with 32 fewer walls are seen, with 48 slightly cropped mazes are missed
# From measurements (tests/bench_leaks.py): values around them find as many copies and no more false ones.
ALIKE = 0.85  # least cosine of the low frequencies; slightly cropped mazes have 0.9
LOCAL = 1.75  # out of the other's range, in standard deviations: cropped mazes over 1.5, false ones over 2.2
OUTLIERS = 3  # that many pixels may be further out
RELATIVE = 0.2  # out of range on the whole, as a share of the range; cropped small mazes have over 0.15
BRIGHTNESS, CONTRAST = 40.0, 1.5  # grey levels and ratio by which two copies may differ
BLANK = 3.0  # grey levels of standard deviation: less is a picture without content
_FREQUENCIES = 8
_BATCH = 2048  # candidates confirmed at once
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Near:
    """Picture `number` of a set is a copy. `distance`: 0 for the same pixels, at most RELATIVE."""

    number: int
    distance: float


def thumbnail(image: Image.Image) -> Thumbnail:
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.uint8)


def is_blank(thumb: Thumbnail) -> bool:
    return float(thumb.std()) < BLANK


class PictureSet:
    """Thumbnails to look for copies in; blank ones are never found."""

    def __init__(self, thumbs: Sequence[Thumbnail]) -> None:
        self._thumbs = np.array(thumbs, dtype=np.uint8).reshape(-1, SIDE, SIDE)
        parts = [_low(self._thumbs[at : at + _BATCH]) for at in range(0, len(self._thumbs), _BATCH)]
        self._low = np.concatenate([np.empty((0, _FREQUENCIES**2), np.float32), *parts])

    def __len__(self) -> int:
        return len(self._thumbs)

    def copies(self, thumbs: Sequence[Thumbnail]) -> list[list[Near]]:
        """For each thumbnail its copies in the set, nearest first."""
        wanted = np.array(thumbs, dtype=np.uint8).reshape(-1, SIDE, SIDE)
        alike = _low(wanted) @ self._low.T > ALIKE
        found = []
        for thumb, row in zip(wanted, alike, strict=True):
            numbers = np.flatnonzero(row)
            near = []
            for at in range(0, len(numbers), _BATCH):
                some = numbers[at : at + _BATCH]
                same, distances = _confirmed(thumb, self._thumbs[some])
                near += [Near(int(n), float(d)) for n, d in zip(some[same], distances[same], strict=True)]
            found.append(sorted(near, key=lambda one: (one.distance, one.number)))
        return found


def _confirmed(thumb: Thumbnail, others: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], Floats]:
    """Which of the others (n, SIDE, SIDE) are copies, and the distance of each."""
    pair = (thumb[None].astype(np.float32), others.astype(np.float32))
    (mean, other_mean), (std, other_std) = ([f(x, axis=(1, 2)) for x in pair] for f in (np.mean, np.std))
    ratio = np.maximum(std, other_std) / np.maximum(np.minimum(std, other_std), 1e-3)
    one, many = (_standard(x) for x in pair)
    (low, high), (lows, highs) = _range(one), _range(many)
    out = np.concatenate(
        [np.maximum(one - highs, lows - one), np.maximum(many - high, low - many)], axis=1, dtype=np.float32
    )
    out = out.clip(0).reshape(len(many), -1)
    worst = np.partition(out, -1 - OUTLIERS, axis=1)[:, -1 - OUTLIERS]
    # As a share of the smaller range: smooth pictures, all alike in a way, must fit closely.
    spread = np.minimum(_rms((high - low).reshape(1, -1)), _rms((highs - lows).reshape(len(many), -1)))
    distance = (_rms(out) / np.maximum(spread, 1e-3)).astype(np.float32)
    same = (worst <= LOCAL) & (distance <= RELATIVE) & (abs(mean - other_mean) <= BRIGHTNESS) & (ratio <= CONTRAST)
    return same, distance


def _standard(thumbs: Floats) -> Floats:
    """Of mean 0 and standard deviation 1: brightness and contrast taken out."""
    centred = thumbs - thumbs.mean((1, 2), keepdims=True)
    return centred / np.maximum(centred.std((1, 2), keepdims=True), 1e-3)


def _range(thumbs: Floats) -> tuple[Floats, Floats]:
    """The least and greatest of the 3 x 3 pixels around each."""
    wide = np.pad(thumbs, ((0, 0), (1, 1), (1, 1)), mode="edge")
    low = high = wide[:, :SIDE, :SIDE]
    for y in range(3):
        for x in range(3):
            moved = wide[:, y : y + SIDE, x : x + SIDE]
            low, high = np.minimum(low, moved), np.maximum(high, moved)
    return low, high


def _rms(rows: Floats) -> Floats:
    return np.sqrt(np.mean(rows**2, axis=1, dtype=np.float32))


def _low(thumbs: NDArray[np.uint8]) -> Floats:
    """The lowest frequencies of the cosine transform as unit vectors; zero for blank pictures. The amplitudes of
    natural pictures fall with the frequency, so each is weighted by its own: else all that are darker below are alike.
    """
    u, x = np.arange(_FREQUENCIES), np.arange(SIDE)
    basis = np.cos(np.pi * u[:, None] * (2 * x + 1) / (2 * SIDE)).astype(np.float32)
    basis[0] /= np.sqrt(2)
    pixels = thumbs.astype(np.float32)
    vectors = (np.hypot(u[:, None], u).astype(np.float32) * (basis @ pixels @ basis.T)).reshape(-1, _FREQUENCIES**2)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    content = pixels.std((1, 2))[:, None] >= BLANK
    return np.where(content, vectors / np.maximum(length, 1e-6), 0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Known:
    size: int
    modified: int  # nanoseconds
    pixels: bytes


class Thumbnails:
    """The thumbnail of each image file, made once and kept (1.6 KB each), on disk too where `cache` names a file.

    A file that changed in size or time is read again; a damaged cache is made anew, with a warning.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self.made: set[str] = set()  # files that were decoded, not taken from the cache
        self._unsaved: set[str] = set()
        self._known: dict[str, _Known] = {} if cache is None else _read_cache(cache)

    def of(self, paths: Iterable[Path]) -> dict[Path, Thumbnail | DataError]:
        """By path; the files are read in threads, each once."""
        real = {path: os.path.realpath(path) for path in paths}
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            distinct = sorted(set(real.values()))
            found = dict(zip(distinct, pool.map(self._one, distinct), strict=True))
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
            return DataError(f"{name}: cannot be read ({exc.strerror})")
        return np.frombuffer(known.pixels, np.uint8).reshape(SIDE, SIDE)

    def save(self) -> None:
        """Writes the cache, whole or not at all; a disk that refuses is a warning, for it only costs time."""
        if self.cache is None or not self._unsaved:
            return
        temporary = self.cache.with_name(f"{self.cache.name}.{os.getpid()}.tmp")
        known = self._known.values()
        try:
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.savez(
                    file,
                    format=np.int64(_FORMAT),
                    paths=np.frombuffer(json.dumps(list(self._known)).encode(), np.uint8),
                    stamps=np.array([(one.size, one.modified) for one in known], np.int64).reshape(-1, 2),
                    pixels=np.frombuffer(b"".join(one.pixels for one in known), np.uint8),
                )
            os.replace(temporary, self.cache)
            self._unsaved.clear()
        except OSError as exc:
            log.warning("%s: thumbnails cannot be kept there (%s)", self.cache, exc)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _read_cache(path: Path) -> dict[str, _Known]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file["format"]) != _FORMAT:
                return {}
            names = json.loads(file["paths"].tobytes())
            pixels = file["pixels"].reshape(len(names), SIDE * SIDE)
            stamps = file["stamps"].tolist()
            return {
                name: _Known(size, modified, one.tobytes())
                for name, (size, modified), one in zip(names, stamps, pixels, strict=True)
            }
    except FileNotFoundError:
        return {}
    except Exception as exc:  # zipfile and numpy make many things of damaged bytes, even SyntaxError
        log.warning("%s: damaged, or no file of thumbnails (%s); it is made anew", path, exc)
        return {}
