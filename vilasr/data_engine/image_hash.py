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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
