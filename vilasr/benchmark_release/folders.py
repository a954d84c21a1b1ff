"""Images on disk: one folder for each item or video, which is there whole or not at all.

Images are written as PNG: what the model sees is then the release's image, resized once by the rule; JPEG would lose
some of it once more. A folder is filled under another name and then renamed, so a killed run leaves no half of one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from vilasr.sft_files import part, png

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"IEND\xaeB`\x82"


def write_images(folder: Path, images: Iterable[Image.Image]) -> list[str]:
    """The names of the images within the folder: "00.png", "01.png", ... Raises OSError, and what `images` raises."""
    half = part(folder)
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    names = []
    for number, image in enumerate(images):
        names.append(_name(number))
        (half / names[-1]).write_bytes(png(image))
    if folder.exists():  # not whole, or it would not be written again
        shutil.rmtree(folder)
    half.rename(folder)
    return names


def written_images(folder: Path, count: int) -> list[str] | None:
    """The names of the `count` images in the folder; None where it is not there or not whole: a run that replaces it
    may have been killed while it removed them, and a crash of the machine may leave empty files."""
    if not folder.is_dir():
        return None
    names = [_name(number) for number in range(count)]
    if sorted(names) != sorted(path.name for path in folder.iterdir()):
        return None
    return names if all(_is_whole(folder / name) for name in names) else None


def _name(number: int) -> str:
    return f"{number:02d}.png"


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.read(len(_SIGNATURE)) != _SIGNATURE:
                return False
            file.seek(-len(_END), os.SEEK_END)
            return file.read() == _END
    except OSError:
        return False
