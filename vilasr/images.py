"""Loading images and bringing them to their final size.

Libraries resize differently, so every image is made final here, once: sides are multiples of the model's patch unit
and the area is within the limit; each engine's own resize then changes nothing.
"""

from __future__ import annotations

import math
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from vilasr.one_line import OneLineError

MAX_SOURCE_PIXELS = 200_000_000  # refuse decompression bombs before decoding
MAX_ASPECT = 200  # Qwen2-VL's own limit


class ImageError(OneLineError, ValueError):
    """An image that cannot be used; the message names the file."""


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Sides are multiples of `factor`; `min_pixels` <= width * height <= `max_pixels`."""

    factor: int = 28
    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 448 * 28 * 28

    def final_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in the model's eyes, by Qwen2-VL's rule: nearest multiples, then scaled to the limits.

        Sizes that are already final are returned unchanged. Raises ImageError for sides longer than 200 : 1.
        """
        if min(width, height) < 1 or max(width, height) / min(width, height) > MAX_ASPECT:
            raise ImageError(f"an image of {width} x {height} pixels is too narrow (at most {MAX_ASPECT} : 1)")
        f = self.factor
        w, h = (max(f, round(side / f) * f) for side in (width, height))
        if w * h > self.max_pixels:
            scale = math.sqrt(width * height / self.max_pixels)
            w, h = (max(f, math.floor(side / scale / f) * f) for side in (width, height))
        elif w * h < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (width * height))
            w, h = (math.ceil(side * scale / f) * f for side in (width, height))
        return w, h

    def apply(self, image: Image.Image) -> Image.Image:
        """The image as RGB at its final size (bicubic, as the Qwen2-VL processors do)."""
        size = self.final_size(*image.size)
        image = to_rgb(image)
        return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB; transparent parts become white, as on a page."""
    if image.mode == "RGB":
        return image
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    return image.convert("RGB")


def load_image(path: Path) -> Image.Image:
    """The decoded first frame, turned upright by its EXIF tag, in RGB. Raises ImageError naming the file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a named pipe would wait for ever
            raise ImageError(f"{path}: is no file but a folder, pipe or device; name an image file")
        with path.open("rb") as file:
            return decode(file)
    except FileNotFoundError as exc:
        raise ImageError(f"{path}: no such image file") from exc
    except OSError as exc:
        raise ImageError(f"{path}: unreadable image ({exc.strerror or exc}); check the file and its rights") from exc
    except _UndecodedError as exc:
        raise ImageError(f"{path}: unreadable image ({exc}); copy it again, or make it a plain PNG or JPEG") from exc


class _UndecodedError(ImageError):
    """What is wrong with the content of a file, in a few words."""


def decode(file: BinaryIO) -> Image.Image:
    """As `load_image`, of an open file; the format is told by the content. Raises ImageError with the bare reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, for which there is a limit here, and of odd tags
            with Image.open(file) as image:
                if image.width * image.height > MAX_SOURCE_PIXELS:
                    raise _UndecodedError(f"{image.width} x {image.height}, more pixels than can be loaded safely")
                image.load()
                return to_rgb(ImageOps.exif_transpose(image) or image)
    except _UndecodedError:
        raise
    except UnidentifiedImageError as exc:  # its message names the buffer in memory
        raise _UndecodedError("no known format") from exc
    except Image.DecompressionBombError as exc:
        raise _UndecodedError("more pixels than can be loaded safely") from exc
    except Exception as exc:  # a damaged file may raise anything in Pillow's many readers
        raise _UndecodedError(str(exc) or type(exc).__name__) from exc
