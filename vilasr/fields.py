"""Fields of JSON objects in our own files, by type; each error is a DataError that starts with the field's name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vilasr.tasks import DataError

MAX_SAMPLES = 10_000  # of an item; a hundred times what anybody samples


def text_field(row: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """Raises DataError; KeyError where it is missing and there is no default."""
    value = row[key] if default is None else row.get(key, default)
    if not isinstance(value, str):
        raise DataError(f"{key}: must be a text, not {type(value).__name__}")
    return value


def name_field(row: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """A text that files and tables are named by, so it must be one that can be encoded."""
    text = text_field(row, key, default)
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise DataError(f"{key}: {text!r} holds half a character; give it another name in the data file") from exc
    return text


def texts_field(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = row[key]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f"{key}: must be a list of texts")
    return tuple(value)


def whole_number(value: object, key: str) -> int:
    if isinstance(value, float) and value.is_integer():  # some tools write every number so
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{key}: {value!r} is not a whole number")
    return value


def sample_number(row: Mapping[str, Any]) -> int:
    """Which of an item's episodes a row is, from 0. Bounded: what is missing of all samples is counted."""
    number = whole_number(row.get("sample", 0), "sample")
    if not 0 <= number < MAX_SAMPLES:
        raise DataError(f"sample: {number} is no number from 0 to {MAX_SAMPLES - 1}")
    return number


def numbers(value: Any, key: str) -> dict[str, float]:
    try:
        found = {str(name): float(number) for name, number in value.items()}
    except (TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise DataError(f"{key}: must be an object of numbers ({exc})") from exc
    if not all(map(math.isfinite, found.values())):
        raise DataError(f"{key}: must be an object of finite numbers")
    return found
