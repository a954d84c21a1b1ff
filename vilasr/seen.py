"""A set of names for millions of them: 16 bytes each instead of some hundred."""

from __future__ import annotations

import hashlib

import numpy as np

_HASH = "S16"
_RECENT = 1 << 13  # names that wait to be sorted in


class Seen:
    """Which names were added; a name is a tuple of texts and numbers. Of each a hash of 128 bits is kept: that two of
    a million are taken for one has a probability of 1.5e-27 (with 64 bits it were 3e-8, and an item silently lost)."""

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._parts = [np.empty(0, _HASH)] * 256  # sorted, by the first byte; each grows alone, so little is copied
        self._sorted = 0

    def add(self, *name: str | int) -> bool:
        """Whether it is new."""
        key = _key(name)
        if self._has(key):
            return False
        self._recent.add(key)
        if len(self._recent) >= _RECENT:
            self._sort_in()
        return True

    def __contains__(self, name: tuple[str | int, ...]) -> bool:
        return self._has(_key(name))

    def __len__(self) -> int:
        return self._sorted + len(self._recent)

    def _has(self, key: bytes) -> bool:
        if key in self._recent:
            return True
        part = self._parts[key[0]]
        place = part.searchsorted(key) if len(part) else 0
        return part[place : place + 1].tobytes() == key

    def _sort_in(self) -> None:
        new = np.array(list(self._recent), _HASH)
        new.sort()
        bounds = new.view(np.uint8)[::16].searchsorted(np.arange(257))
        for number, part in enumerate(self._parts):
            more = new[bounds[number] : bounds[number + 1]]
            self._parts[number] = np.insert(part, part.searchsorted(more), more)
        self._sorted += len(new)
        self._recent.clear()


def _key(name: tuple[str | int, ...]) -> bytes:
    return hashlib.blake2b(repr(name).encode(), digest_size=16).digest()
