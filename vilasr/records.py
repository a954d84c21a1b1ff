"""Reads a file of JSON values one by one, so that no more than one of them is in memory: a list, or a value a line."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

CHUNK = 1 << 16  # characters read at once
_SPACE = re.compile(r"[ \t\r\n]*")
_TAIL = 16  # so near to the end of what was read, a number, a word or an escape may only be cut off
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class BadLine:
    message: str


def read_records(path: Path, chunk: int = CHUNK) -> Iterator[object]:
    """The values of a JSON list, or of each line that is not empty; a line that is not JSON is a `BadLine`.

    Raises OSError or UnicodeError, and for a list ValueError or RecursionError, in `json.loads`' words, when it comes
    to the place; what was yielded before is good.
    """
    with path.open("rb") as data:
        file = io.TextIOWrapper(data, encoding="utf-8-sig")
        try:
            head = " "
            while head.isspace():
                head = file.read(chunk)
            file.seek(0)
            yield from _items(file, chunk) if head.lstrip().startswith("[") else _lines(file)
        except UnicodeDecodeError as exc:  # its position is counted from the start of a piece of the file
            place = data.tell() - len(exc.object) + exc.start
            raise UnicodeError(f"byte {place + 1} is not UTF-8: {exc.reason}") from exc


def _lines(file: TextIO) -> Iterator[object]:
    for number, line in enumerate(file, 1):  # splitlines() would split at U+2028 too
        if line.strip():
            try:
                yield json.loads(line.removesuffix("\n"))
            except (ValueError, RecursionError) as exc:
                yield BadLine(f"line {number} is not JSON ({exc})")


def _items(file: TextIO, chunk: int) -> Iterator[object]:
    window = _Window(file, chunk)
    window.at = window.text.index("[") + 1
    if window.next_sign() != "]":
        while True:
            yield window.value()
            sign = window.next_sign()
            if sign == "]":
                break
            if sign != ",":
                raise window.error("Expecting ',' delimiter", window.at)
            window.at += 1
            window.next_sign()
    window.at += 1
    if window.next_sign():
        raise window.error("Extra data", window.at)


class _Window:
    """The part of a file's text that is being read; it only moves on."""

    def __init__(self, file: TextIO, chunk: int) -> None:
        self._file, self._chunk = file, chunk
        self._chars = self._lines = 0  # before the window
        self._line_start = 0  # of the window's first line, from the start of the file
        self.text, self.at = "", 0
        while not self.text.strip() and self.more():
            self.at = len(self.text) - len(self.text.lstrip())

    def more(self) -> bool:
        """Lets go what is behind, and reads on; False at the end of the file."""
        self._lines += self.text.count("\n", 0, self.at)
        if (feed := self.text.rfind("\n", 0, self.at)) >= 0:
            self._line_start = self._chars + feed + 1
        self._chars += self.at
        self.text, self.at = self.text[self.at :], 0
        added = self._file.read(max(self._chunk, len(self.text)))  # doubled, a long item is copied a few times only
        self.text += added
        return bool(added)

    def next_sign(self) -> str:
        """The character behind the white space, "" at the end of the file."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def value(self) -> object:
        """The value that starts here. Raises ValueError, RecursionError."""
        while True:
            value, fault = None, ""
            try:
                value, end = _decode(self.text, self.at)
            except json.JSONDecodeError as exc:
                end, fault = exc.pos, exc.msg
            length = end - self.at
            cut_off = end + _TAIL >= len(self.text) or fault.startswith("Unterminated")
            if not cut_off or not self.more():
                if fault:
                    raise self.error(fault, self.at + length)
                self.at += length
                return value

    def error(self, message: str, at: int) -> ValueError:
        """In `json.loads`' words, with the place in the whole file."""
        line = self._lines + self.text.count("\n", 0, at) + 1
        feed = self.text.rfind("\n", 0, at)
        start = self._chars + feed + 1 if feed >= 0 else self._line_start
        return ValueError(f"{message}: line {line} column {self._chars + at - start + 1} (char {self._chars + at})")
