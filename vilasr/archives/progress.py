"""How far it is: a line that renews itself on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TextIO

_ON_TERMINAL, _ELSEWHERE = 0.5, 30.0  # seconds between lines


def gigabytes(size: float) -> str:
    """ "1.23 GB", or MB where that is less; 10^9 bytes a GB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """ "1:02:03" or "2:03" """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Counts bytes and files from any thread; `show` writes at most a line every half second (30 s off a terminal)."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.terminal = stream.isatty()
        self.bytes = self.files = self.all_bytes = self.all_files = 0
        self._lock = threading.Lock()
        self._started = self._shown = clock()

    def start(self, files: int, size: int) -> None:
        self.all_files, self.all_bytes = files, size
        self._started = self._shown = self.clock()

    def add(self, size: int) -> None:
        """A file of `size` bytes is done."""
        with self._lock:
            self.files += 1
            self.bytes += size

    def line(self) -> str:
        passed = max(self.clock() - self._started, 1e-9)
        left = (self.all_bytes - self.bytes) * passed / self.bytes if self.bytes else 0
        return (
            f"{gigabytes(self.bytes)} of {gigabytes(self.all_bytes)}, {self.files:,} of {self.all_files:,} files, "
            f"{gigabytes(self.bytes / passed)}/s, {duration(left) if self.bytes else '?'} left"
        )

    def show(self) -> None:
        now = self.clock()
        if now - self._shown >= (_ON_TERMINAL if self.terminal else _ELSEWHERE):
            self._shown = now
            self.stream.write(f"\r{self.line()}\x1b[K" if self.terminal else f"{self.line()}\n")
            self.stream.flush()

    def close(self) -> None:
        """Leaves the terminal's line empty for what is written next."""
        if self.terminal:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
