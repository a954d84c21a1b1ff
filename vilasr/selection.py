"""Which items of a file are run or expected: the first so many, those of given ids, one shard of several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
    chosen = list(items)[: selection.limit]
    if selection.ids:
        ids = _ids(selection.ids)
        unknown = ids - {item.id for item in chosen}
        if unknown:
            raise DataError(f"{where}: has no item {', '.join(sorted(unknown)[:5])}; see --ids")
        chosen = [item for item in chosen if item.id in ids]
    if selection.shard is not None:
        chosen = chosen[selection.shard.index :: selection.shard.count]
    return chosen


def _ids(given: Iterable[str]) -> set[str]:
    ids: set[str] = set()
    for one in given:
        if not one.startswith("@"):
            ids.add(one)
            continue
        try:
            ids.update(
                line.strip() for line in Path(one[1:]).read_text(encoding="utf-8-sig").splitlines() if line.strip()
            )
        except (OSError, UnicodeDecodeError) as exc:
            raise DataError(f"--ids {one}: cannot be read ({exc})") from exc
    return ids
