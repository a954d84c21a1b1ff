"""Paper whose colour tells the place, for models that learn to see from nothing.

Qwen2.5-VL adds no position to a picture's patches: its layers turn queries and keys (rotary embedding), so a place
shows only in how far apart two patches are. A large model learns to read absolute coordinates from that; a small one,
from random weights, does not within the 100,000 pictures it takes to learn them from colour (docs/results/nano.md). So
the paper loses red from left to right and blue from top to bottom, by the profile's own coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from vilasr.prompts import Profile

Rgb = tuple[int, int, int]

_LOST = 0.75  # share of red or blue that is gone at the far end


def on_tinted_paper(image: Image.Image, paper: Sequence[Rgb], profile: Profile) -> Image.Image:
    """A square RGB image with its pixels of the colours `paper` tinted, all others as they are.

    The far end is where the profile's coordinates end: the side itself, or for coordinates in pixels the side of the
    largest square that the profile leaves as it is. So a colour belongs to a coordinate, whatever the picture's size.
    """
    side = image.width
    span = side if profile.coordinates != "pixels" else max(side, math.isqrt(profile.image.max_pixels))
    pixels = np.asarray(image)
    is_paper = np.logical_or.reduce([(pixels == np.array(color, np.uint8)).all(axis=-1) for color in paper])
    tinted = np.rint(pixels * _tint(side, span)).astype(np.uint8)
    return Image.fromarray(np.where(is_paper[..., None], tinted, pixels))


@lru_cache(maxsize=32)
def _tint(side: int, span: int) -> np.ndarray:
    """(side, side, 3): what is left of each channel."""
    left = 1 - _LOST * np.arange(side) / span
    return np.stack(np.broadcast_arrays(left[None, :], np.float64(1), left[:, None]), axis=-1)
