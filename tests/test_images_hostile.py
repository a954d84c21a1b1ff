"""Pictures that are too large, too small, odd, damaged or no pictures: what each way of reading them makes of it.

The table in docs/reliability.md says the same.
"""

from __future__ import annotations

import io
import json
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.golden import picture
from vilasr.data_check.headers import read_header
from vilasr.images import ImageError, SizeRule, load_image
from vilasr.tasks import DataError, Example, QuestionType, load_frames


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *chunks: bytes, rows: bytes = b"") -> bytes:
    """A PNG of RGB with any size in its header; `rows` are its packed pixels."""
    header = _chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    data = _chunk(b"IDAT", rows or zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + _chunk(b"IEND", b"")


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _text_bomb() -> bytes:
    """A few kB that are 64 MB of text once inflated."""
    return _png(8, 8, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20), 1)))


def _rows(width: int, height: int) -> bytes:
    packer = zlib.compressobj(1)
    row = bytes(1 + 3 * width)
    return b"".join(packer.compress(row) for _ in range(height)) + packer.flush()


def _exif(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def _palette() -> Image.Image:
    image = Image.new("P", (20, 10), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    return image


_RED, _GREEN = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "lime")
_GREY16 = Image.fromarray(np.full((10, 20), 0x8000, np.uint16))

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "100,000 x 100,000 pixels": (lambda: _png(100_000, 100_000), "pixels than can be loaded safely"),
    "text that inflates to 64 MB": (_text_bomb, "unreadable image"),
    "no byte": (lambda: b"", "no known format"),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', "no known format"),
    "a web page": (lambda: b"<!doctype html><title>404</title>", "no known format"),
    "JPEG cut off": (lambda: _saved(picture(200, 200, 1), "JPEG")[:-900], "truncated"),
    "PNG cut off": (lambda: _saved(picture(200, 200, 1), "PNG")[:-3000], "unreadable image"),
    "PNG with a wrong checksum": (lambda: _png(8, 8).replace(b"IHDR", b"IHDX", 1), "unreadable image"),
    "PNG of no pixels": (lambda: _png(0, 8), "unreadable image"),
    "EPS, for which Pillow would start Ghostscript": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "unreadable image",
    ),
}
TAKEN: dict[str, tuple[Callable[[], bytes], tuple[int, int], tuple[int, int, int]]] = {
    "1 pixel": (lambda: _saved(Image.new("RGB", (1, 1), "red"), "PNG"), (1, 1), (255, 0, 0)),
    "animated GIF": (lambda: _saved(_RED, "GIF", save_all=True, append_images=[_GREEN]), (20, 10), (255, 0, 0)),
    "animated PNG": (lambda: _saved(_RED, "PNG", save_all=True, append_images=[_GREEN]), (20, 10), (255, 0, 0)),
    "animated WebP": (
        lambda: _saved(_RED, "WEBP", save_all=True, append_images=[_GREEN], lossless=True), (20, 10), (255, 0, 0)),
    "CMYK JPEG": (lambda: _saved(Image.new("CMYK", (20, 10), (0, 255, 255, 0)), "JPEG"), (20, 10), (254, 0, 0)),
    "16-bit grey PNG": (lambda: _saved(_GREY16, "PNG"), (20, 10), (128, 128, 128)),
    "palette with transparency": (lambda: _saved(_palette(), "PNG", transparency=1), (20, 10), (255, 255, 255)),
    "transparent WebP": (lambda: _saved(Image.new("RGBA", (20, 10)), "WEBP", lossless=True), (20, 10), (255,) * 3),
    "turned by EXIF": (lambda: _saved(_RED, "JPEG", exif=_exif(6), quality=95), (10, 20), (254, 0, 0)),
    "EXIF of nonsense": (lambda: _saved(_RED, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\xff" + b"\xff" * 40), (20, 10),
    (255, 0, 0)),
    "JPEG named .png": (lambda: _saved(_RED, "JPEG", quality=95), (20, 10), (254, 0, 0)),
}  # fmt: skip


def _write(folder: Path, data: bytes) -> Path:
    path = folder / "picture.png"
    path.write_bytes(data)
    return path


def _frames(path: Path) -> tuple[Image.Image, ...]:
    example = Example("q7", "Which?", (), "1", (str(path),), QuestionType.NUMERICAL)
    return load_frames(example, SizeRule(), path.parent / "q.json").frames


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_line_that_names_the_file(tmp_path, name, recwarn):
    make, told = REFUSED[name]
    path = _write(tmp_path, make())
    with pytest.raises(ImageError, match=told) as caught:
        load_image(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert text.isprintable()
    with pytest.raises(DataError, match="item q7"):
        _frames(path)
    header = read_header(path, pixels=True)
    assert header.error, "the check of data finds it too"
    assert not recwarn.list


@pytest.mark.parametrize("name", TAKEN)
def test_taken_as_documented(tmp_path, name):
    make, size, color = TAKEN[name]
    path = _write(tmp_path, make())
    image = load_image(path)
    assert (image.mode, image.size) == ("RGB", size)
    assert image.getpixel((0, 0)) == pytest.approx(color, abs=2)
    (frame,) = _frames(path)
    assert all(side % 28 == 0 for side in frame.size)
    assert read_header(path, pixels=True).error == ""


def test_what_the_check_of_data_says_of_odd_ones(tmp_path):
    assert read_header(_write(tmp_path, TAKEN["animated GIF"][0]())).several
    assert read_header(_write(tmp_path, TAKEN["turned by EXIF"][0]())).orientation == 6
    assert "CMYK" in read_header(_write(tmp_path, TAKEN["CMYK JPEG"][0]())).odd_mode
    assert "I;16" in read_header(_write(tmp_path, TAKEN["16-bit grey PNG"][0]())).odd_mode
    assert read_header(_write(tmp_path, _png(100_000, 100_000))).too_big


def test_a_side_of_100_000_pixels_is_too_narrow_to_show(tmp_path):
    path = _write(tmp_path, _png(100_000, 1, rows=_rows(100_000, 1)))
    assert load_image(path).size == (100_000, 1)
    with pytest.raises(DataError, match=r"item q7: .*too narrow"):
        _frames(path)
    assert read_header(path).too_narrow


def test_more_than_the_limit_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    """Whoever lifts Pillow's limit still has ours."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    path = _write(tmp_path, _png(20_000, 10_001))
    with pytest.raises(ImageError, match="20000 x 10001, more pixels than can be loaded safely"):
        load_image(path)
    assert read_header(path).too_big


def test_100_megapixels_are_loaded_without_a_warning(tmp_path, recwarn):
    path = _write(tmp_path, _png(12_500, 8_000, rows=_rows(12_500, 8_000)))
    assert path.stat().st_size < 2_000_000
    assert load_image(path).size == (12_500, 8_000)
    assert read_header(path).error == ""
    assert not recwarn.list


def test_no_files(tmp_path):
    """A folder, a link to itself, a link to nothing, a pipe, a file without rights."""
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "nothing.png").symlink_to("missing.png")
    os.mkfifo(tmp_path / "pipe.png")
    told = {
        "folder": "is no file",
        "loop": "too many levels|Too many levels",
        "nothing": "no such image file",
        "pipe": "is no file",
    }
    for name, words in told.items():
        path = tmp_path / f"{name}.png"
        with pytest.raises(ImageError, match=words) as caught:
            load_image(path)
        assert str(path) in str(caught.value)
        with pytest.raises(DataError, match="item q7"):
            _frames(path)


def test_a_pipe_in_data_holds_nothing_up(tmp_path):
    from vilasr.data_check import check, of_folder
    from vilasr.data_check.problems import Code

    os.mkfifo(tmp_path / "pipe.png")
    item = {"question": "Which?", "options": ["a", "b"], "answer": "A", "image_path": ["pipe.png"],
            "question_type": "multiple choice", "data_type": "vqa"}  # fmt: skip
    (tmp_path / "mine.jsonl").write_text(json.dumps(item) + "\n")
    reports = []
    thread = threading.Thread(target=lambda: reports.append(check(of_folder(tmp_path))), daemon=True)
    thread.start()
    thread.join(10)
    assert reports, "waits for ever"
    assert Code.IMAGE_MISSING in {problem.code for problem in reports[0].problems}
