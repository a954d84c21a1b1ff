"""Loading images and bringing them to their final size.

Libraries resize differently, so every image is made final here, once: sides are multiples of the model's patch unit
and the area is within the limit; each engine's own resize then changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

MAX_SOURCE_PIXELS = 200_000_000  # refuse decompression bombs before decoding
MAX_ASPECT = 200  # Qwen2-VL's own limit


class ImageError(ValueError):
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
        with Image.open(path) as image:
            if image.width * image.height > MAX_SOURCE_PIXELS:
                raise ImageError(f"{path}: {image.width} x {image.height} pixels is more than can be loaded safely")
            image.load()
            upright = ImageOps.exif_transpose(image) or image
            return to_rgb(upright)
    except ImageError:
        raise
    except FileNotFoundError as exc:
        raise ImageError(f"{path}: no such image file") from exc
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise ImageError(f"{path}: unreadable image ({exc})") from exc
