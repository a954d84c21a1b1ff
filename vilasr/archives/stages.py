"""Which archives lie in a data folder, where each belongs, and which of the numbered parts are not there."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

STAGES = ("cold_start", "reflective_rejection_sampling", "rl")
_NAME = re.compile(rf"({'|'.join(STAGES)})_pa(rt|th)(.*)\.zip", re.IGNORECASE)  # the data card says "path"
KINDS = {  # file types other than regular files
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_NUMBER = re.compile(r"[_-]?(\d{1,4})")


@dataclass(frozen=True)
class Archive:
    """An archive by its name. `number` is None where the part is not a number."""

    path: Path
    stage: str
    number: int | None

    @property
    def name(self) -> str:
        return self.path.name


def parse_archive(path: Path) -> Archive | None:
    """None for a file of another name than `<stage>_part*.zip` or `<stage>_path*.zip`."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    number = _NUMBER.fullmatch(match[3])
    return Archive(path, match[1].lower(), int(number[1]) if number else None)


def find_archives(data: Path) -> tuple[list[Archive], list[Path]]:
    """The archives of a data folder by stage and number, and its other zip files. Raises OSError."""
    found = {path: parse_archive(path) for path in sorted(data.iterdir()) if path.suffix.lower() == ".zip"}
    archives = [archive for archive in found.values() if archive is not None]
    archives.sort(key=lambda a: (STAGES.index(a.stage), a.number is None, a.number or 0, a.name))
    return archives, [path for path, archive in found.items() if archive is None and not path.is_dir()]


def odd_kind(path: Path) -> str:
    """What is there if it is no regular file ("a folder"), else "". To open a named pipe would wait for its writer.
    Raises OSError."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return ""
    return KINDS.get(stat.S_IFMT(mode), "no regular file")


def missing_parts(archives: Iterable[Archive]) -> list[str]:
    """A line for each stage whose numbering has gaps. Parts missing behind the last cannot be told from names."""
    lines = []
    numbers: dict[str, set[int]] = {}
    for archive in archives:
        if archive.number is not None:
            numbers.setdefault(archive.stage, set()).add(archive.number)
    for stage, there in numbers.items():
        gaps = sorted(set(range(min(1, *there), max(there))) - there)
        if gaps:
            names = ", ".join(map(str, gaps[:20])) + (f" and {len(gaps) - 20} more" if len(gaps) > 20 else "")
            last = max(there)
            lines.append(f"{stage}: part {names} of at least {last} is missing; download it, its images are not here")
    return lines
