"""Pictures of rooms. Every object's pixels touch all four sides of its box; boxes are as Pillow's `getbbox` has them:
(x1, y1) is the first pixel inside, (x2, y2) the first beyond, so the width is x2 - x1."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from vilasr.rooms import ROOM, TILE, WALL, Thing
from vilasr.tinted_paper import Rgb

Rect = tuple[int, int, int, int]

MIN_SIDE = 84  # below, an object has fewer pixels than its shape needs
PAINT: dict[str, Rgb] = {
    "red": (214, 30, 40),
    "green": (0, 140, 60),
    "blue": (30, 80, 225),
    "yellow": (250, 205, 0),
    "purple": (150, 40, 185),
    "black": (25, 25, 25),
}
_WALLPAPER, _SKIRTING = (205, 222, 232), (120, 100, 85)
_TILES = ((246, 238, 222), (228, 214, 190))
PAPER = (_WALLPAPER, _SKIRTING, *_TILES)  # what is no object
_OVER = 4  # shapes are drawn so many times larger and made small again


def scaled(units: int, side: int) -> int:
    """Units in pixels of a picture of `side` pixels."""
    return (2 * units * side + ROOM) // (2 * ROOM)


def box_of(thing: Thing, side: int) -> Rect:
    """The object's box in pixels, a square."""
    x, y, size = (scaled(value, side) for value in (thing.x, thing.y, thing.size))
    return x, y, x + size, y + size


def tile_box(row: int, column: int, side: int) -> Rect:
    """Of a floor tile, rows from 0 at the wall."""
    top, left = WALL + row * TILE, column * TILE
    x1, y1, x2, y2 = (scaled(value, side) for value in (left, top, left + TILE, top + TILE))
    return x1, y1, x2, y2


def draw_room(things: Iterable[Thing], side: int) -> Image.Image:
    """A square RGB image of `side` pixels: the empty room and the objects, each in its one flat colour. Edges are not
    smoothed, so that an object's pixels have its colour and no other."""
    image = Image.new("RGB", (side, side), _WALLPAPER)
    draw = ImageDraw.Draw(image)
    for row in range((ROOM - WALL) // TILE):
        for column in range(ROOM // TILE):
            x1, y1, x2, y2 = tile_box(row, column, side)
            draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=_TILES[(row + column) % 2])
    floor = scaled(WALL, side)
    draw.rectangle((0, floor - max(1, scaled(1, side)), side - 1, floor - 1), fill=_SKIRTING)
    for thing in things:
        x1, y1, x2, _ = box_of(thing, side)
        image.paste(PAINT[thing.color], (x1, y1), _mask(thing.shape, x2 - x1))
    return image


@lru_cache(maxsize=512)
def _mask(shape: str, size: int) -> Image.Image:
    """Where the shape is, as zeros and 255: `size` pixels wide and high, symmetric from left to right."""
    if shape == "diamond":  # in whole pixels, else a small one is taken for a ball
        offset = np.abs(2 * np.arange(size) - size + 1)
        return Image.fromarray(np.where(offset[:, None] + offset <= size - size % 2, 255, 0).astype(np.uint8))
    big = size * _OVER
    image = Image.new("L", (big, big), 0)
    draw = ImageDraw.Draw(image)
    last = big - 1
    if shape == "cube":
        draw.rectangle((0, 0, last, last), fill=255)
    elif shape in ("ball", "ring"):
        draw.ellipse((0, 0, last, last), fill=255)
        if shape == "ring":
            edge = max(2, round(size * 0.24)) * _OVER
            draw.ellipse((edge, edge, last - edge, last - edge), fill=0)
    elif shape == "cone":
        tip = big / 2 - 0.5
        draw.polygon([(tip - _OVER / 2, 0), (tip + _OVER / 2, 0), (last, last), (0, last)], fill=255)
    elif shape == "cross":
        arm = (size - max(3, round(size * 0.3))) // 2 * _OVER
        draw.rectangle((arm, 0, last - arm, last), fill=255)
        draw.rectangle((0, arm, last, last - arm), fill=255)
    small = image.reduce(_OVER)
    return small.point(lambda value: 255 if value >= 96 else 0)
