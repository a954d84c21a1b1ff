"""Where an archive's members go in the folder of their stage.

Archives are packed with and without the folders they lie in. `ViLaSR-data/` and `<stage>/` at the top are left out
of every member, whatever the other members or archives do: so no two parts of a stage can put one folder in two places,
and where a file goes does not depend on which archives are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vilasr.archives.zip_directory import ArchiveError, Member

_DATA = "ViLaSR-data/"
_DOCUMENT = re.compile(r"(readme|licen[cs]e)[^/]*|\.gitattributes", re.IGNORECASE)


class Item(NamedTuple):
    """What becomes of a member: `path` is relative to the stage's folder; `end` is where its bytes end in the archive
    at the latest."""

    path: str
    member: Member
    end: int


@dataclass(frozen=True)
class Layout:
    """`tops` are the top folders that were left out; `inside` files lay in them, `outside` ones in other folders.
    `dropped` are documents beside a top folder that has one of the same name."""

    items: tuple[Item, ...]
    tops: tuple[str, ...]
    inside: int
    outside: int
    dropped: tuple[str, ...]


def is_litter(name: str) -> bool:
    """What macOS adds."""
    parts = name.split("/")
    return parts[0] == "__MACOSX" or parts[-1] == ".DS_Store"


def top_of(name: str, stage: str) -> str:
    """ "ViLaSR-data/rl/a.png" -> "ViLaSR-data/rl/"; "" where nothing is left out."""
    data = _DATA if name.startswith(_DATA) else ""
    return f"{data}{stage}/" if name.startswith(f"{stage}/", len(data)) else data


def lay_out(members: Iterable[Member], stage: str, ends: dict[int, int]) -> Layout:
    """The places of all members, litter aside. Raises ArchiveError where leaving out a top folder would put two
    different files in one place."""
    found = [(top_of(member.name, stage), member) for member in members if not is_litter(member.name)]
    tops = {top for top, _ in found if top}
    inner = {m.name[len(top) :]: m for top, m in found if top and not m.is_folder}
    items: list[Item] = []
    dropped: list[str] = []
    inside = outside = 0
    for top, member in found:
        path = member.name[len(top) :].rstrip("/")
        if not path:
            continue
        if not member.is_folder:
            other = inner.get(path, member)
            if other.name != member.name and _left_out(path, other, member):
                dropped.append(member.name)
                continue
            inside += bool(top)
            outside += not top and "/" in path
        items.append(Item(path, member, ends[member.offset]))
    return Layout(tuple(items), tuple(sorted(tops)), inside, outside, tuple(dropped))


def _left_out(path: str, inner: Member, member: Member) -> bool:
    """Whether the member can go, as `inner` takes its place."""
    if (inner.size, inner.crc) == (member.size, member.crc) or _DOCUMENT.fullmatch(path):
        return True
    raise ArchiveError(
        f"member {member.name!r} and {inner.name!r} differ and go to one place, as the top folder is left out; "
        "download the archive again, or pack it without one of them"
    )


def disagreement(stage: str, layouts: Sequence[tuple[str, Layout]]) -> str:
    """A line for a stage whose archives (name, layout) have some files in the top folder and some outside; else ""."""
    having = [name for name, layout in layouts if layout.inside]
    lacking = [name for name, layout in layouts if layout.outside]
    if not having or not lacking:
        return ""
    tops = " or ".join(sorted({top for _, layout in layouts for top in layout.tops}))
    return (
        f"{stage}: files lie in a top folder {tops} in {_some(having)}, and outside it in {_some(lacking)}; it is left "
        "out everywhere, so that all go to one place"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
