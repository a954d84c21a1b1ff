"""Where a scene's video lies: unpacked in a folder, or in a zip archive beside the tables, which is read as it is.

Archives are checked as strictly as those of `unzip.py` (`vilasr.archives`), so a hostile one is refused before a byte
of it is used.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vilasr.archives.checks import check_directory
from vilasr.archives.layout import Item
from vilasr.archives.member_data import read_member
from vilasr.archives.zip_directory import ArchiveError, read_directory
from vilasr.tasks import DataError

SUFFIX = ".mp4"
# A zipped video is read into memory, as decoders jump to and fro in it. Those of the release have up to some 50 MB.
MAX_ZIPPED = 2 << 30

Scene = tuple[str, str]  # dataset and name


@dataclass(frozen=True, slots=True)
class Video:
    """A file, or a member of the archive `path`."""

    path: Path
    item: Item | None = None

    def __str__(self) -> str:
        return f"{self.path}: member {self.item.member.name!r}" if self.item else str(self.path)

    def fingerprint(self) -> list[int]:
        """Of its content, without reading it: size and CRC in an archive, size and time of change of a file."""
        if self.item is not None:
            return [self.item.member.size, self.item.member.crc]
        about = self.path.stat()
        return [about.st_size, about.st_mtime_ns]

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """A file to read and jump in. Raises DataError where it cannot be read."""
        try:
            with self.path.open("rb") as file:
                if self.item is None:
                    yield file
                    return
                if self.item.member.size > MAX_ZIPPED:
                    raise DataError(f"{self}: has over {MAX_ZIPPED:,} bytes; unpack the archive and convert again")
                data = io.BytesIO()
                try:
                    for piece in read_member(file, self.item):
                        data.write(piece)
                except ArchiveError as exc:
                    raise DataError(f"{self.path}: {exc}") from exc
                data.seek(0)
                yield data
        except OSError as exc:
            raise DataError(f"{self}: cannot be read ({exc.strerror or exc}); check the disk") from exc


def find_videos(folder: Path, scenes: Iterable[Scene]) -> dict[Scene, Video]:
    """The videos of those scenes that are there, `<dataset>/<scene>.mp4` at any depth. What is unpacked is taken first;
    archives, whose own name may stand for the dataset, are opened only if something is left to find.

    Raises DataError for an archive that is damaged or unsafe.
    """
    wanted = set(scenes)
    found: dict[Scene, Video] = {}
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file():
            _take(found, wanted, (path.parent.name, path.stem), Video(path))
    for archive in sorted(folder.glob("*.zip")):
        if wanted <= found.keys():
            break
        for item in _members(archive):
            parts = f"{archive.stem}/{item.path}".removesuffix(SUFFIX).split("/")
            if item.path.endswith(SUFFIX) and not item.member.is_folder:
                _take(found, wanted, (parts[-2], parts[-1]), Video(archive, item))
    return found


def _take(found: dict[Scene, Video], wanted: set[Scene], scene: Scene, video: Video) -> None:
    if scene in wanted:
        found.setdefault(scene, video)


def _members(archive: Path) -> tuple[Item, ...]:
    try:
        with archive.open("rb") as file:
            return check_directory(read_directory(file), archive.stem).items
    except ArchiveError as exc:
        raise DataError(f"{archive}: {exc}") from exc
    except OSError as exc:
        raise DataError(f"{archive}: cannot be read ({exc.strerror or exc}); check the disk") from exc
