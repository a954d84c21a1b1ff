"""Pictures of every format, and the tables of releases with pictures in them."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmark_release import releases
from tests.fuzz.contract import Target, Violation, check_message
from tests.fuzz.mutation import bytes_mutator, json_mutator
from tests.golden import picture
from vilasr.benchmark_release.mmsi import MMSI
from vilasr.benchmark_release.pictures import decode, embedded
from vilasr.benchmark_release.rows import Row, read_rows
from vilasr.benchmark_release.spar import SPAR
from vilasr.benchmark_release.vsi import VSI
from vilasr.data_check.headers import read_header
from vilasr.images import ImageError, SizeRule, load_image
from vilasr.tasks import DataError


@cache
def _pictures() -> tuple[bytes, ...]:
    image = picture(24, 20, 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    grey16 = Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24))
    palette = image.quantize(8)
    palette.info["transparency"] = 1
    found = []
    for one, kind, options in (
        (image, "PNG", {}),
        (image, "JPEG", {"exif": exif}),
        (image.convert("CMYK"), "JPEG", {}),
        (image, "WEBP", {}),
        (image, "GIF", {"save_all": True, "append_images": [picture(24, 20, 2)]}),
        (image, "PNG", {"save_all": True, "append_images": [picture(24, 20, 2)]}),
        (grey16, "PNG", {}),
        (palette, "PNG", {}),
        (image.convert("LA"), "PNG", {}),
        (image.convert("1"), "TIFF", {}),
        (image.convert("F"), "TIFF", {}),
        (image, "BMP", {}),
        (image, "PPM", {}),
        (image, "TGA", {}),
        (image, "ICO", {}),
        (image, "PCX", {}),
        (image, "JPEG2000", {}),
    ):
        file = io.BytesIO()
        one.save(file, kind, **options)
        found.append(file.getvalue())
    return tuple(found)


def image_file(data: bytes, folder: Path) -> object:
    path = folder / "picture.png"
    path.write_bytes(data)
    header = read_header(path)
    if header.error:
        check_message(str(header.error), None)
    image = load_image(path)
    if image.mode != "RGB":
        raise Violation(f"an image of mode {image.mode}")
    try:
        return header, SizeRule().apply(image).size
    except ImageError as exc:  # too narrow; the caller adds the file
        return header, str(exc)


_ALL = 3 << 30  # bytes that a picture of 178,956,970 pixels may take, with transparency


def cell(data: bytes, folder: Path) -> object:
    """A picture inside a table."""
    row = Row(folder / "t.parquet", 3, {"image": [{"bytes": data, "path": None}]})
    (found,) = embedded(row, "image")
    return decode(row, "image", 0, found).size


@cache
def _tables() -> tuple[bytes, ...]:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        releases.mmsi(folder / "m", 2)
        (path,) = (folder / "m").rglob("*.parquet")
        tables = [path.read_bytes()]
        rows = [{**row, "image": []} for row in releases.spar_rows(("depth_prediction_oc",))]
        releases.write_table(folder / "s.parquet", rows[:2], releases.SPAR_TYPES)
        tables.append((folder / "s.parquet").read_bytes())
    return tuple(tables)


def parquet(data: bytes, folder: Path) -> object:
    path = folder / "t.parquet"
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return [
        _read(MMSI if "images" in row.values else SPAR, row)
        for row in read_rows(
            path,
            ("question",),
            (
                "images",
                "id",
                "answer",
                "task",
                "question_type",
                "source",
                "thought",
                "difficulty",
                "mean_normed_duration_seconds",
                "type",
                "img_type",
                "format_type",
                "image",
            ),
        )
    ]


def _read(release: Any, row: Row) -> object:
    try:
        return release.read(row)
    except DataError as exc:
        check_message(str(exc), row.file.parent)
        return str(exc)


@cache
def _vsi_rows() -> tuple[bytes, ...]:
    rows = list(
        releases.vsi_rows({"object_counting": 1, "object_rel_distance": 1, "route_planning": 1}, [("scannet", "s1")])
    )
    return ("".join(json.dumps(row) + "\n" for row in rows).encode(),)


def lines(data: bytes, folder: Path) -> object:
    path = folder / "test.jsonl"
    path.write_bytes(data)
    return [_read(VSI, row) for row in read_rows(path, VSI.columns, VSI.optional)]


TARGETS = (
    Target("image", _pictures, image_file, bytes_mutator, (ImageError,), memory=_ALL, often=1),
    Target("image-cell", _pictures, cell, bytes_mutator, (DataError,), memory=_ALL, often=3),
    Target("parquet", _tables, parquet, bytes_mutator, (DataError,), often=0.1, forked=True),
    Target("release-lines", _vsi_rows, lines, json_mutator, (DataError,), often=2),
)
