"""What an image file says of itself, read from its header; its pixels only where asked."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vilasr.images import MAX_ASPECT, MAX_SOURCE_PIXELS

_ORIENTATION = 0x0112
_USUAL_MODES = ("RGB", "L", "P", "1")


@dataclass(frozen=True, slots=True)
class Header:
    """`error` says why the file cannot be used; the other values are then as far as they are known."""

    width: int = 0
    height: int = 0
    mode: str = "RGB"
    orientation: int = 1
    several: bool = False  # pages or frames
    error: str = ""
    too_big: bool = False

    @property
    def too_narrow(self) -> bool:
        return not self.error and max(self.width, self.height) > MAX_ASPECT * min(self.width, self.height)

    @property
    def odd_mode(self) -> str:
        """What conversion to RGB does to the image, where that is more than nothing."""
        if self.mode in _USUAL_MODES:
            return ""
        if self.mode in ("RGBA", "LA", "PA"):
            return f"mode {self.mode}: LLaMA-Factory drops transparency, inference shows white there"
        if self.mode.startswith(("I", "F")):
            return f"mode {self.mode}: LLaMA-Factory cuts values above 255; save it with 8 bits a channel"
        return f"mode {self.mode} is converted to RGB; colours may differ"


def read_header(path: Path, pixels: bool = False) -> Header:
    """Never raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images and odd tags
            with Image.open(path) as image:
                header = _header(image)
                if pixels and not header.error:
                    image.load()
                return header
    except Image.DecompressionBombError as exc:
        return Header(error=str(exc), too_big=True)
    except Exception as exc:  # a damaged file may raise anything in Pillow's many readers
        return Header(error=f"{type(exc).__name__}: {exc}".replace(str(path), "it"))


def _header(image: Image.Image) -> Header:
    if image.width * image.height > MAX_SOURCE_PIXELS:
        return Header(image.width, image.height, error="more pixels than can be loaded safely", too_big=True)
    orientation = 1
    if "exif" in image.info or image.format not in ("PNG", "JPEG"):  # getexif() would decode a PNG that has none
        orientation = image.getexif().get(_ORIENTATION, 1)
    several = bool(getattr(image, "is_animated", False))
    mode = "PA" if image.mode == "P" and "transparency" in image.info else image.mode
    return Header(*image.size, mode, orientation if isinstance(orientation, int) else 1, several)
