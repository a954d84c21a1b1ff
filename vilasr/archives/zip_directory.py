"""A zip archive's central directory, read strictly: what the archive says it holds and where.

`zipfile` reads it too, but leniently: it takes archives with bytes in front, wrong counts and pieces of split archives,
and takes several times as long. Here all of an archive has to agree before a byte of it is used.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from vilasr.one_line import OneLineError

MAX_MEMBERS = 5_000_000  # ten times what the published data holds; a list of them still fits in memory

_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "see the zip64 field"
_DOS_FOLDER = 0x10


class ArchiveError(OneLineError, ValueError):
    """An archive that cannot be used. The message names the member and says what to do; the caller adds the archive."""


class Member(NamedTuple):
    """An entry of the central directory; sizes in bytes. `raw` is the name as stored, `mode` the Unix one or 0."""

    name: str
    raw: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int
    dos_folder: bool

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")

    @property
    def kind(self) -> int:
        """The file type of `mode`, as of `stat.S_IFMT`; 0 where the archive does not tell it."""
        return stat.S_IFMT(self.mode)


@dataclass(frozen=True)
class Directory:
    """`start` is the offset of the central directory, where the members' data must end; `digest` is its SHA-256."""

    members: tuple[Member, ...]
    start: int
    digest: str


@dataclass(frozen=True)
class _End:
    count: int
    size: int
    start: int
    exact: bool  # False where the count is kept modulo 65,536


def read_directory(file: BinaryIO) -> Directory:
    """The central directory of an open archive. Raises OSError, ArchiveError for what is no whole zip archive."""
    end = _read_end(file)
    if max(end.count, end.size // _ENTRY.size) > MAX_MEMBERS:
        raise ArchiveError(f"lists more than {MAX_MEMBERS:,} members; it is not part of this data, remove it")
    file.seek(end.start)
    data = file.read(end.size)
    members = tuple(_entries(data))
    if (len(members) if end.exact else len(members) & _FULL16) != end.count:
        raise _damaged(f"its directory lists {len(members):,} members, its end record {end.count:,}")
    return Directory(members, end.start, hashlib.sha256(data).hexdigest())


def _damaged(what: str) -> ArchiveError:
    return ArchiveError(f"is damaged ({what}); download it again")


def _read_end(file: BinaryIO) -> _End:
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(512)
    file.seek(max(0, length - _END.size - _FULL16))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    while at >= 0 and not _ends_here(tail, at):  # the signature may stand in the archive's comment
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0:
        raise _no_archive(head, length)
    _, disk, first_disk, here, count, size, start, _ = _END.unpack_from(tail, at)
    position, exact = length - len(tail) + at, False  # of what the directory must end at
    if _FULL16 in (disk, first_disk, here, count) or _FULL32 in (size, start):
        file.seek(max(0, position - _LOCATOR.size))
        locator = file.read(_LOCATOR.size)
        if locator.startswith(b"PK\6\7"):
            _, _, position, disks = _LOCATOR.unpack(locator)
            file.seek(min(position, length))
            record = file.read(_END64.size)
            if len(record) < _END64.size or not record.startswith(b"PK\6\6"):
                raise _damaged("its zip64 end record is not where it should be")
            _, _, _, _, disk, first_disk, here, count, size, start = _END64.unpack(record)
            disk, exact = max(disk, disks - 1), True
    if disk or first_disk or here != count:
        raise ArchiveError("is one piece of a split archive; join the pieces (zip -s 0 PIECE.zip --out WHOLE.zip)")
    if start + size != position:
        raise _damaged("its directory is not where its end record says")
    return _End(count, size, start, exact)


def _ends_here(tail: bytes, at: int) -> bool:
    return at + _END.size <= len(tail) and at + _END.size + _END.unpack_from(tail, at)[-1] == len(tail)


def _no_archive(head: bytes, length: int) -> ArchiveError:
    """What a file without an end record is."""
    if not length:
        return ArchiveError("is empty; download it again")
    if head.startswith(_LFS_POINTER):
        return ArchiveError("is a git-lfs pointer, not the archive; run `git lfs pull` or download it again")
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return ArchiveError("is a web page, not the archive (the download failed); log in where needed, download again")
    if head.startswith(b"PK\3\4"):
        return ArchiveError(f"is cut off after {length:,} bytes (no end record); finish the download or repeat it")
    return ArchiveError("is not a zip archive; download it again")


def _entries(data: bytes) -> Iterator[Member]:
    at = 0
    while at < len(data):
        if len(data) - at < _ENTRY.size or data[at : at + 4] != b"PK\1\2":
            raise _damaged(f"its directory is unreadable at byte {at:,}")
        (_, _, _, flags, method, _, _, crc, packed, size, names, extras, comments, disk, _, attributes, offset) = (
            _ENTRY.unpack_from(data, at)
        )
        at += _ENTRY.size
        raw, extra = data[at : at + names], data[at + names : at + names + extras]
        at += names + extras + comments
        if at > len(data):
            raise _damaged("its directory ends within a member's name")
        if disk not in (0, _FULL16):
            raise ArchiveError(f"member {raw!r} lies in another piece of a split archive; join the pieces first")
        if _FULL32 in (size, packed, offset):
            size, packed, offset = _zip64(extra, size, packed, offset, raw)
        mode, folder = attributes >> 16, bool(attributes & _DOS_FOLDER)
        yield Member(_decode(raw, flags), raw, flags, method, crc, packed, size, offset, mode, folder)


def _zip64(extra: bytes, size: int, packed: int, offset: int, raw: bytes) -> tuple[int, int, int]:
    """(size, packed, offset) with the full ones taken from the zip64 field, where they stand in this order."""
    at = 0
    while at + 4 <= len(extra):
        number, length = struct.unpack_from("<2H", extra, at)
        body = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if number == 1:
            values = [size, packed, offset]
            full = [i for i, value in enumerate(values) if value == _FULL32]
            if len(body) < 8 * len(full):
                raise _damaged(f"member {raw!r} has a short zip64 field")
            for place, i in enumerate(full):
                values[i] = struct.unpack_from("<Q", body, 8 * place)[0]
            return values[0], values[1], values[2]
    return size, packed, offset  # exactly 4 GiB - 1; what is wrong shows in the checks


def _decode(raw: bytes, flags: int) -> str:
    """Flagged names are UTF-8. Info-ZIP on Linux writes UTF-8 without the flag; what is none is code page 437."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        if flags & 0x800:
            raise _damaged(f"member {raw!r} has a name that is not UTF-8") from exc
        return raw.decode("cp437")
