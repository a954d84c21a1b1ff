import itertools

import numpy as np
import pytest
from PIL import Image

from vilasr.images import ImageError, SizeRule, load_image, to_rgb

RULE = SizeRule()


@pytest.mark.parametrize(
    ("size", "final"),
    [
        ((616, 336), (616, 336)),  # final already
        ((640, 480), (644, 476)),
        ((1920, 1080), (784, 420)),
        ((616, 616), (588, 588)),  # 616 * 616 is above 448 * 28 * 28
        ((10, 10), (56, 56)),
        ((30, 2000), (28, 1988)),
    ],
)
def test_final_size(size, final):
    assert RULE.final_size(*size) == final


def test_sizes_are_final_multiples_within_the_limits():
    sides = [1, 13, 27, 28, 29, 41, 42, 43, 100, 588, 591, 1000, 3999]
    for rule in (RULE, SizeRule(max_pixels=256 * 28 * 28), SizeRule(min_pixels=100_000)):
        for w, h in itertools.product(sides, sides):
            if max(w, h) > 200 * min(w, h):
                continue
            width, height = rule.final_size(w, h)
            assert width % 28 == 0
            assert height % 28 == 0
            assert width * height <= rule.max_pixels or min(width, height) == 28
            assert width * height >= rule.min_pixels
            if min(width, height) > 28:
                assert rule.final_size(width, height) == (width, height)


def test_too_narrow():
    with pytest.raises(ImageError, match="too narrow"):
        RULE.final_size(28, 28 * 300)


def test_modes_become_rgb_with_white_for_transparent():
    for mode in ("L", "P", "CMYK", "RGBA", "LA", "1", "I;16", "F"):
        assert to_rgb(Image.new(mode, (8, 8))).mode == "RGB"
    assert to_rgb(Image.new("RGBA", (8, 8), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    deep = Image.fromarray(np.full((4, 4), 65535, dtype=np.uint16))
    assert to_rgb(deep).getpixel((0, 0)) == (255, 255, 255)


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (60, 30))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert load_image(tmp_path / "a.jpg").size == (30, 60)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"x" * 50])
def test_unreadable_images_name_the_file(tmp_path, content):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"bad\.png: unreadable"):
        load_image(path)


def test_truncated_and_missing_images_name_the_file(tmp_path):
    path = tmp_path / "cut.png"
    Image.effect_noise((200, 200), 50).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ImageError, match=r"cut\.png"):
        load_image(path)
    with pytest.raises(ImageError, match=r"none\.png: no such"):
        load_image(tmp_path / "none.png")
