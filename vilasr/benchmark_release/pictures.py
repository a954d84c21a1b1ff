"""Images embedded in a table: encoded bytes, or the struct of bytes and path that the library `datasets` writes."""

from __future__ import annotations

import io

from PIL import Image

from vilasr.benchmark_release.rows import Row
from vilasr.images import ImageError
from vilasr.images import decode as decode_image


def embedded(row: Row, field: str) -> tuple[bytes, ...]:
    """The encoded images of a cell that holds one or a list of them, at least one. Raises DataError."""
    value = row.values.get(field)
    cells = value if isinstance(value, list) else [value]
    if value is None or not cells:
        raise row.error(field, "holds no image; download the release again")
    return tuple(_bytes(row, field, number, cell) for number, cell in enumerate(cells))


def _bytes(row: Row, field: str, number: int, cell: object) -> bytes:
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(found, bytes) and found:
        return found
    if isinstance(cell, dict) and cell.get("path"):
        problem = f"names {cell['path']!r} and does not hold it; download the release with its images embedded"
    else:
        problem = "is no image; download the release again"
    raise row.error(f"{field}[{number}]", problem)


def decode(row: Row, field: str, number: int, data: bytes) -> Image.Image:
    """The image as `vilasr.images.load_image` gives it from a file: upright by its EXIF tag, RGB, transparent parts
    white. (lmms-eval's MMSI-Bench task converts to RGB alone.) Raises DataError."""
    try:
        return decode_image(io.BytesIO(data))
    except ImageError as exc:
        raise row.error(f"{field}[{number}]", f"is no readable image ({exc}); download the release again") from exc
