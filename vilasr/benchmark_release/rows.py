"""The tables of a release, row by row: parquet or JSON lines. Every error names the file, the row and the field."""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.archives.checks import MAX_RATIO
from vilasr.records import BadLine, read_records
from vilasr.tasks import DataError

# A piece of a column up to this size may shrink by any factor; above it, what grows more is made to fill the memory.
_RATIO_FREE = 64 << 20
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True, slots=True)
class Row:
    """`number` counts from 0 in its file."""

    file: Path
    number: int
    values: Mapping[str, Any]

    def error(self, field: str, problem: str) -> DataError:
        return DataError(f"{self.file}: row {self.number}: {field}: {problem}")

    def text(self, field: str) -> str:
        """A text as it stands; a number as JSON writes it, as copies of a release have either. Raises DataError."""
        value = self.values.get(field)
        if value is None:
            raise self.error(field, "is missing; download the release again")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.error(field, f"must be a text or a number, not {type(value).__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(field, f"{value} is no number that can be asked for")
        text = value if isinstance(value, str) else json.dumps(value)
        if not text.strip():
            raise self.error(field, "is empty; download the release again")
        return self._whole(field, text)

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts; nothing at all is an empty list. Raises DataError."""
        value = self.values.get(field)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
            raise self.error(field, "must be a list of texts")
        return tuple(self._whole(field, text) for text in value)

    def _whole(self, field: str, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise self.error(
                field, f"holds half a character ({exc.object[exc.start]!r}) and cannot be written"
            ) from exc
        return text

    def name(self, field: str) -> str:
        """A text that folders are named by: letters, digits, "_", "-" and dots within. Raises DataError."""
        text = self.text(field)
        if not _PLAIN_NAME.fullmatch(text):
            raise self.error(field, f"{text!r} is no plain name, so no file is looked up by it")
        return text

    def others(self, *fields: str) -> dict[str, str]:
        """Those of the fields that hold something, as texts."""
        return {field: self.text(field) for field in fields if self.values.get(field) not in (None, "")}


def find_tables(source: Path, patterns: Sequence[str]) -> tuple[Path, ...]:
    """The files of the first pattern that finds any below the folder `source`, in order; or `source`, if it is a file.
    Hidden folders, as the hub's client makes them, are left out. Raises DataError."""
    if source.is_file():
        return (source,)
    if not source.is_dir():
        raise DataError(f"{source}: is neither a file nor a folder; name the downloaded release")
    for pattern in patterns:
        found = [path for path in source.glob(pattern) if not _hidden(path, source) and path.is_file()]
        if found:
            return tuple(sorted(found))
    raise DataError(f"{source}: holds none of {', '.join(patterns)}; name the folder or file of the downloaded release")


def _hidden(path: Path, source: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(source).parts)


def read_rows(file: Path, columns: Sequence[str], optional: Sequence[str] = (), batch: int = 1024) -> Iterator[Row]:
    """The rows with these columns only, `batch` of them in memory, and of parquet the largest page of each column (up
    to 1,024 values, as pyarrow writes it). Raises DataError where it cannot go on; what came before is good."""
    rows = _json_rows(file) if file.suffix in (".jsonl", ".json") else _parquet_rows(file, columns, optional, batch)
    for number, values in enumerate(rows):
        row = Row(file, number, values)
        for column in columns:
            if column not in values:
                raise row.error(column, f"is missing; there are {', '.join(map(str, values)) or 'no fields'}")
        yield row


def _json_rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        for number, record in enumerate(read_records(file)):
            if isinstance(record, BadLine):
                raise DataError(f"{file}: {record.message}; download it again")
            if not isinstance(record, dict):
                raise DataError(f"{file}: row {number}: must be an object, not {type(record).__name__}")
            yield record
    except DataError:
        raise
    except (OSError, ValueError, RecursionError) as exc:  # UnicodeError is a ValueError
        raise DataError(f"{file}: cannot be read ({exc}); download it again") from exc


def _parquet_rows(file: Path, columns: Sequence[str], optional: Sequence[str], batch: int) -> Iterator[dict[str, Any]]:
    arrow, parquet = _import("pyarrow", file), _import("pyarrow.parquet", file)
    try:
        with file.open("rb") as data:
            head = data.read(len(_LFS_POINTER))
        if head == _LFS_POINTER:
            raise DataError(f"{file}: is a git-lfs pointer, not the table; run `git lfs pull` or download it again")
        # Unbuffered, a whole column of a row group would be in memory: gigabytes of images.
        with parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as table:
            names = table.schema_arrow.names
            for column in columns:
                if column not in names:
                    raise DataError(f"{file}: column {column!r} is missing; there are {', '.join(names)}")
            _check_growth(file, table.metadata)
            wanted = [*columns, *(column for column in optional if column in names)]
            for piece in table.iter_batches(batch_size=batch, columns=wanted, use_threads=False):
                yield from piece.to_pylist()
    except DataError:
        raise
    except (OSError, ValueError, MemoryError, arrow.ArrowException) as exc:
        reason = " ".join(str(exc).split())[:200] or type(exc).__name__
        raise DataError(f"{file}: cannot be read as parquet ({reason}); download it again") from exc


def _check_growth(file: Path, metadata: Any) -> None:
    """Raises DataError for a table that is made to grow beyond measure."""
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            packed, size = column.total_compressed_size, column.total_uncompressed_size
            if size > _RATIO_FREE and size > MAX_RATIO * max(packed, 1):
                raise DataError(
                    f"{file}: column {column.path_in_schema!r} would grow from {packed:,} to {size:,} bytes, over "
                    f"{MAX_RATIO} times; the table is unsafe, do not use it"
                )


def _import(module: str, file: Path) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise DataError(f"{file}: needs the package pyarrow to be read ({exc}); setup.sh installs it") from exc
