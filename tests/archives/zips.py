"""Zip archives built byte by byte, so that every field can lie; and trees of files to compare."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from vilasr.archives import Options, Report, Stop, unpack
from vilasr.archives.progress import Progress

FILE = stat.S_IFREG | 0o644


@dataclass(frozen=True)
class Entry:
    """A member. What is None is told truly; `local_*` are what its own header says."""

    name: str | bytes
    data: bytes = b"data"
    method: int = 8
    flags: int = 0x800
    mode: int = FILE
    crc: int | None = None
    packed: int | None = None
    size: int | None = None
    local_name: str | bytes | None = None
    local_crc: int | None = None
    offset: int | None = None
    disk: int = 0
    signature: bytes = b"PK\3\4"


def build(*entries: Entry, front: bytes = b"", count: int | None = None, disk: int = 0, comment: bytes = b"") -> bytes:
    """A zip archive with `front` before its first member."""
    body, central = bytearray(front), bytearray()
    for entry in entries:
        raw = _bytes(entry.name)
        own = raw if entry.local_name is None else _bytes(entry.local_name)
        data = deflate(entry.data) if entry.method == 8 else entry.data
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        packed = len(data) if entry.packed is None else entry.packed
        size = len(entry.data) if entry.size is None else entry.size
        offset = len(body) if entry.offset is None else entry.offset
        head = (20, entry.flags, entry.method, 0, 0x21)
        if entry.offset is None:
            own_crc = crc if entry.local_crc is None else entry.local_crc
            body += struct.pack("<4s5H3I2H", entry.signature, *head, own_crc, packed, size, len(own), 0) + own + data
        central += struct.pack("<4s6H3I5H2I", b"PK\1\2", 3 << 8 | 20, *head, crc, packed, size, len(raw), 0, 0,
                               entry.disk, 0, entry.mode << 16, offset) + raw  # fmt: skip
    number = len(entries) if count is None else count
    end = struct.pack("<4s4H2IH", b"PK\5\6", disk, disk, number, number, len(central), len(body), len(comment))
    return bytes(body + central) + end + comment


def _bytes(name: str | bytes) -> bytes:
    return name.encode() if isinstance(name, str) else name


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def pack(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """An archive as others make it."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def images(count: int, size: int = 2000, folder: str = "vqa") -> dict[str, bytes]:
    return {f"{folder}/{number % 7}/{number:05d}.png": os.urandom(size) for number in range(count)}


def run(data: Path, workers: int = 2, verify: bool = False, dry_run: bool = False) -> Report:
    return unpack(data, Options(workers, verify, dry_run), Progress(io.StringIO()), Stop())


def tree(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder: the bytes of files, the targets of links, "" for folders; not our own `.unzip`."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if ".unzip" not in name.split("/"):
            found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
    return found


def files(folder: Path) -> dict[str, bytes | str]:
    return {name: data for name, data in tree(folder).items() if data != ""}
