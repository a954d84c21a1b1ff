"""The canvas: boxes and directed lines with labels, readable on any background and at any image size.

A mark is drawn in its label's colour inside a halo of the opposite brightness, so one of the two stands out whatever
lies under it. A line ends in an arrow head and starts in a dot. Labels stand on a plate of the mark's colour.

The font is the one inside Pillow, the same on every machine, so training and inference draw the same pixels. It has
Latin letters only: accents are dropped. For labels in other scripts set VILASR_FONT to a font file, everywhere alike.
"""

from __future__ import annotations

import math
import os
import unicodedata
import zlib
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from vilasr.drawing.marks import Box, Line, Mark, Point

# Colours that differ in hue and in brightness, so that they can be told apart in print and by the colour-blind too.
PALETTE = (
    (230, 25, 75),
    (0, 110, 220),
    (255, 190, 0),
    (20, 150, 60),
    (150, 40, 190),
    (250, 120, 20),
    (0, 190, 200),
    (240, 50, 230),
)

Rgb = tuple[int, int, int]
Rect = tuple[float, float, float, float]


def label_color(label: str) -> Rgb:
    """The colour of a label: the same in every image, run and process."""
    return PALETTE[zlib.crc32(label.encode("utf-8", "replace")) % len(PALETTE)]


def _contrast(color: Rgb) -> Rgb:
    """Black on bright colours, white on dark ones (ITU-R BT.601 luma)."""
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    path = os.environ.get("VILASR_FONT")
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


def _printable(label: str) -> str:
    if label.isascii() or os.environ.get("VILASR_FONT"):
        return label
    return "".join(c for c in unicodedata.normalize("NFKD", label) if not unicodedata.combining(c))


def render(frame: Image.Image, marks: Sequence[Mark]) -> Image.Image:
    """A copy of `frame` (RGB) with `marks` (pixels of the frame) drawn on it; `frame` itself stays clean.

    Shapes first, then all labels, so that no shape hides a label. Where labels would overlap, the later one moves.
    """
    image = frame.convert("RGB") if frame.mode != "RGB" else frame.copy()
    draw = ImageDraw.Draw(image)
    side = min(image.size)
    width = max(2, round(side / 200))
    for mark in marks:
        if isinstance(mark, Box):
            _draw_box(draw, mark, width)
        else:
            _draw_line(draw, mark, width)
    font = _font(max(9, round(side / 32)))
    placed: list[Rect] = []
    for mark in marks:
        _draw_label(draw, mark, font, width, image.size, placed)
    return image


def _draw_box(draw: ImageDraw.ImageDraw, box: Box, width: int) -> None:
    color = label_color(box.label)
    x1, y1, x2, y2 = box.bbox
    draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=_contrast(color), width=width + 2)
    draw.rectangle((x1, y1, x2, y2), outline=color, width=width)


def _draw_line(draw: ImageDraw.ImageDraw, line: Line, width: int) -> None:
    color = label_color(line.label)
    (x1, y1), (x2, y2) = line.start, line.end
    length = math.hypot(x2 - x1, y2 - y1)
    if length == 0:
        return
    ux, uy = (x2 - x1) / length, (y2 - y1) / length
    head = min(5.0 * width + 2, 0.6 * length)
    for outline, extra in ((_contrast(color), 1.5), (color, 0.0)):
        stop = (x2 - ux * head * 0.8, y2 - uy * head * 0.8)
        draw.line((line.start, stop), fill=outline, width=round(width + 2 * extra))
        radius = 1.2 * width + extra
        draw.ellipse((x1 - radius, y1 - radius, x1 + radius, y1 + radius), fill=outline)
        draw.polygon(_arrow_head((x2, y2), (ux, uy), head, extra), fill=outline)


def _arrow_head(tip: Point, direction: Point, head: float, extra: float) -> list[Point]:
    ux, uy = direction
    tip_x, tip_y = tip[0] + ux * extra * 1.5, tip[1] + uy * extra * 1.5
    base_x, base_y = tip[0] - ux * (head + extra), tip[1] - uy * (head + extra)
    half = 0.45 * head + extra
    return [(tip_x, tip_y), (base_x - uy * half, base_y + ux * half), (base_x + uy * half, base_y - ux * half)]


def _draw_label(
    draw: ImageDraw.ImageDraw,
    mark: Mark,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
    size: tuple[int, int],
    placed: list[Rect],
) -> None:
    color = label_color(mark.label)
    text = _fit(_printable(mark.label), font, 0.9 * size[0])
    left, top, right, bottom = font.getbbox(text)
    pad = max(1, width // 2)
    plate_w, plate_h = right - left + 2 * pad, bottom - top + 2 * pad
    x, y = _place(mark, plate_w, plate_h, width, size, placed)
    placed.append((x, y, x + plate_w, y + plate_h))
    draw.rectangle((x, y, x + plate_w, y + plate_h), fill=color)
    draw.text((x + pad - left, y + pad - top), text, fill=_contrast(color), font=font)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, limit: float) -> str:
    if font.getlength(text) <= limit:
        return text
    while len(text) > 1 and font.getlength(text + "...") > limit:
        text = text[:-1]
    return text + "..."


def _place(
    mark: Mark, plate_w: float, plate_h: float, width: int, size: tuple[int, int], placed: list[Rect]
) -> tuple[float, float]:
    """The first free candidate position inside the image: above, below or inside a box; beside a line's middle."""
    if isinstance(mark, Box):
        x1, y1, x2, y2 = mark.bbox
        wanted = [(x1, y1 - plate_h - width), (x1, y2 + width), (x1 + width, y1 + width), (x2 - plate_w, y1 - plate_h)]
    else:
        mx, my = (mark.start[0] + mark.end[0]) / 2, (mark.start[1] + mark.end[1]) / 2
        gap = 2 * width
        wanted = [(mx + gap, my + gap), (mx + gap, my - gap - plate_h), (mx - gap - plate_w, my + gap)]
    inside = [
        (min(max(x, 0.0), max(size[0] - plate_w - 1, 0.0)), min(max(y, 0.0), max(size[1] - plate_h - 1, 0.0)))
        for x, y in wanted
    ]
    for x, y in inside:
        if not any(x < r and left < x + plate_w and y < b and t < y + plate_h for left, t, r, b in placed):
            return x, y
    return inside[0]
