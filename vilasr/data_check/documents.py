"""Reads JSON lists and JSON lines item by item, so that one broken item does not hide the others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vilasr.tasks import DataError

_SPACE = re.compile(r"[ \t\r\n]*")
_BAD_BYTES = re.compile(r"[\udc80-\udcff]")
_HALF_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")  # of a pair, or of a lone surrogate
_HALF = re.compile(r"[\ud800-\udfff]")
_MOST_TRIES = 20_000  # objects looked at behind a broken place before the rest of the file is given up
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class Piece:
    """One item of a file as a range of its text. `error` says why it is no item: such a piece is broken."""

    number: int
    start: int
    end: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text. Bytes that are no UTF-8 stand in it as lone surrogates."""

    path: Path
    text: str
    pieces: tuple[Piece, ...]
    is_list: bool

    def text_of(self, piece: Piece) -> str:
        return self.text[piece.start : piece.end]


def bad_bytes(text: str) -> int:
    """How many bytes of the text are no UTF-8."""
    return 0 if text.isascii() else len(_BAD_BYTES.findall(text))


def mended(text: str) -> str:
    """The text with U+FFFD for bytes that are no UTF-8."""
    return _BAD_BYTES.sub("\ufffd", text)


def half_character(text: str, value: object) -> tuple[str, str] | None:
    """(field, escape) of the first lone surrogate that the item `value`, written as `text`, holds by an escape."""
    return _half_in(value, "") if "\\" in text and _HALF_ESCAPE.search(text) else None


def _half_in(value: object, field: str) -> tuple[str, str] | None:
    if isinstance(value, str):
        match = _HALF.search(value)
        return (field, f"\\u{ord(match[0]):04x}") if match else None
    if isinstance(value, list):
        return next((found for n, one in enumerate(value) if (found := _half_in(one, f"{field}[{n}]"))), None)
    if isinstance(value, dict):
        for key, one in value.items():
            inner = f"{field}.{key}".lstrip(".")
            if found := _half_in(key, field) or _half_in(one, inner):
                return found
    return None


def read_document(path: Path, is_item: Callable[[object], bool]) -> Document:
    """The file's items in order. `is_item` knows an item from a part of one, behind a broken place.

    Raises DataError where the file cannot be read. The whole text is held in memory.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as exc:
        raise DataError(f"{path}: cannot be read ({exc}); check the file and its rights") from exc
    start = _skip(text, 1 if text.startswith("\ufeff") else 0)
    is_list = text.startswith("[", start)
    pieces = _list_items(text, start + 1, is_item) if is_list else _lines(text)
    return Document(path, text, tuple(pieces), is_list)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


class _Places:
    """Line and column of growing positions."""

    def __init__(self, text: str) -> None:
        self.text, self.line, self.position = text, 1, 0

    def of(self, position: int) -> str:
        position = min(position, len(self.text))
        if position > self.position:
            self.line += self.text.count("\n", self.position, position)
            self.position = position
        return f"line {self.line}, column {position - self.text.rfind(chr(10), 0, position)}"


def _list_items(text: str, position: int, is_item: Callable[[object], bool]) -> Iterator[Piece]:
    """Each value of the list; where one is broken, the text up to the next whole item is one broken piece."""
    places, number, end = _Places(text), 0, len(text)
    closed, behind_item, behind_comma = False, False, False
    while True:
        position = _skip(text, position)
        if position == end:
            if not closed:
                message = f"the list is not closed by ] at {places.of(end)}; is the file cut off?"
                yield Piece(number, end, end, message)
            return
        sign = text[position]
        if closed:
            error = f"text behind the end of the list at {places.of(position)}"
        elif sign == "]" and not behind_comma:
            closed, position = True, position + 1
            continue
        elif behind_item and sign == ",":
            behind_item, behind_comma, position = False, True, position + 1
            continue
        elif behind_item:
            error = f"expected , or ] between items at {places.of(position)}"
        else:
            stop, error = _value(text, position, places)
            if not error:
                yield Piece(number, position, stop)
                number, position, behind_item, behind_comma = number + 1, stop, True, False
                continue
        stop = _next_item(text, position, is_item)
        yield Piece(number, position, stop, error)
        if stop == end:
            return
        number, position = number + 1, stop
        closed, behind_item, behind_comma = False, False, False


def _value(text: str, position: int, places: _Places) -> tuple[int, str]:
    """(end of the JSON value at the position, what is wrong with it)."""
    try:
        return _decode(text, position)[1], ""
    except json.JSONDecodeError as exc:
        return position, f"{exc.msg} at {places.of(exc.pos)}"
    except (ValueError, RecursionError) as exc:
        return position, f"{str(exc)[:80]} at {places.of(position)}"


def _next_item(text: str, position: int, is_item: Callable[[object], bool]) -> int:
    """Where the next whole item starts, or the end of the text."""
    tries = 0
    start = text.find("{", position)
    while start >= 0 and tries < _MOST_TRIES:
        tries += 1
        behind = start + 1
        try:
            value, behind = _decode(text, start)
            if is_item(value):
                return start
        except (ValueError, RecursionError):
            pass
        start = text.find("{", behind)
    return len(text)


def _lines(text: str) -> Iterator[Piece]:
    number, position = 0, 1 if text.startswith("\ufeff") else 0
    for line in text[position:].split("\n"):  # splitlines() would split at U+2028 too
        if line.strip():
            yield Piece(number, position, position + len(line))
            number += 1
        position += len(line) + 1
