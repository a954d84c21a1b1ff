"""The questions of a file that are run, read from it item by item: neither loaded nor kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from pathlib import Path

from vilasr.selection import Selection, each_selected, named_ids
from vilasr.tasks import BrokenItem, DataError, Example, each_example

Stamp = tuple[int, int, int]  # size, time of the last change, inode

Item = Example | BrokenItem

_WHOLE, _BROKEN, _REPEATED = b"w", b"b", b"r"  # kinds of items


def _kind(item: Item) -> bytes:
    if isinstance(item, BrokenItem):
        return _REPEATED if item.repeated else _BROKEN
    return _WHOLE


@dataclass(frozen=True)
class QuestionFile:
    """The selected items of a file. Each time they are gone through the file is read anew; of its first reading only
    the kind of each item is kept, one byte, and the file's stamp, so that a file that has changed is noticed and not
    taken for broken."""

    path: Path
    selection: Selection
    ids: Set[str]  # of the selection
    kinds: bytes
    stamp: Stamp | None
    count: int
    keep: Callable[[Item], bool] | None = None

    @staticmethod
    def read(path: Path, selection: Selection) -> QuestionFile:
        """Reads the whole file, so that what is wrong with it is told before anything is run. Raises DataError as
        `read_examples` and `select`."""
        ids, kinds, stamp = named_ids(selection), bytearray(), _stamp(path)

        def noted() -> Iterator[Item]:
            for item in each_example(path):
                kinds.extend(_kind(item))
                yield item

        everything = noted()
        count = sum(1 for _ in each_selected(everything, selection, ids, path))
        deque(everything, maxlen=0)  # what is behind the last selected one
        file = QuestionFile(path, selection, ids, bytes(kinds), stamp, count)
        file._check()
        return file

    def kept(self, keep: Callable[[Item], bool]) -> QuestionFile:
        """Those of them that `keep` is true of."""
        before = self.keep
        both = keep if before is None else lambda item: before(item) and keep(item)
        return replace(self, count=sum(map(keep, self)), keep=both)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Item]:
        """Raises DataError where the file has changed."""
        chosen = each_selected(self.everything(), self.selection, self.ids, self.path)
        yield from chosen if self.keep is None else filter(self.keep, chosen)
        self._check()  # not everything may have been gone through

    def everything(self) -> Iterator[Item]:
        """All items of the file, selected or not. Raises DataError where the file has changed."""
        if _stamp(self.path) is not None:  # else reading it says what is wrong
            self._check()
        number = 0
        for item in each_example(self.path, repeated=lambda number: self.kinds[number : number + 1] == _REPEATED):
            if self.kinds[number : number + 1] != _kind(item):
                raise self._changed()
            yield item
            number += 1
        if number != len(self.kinds):
            raise self._changed()
        self._check()

    def _check(self) -> None:
        if _stamp(self.path) != self.stamp:
            raise self._changed()

    def _changed(self) -> DataError:
        return DataError(f"{self.path}: has changed since it was first read; start again to go on")


def _stamp(path: Path) -> Stamp | None:
    """None: the file is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
