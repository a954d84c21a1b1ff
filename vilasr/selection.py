"""Which items of a file are run or expected: the first so many, those of given ids, one shard of several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from vilasr.tasks import BrokenItem, DataError, Example

Item = TypeVar("Item", bound=Example | BrokenItem)


@dataclass(frozen=True, slots=True)
class Shard:
    """Every `count`-th item from `index` on (from 0), so that shards are alike in size and mixture."""

    index: int
    count: int

    @property
    def folder(self) -> str:
        return f"shard-{self.index}-of-{self.count}"


@dataclass(frozen=True, slots=True)
class Selection:
    """`limit`: the first so many; `ids`: these, "@file" standing for the lines of a file; `shard`: of what is left."""

    limit: int | None = None
    ids: tuple[str, ...] = ()
    shard: Shard | None = None


def parse_shard(text: str) -> Shard:
    """ "0/4" to "3/4". Raises ValueError."""
    index, _, count = text.partition("/")
    shard = Shard(int(index), int(count))
    if not 0 <= shard.index < shard.count:
        raise ValueError(text)
    return shard


def select(items: Iterable[Item], selection: Selection, where: Path) -> list[Item]:
    """In the order of the file. Raises DataError for ids that `where` does not have."""
    return list(each_selected(items, selection, named_ids(selection), where))


def each_selected(items: Iterable[Item], selection: Selection, ids: Set[str], where: Path) -> Iterator[Item]:
    """The same one by one; `ids` are the selection's. No item is read that is not needed to know which are selected."""
    chosen = islice(items, selection.limit)
    if selection.ids:
        chosen = _named(chosen, ids, where)
    if selection.shard is not None:
        chosen = islice(chosen, selection.shard.index, None, selection.shard.count)
    return iter(chosen)


def _named(items: Iterable[Item], ids: Set[str], where: Path) -> Iterator[Item]:
    unknown = set(ids)
    for item in items:
        if item.id in ids:
            unknown.discard(item.id)
            yield item
    if unknown:
        raise DataError(
            f"{where}: has no item {', '.join(sorted(unknown)[:5])}; --ids names ids as they stand in that file"
        )


def named_ids(selection: Selection) -> Set[str]:
    """The ids themselves and those in files. Raises DataError."""
    ids: set[str] = set()
    for one in selection.ids:
        if not one.startswith("@"):
            ids.add(one)
            continue
        try:
            ids.update(
                line.strip() for line in Path(one[1:]).read_text(encoding="utf-8-sig").splitlines() if line.strip()
            )
        except (OSError, UnicodeDecodeError) as exc:
            raise DataError(f"--ids {one}: cannot be read ({exc}); it must be a text file with an id a line") from exc
    return ids
