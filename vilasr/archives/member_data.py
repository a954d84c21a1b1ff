"""The bytes of one member, checked against what the directory says of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from vilasr.archives.checks import DEFLATED
from vilasr.archives.layout import Item
from vilasr.archives.zip_directory import ArchiveError, Member

PIECE = 1 << 20  # bytes read at a time; most images come in one piece
_HEADER = struct.Struct("<4s5H3I2H")
_SLACK = 64  # bytes of extra fields that are read with the header, as most archives have fewer
_SIZES_FOLLOW = 1 << 3  # sizes and CRC stand behind the data, not in the header
_FULL32 = 0xFFFFFFFF


def read_member(file: BinaryIO, item: Item) -> Iterator[bytes | memoryview]:
    """The member's bytes in pieces, `size` in all and of the right CRC-32 once the iterator is exhausted.

    Never gives more bytes than the member declares. Raises ArchiveError naming the member.
    """
    member = item.member
    crc = total = 0
    try:
        for piece in _inflate(_packed(file, item), member):
            total += len(piece)
            if total > member.size:
                raise _bad(member, f"holds more than the {member.size:,} bytes it declares")
            crc = zlib.crc32(piece, crc)
            yield piece
    except zlib.error as exc:
        raise _bad(member, f"cannot be decompressed ({exc})") from exc
    except OSError as exc:
        raise ArchiveError(f"member {member.name!r} cannot be read ({exc.strerror}); check the disk") from exc
    if total < member.size:
        raise _bad(member, f"ends after {total:,} of {member.size:,} bytes")
    if crc != member.crc:
        raise _bad(member, f"has CRC-32 {crc:08x}, not {member.crc:08x}")


def _bad(member: Member, problem: str) -> ArchiveError:
    return ArchiveError(f"member {member.name!r} {problem}; download the archive again")


def _packed(file: BinaryIO, item: Item) -> Iterator[memoryview]:
    """The member's bytes as they lie in the archive."""
    member = item.member
    file.seek(member.offset)
    most = min(item.end - member.offset, _HEADER.size + len(member.raw) + _SLACK + min(member.packed, PIECE))
    data = memoryview(_read(file, most))
    start = _data_start(data, member)
    if member.offset + start + member.packed > item.end:
        raise _bad(member, "reaches into what follows it")
    if start > len(data):
        file.seek(member.offset + start)
        data, start = memoryview(b""), 0
    left = member.packed
    while left:
        piece = data[start : start + left]
        if not piece:
            piece = memoryview(_read(file, min(left, PIECE)))
            if not piece:
                raise _bad(member, "is cut off")
        yield piece
        left -= len(piece)
        data, start = memoryview(b""), 0


def _read(file: BinaryIO, count: int) -> bytes:
    """Unbuffered files may give fewer bytes than asked for."""
    data = file.read(count)
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data


def _data_start(head: memoryview, member: Member) -> int:
    """Bytes from the member's local header to its data. The header must say what the directory says."""
    if len(head) < _HEADER.size or head[:4] != b"PK\3\4":
        raise _bad(member, "is not where the directory says")
    _, _, flags, method, _, _, crc, packed, size, names, extras = _HEADER.unpack_from(head)
    if bytes(head[_HEADER.size : _HEADER.size + names]) != member.raw:
        raise _bad(member, "has another name in its own header than in the directory")
    same = method == member.method and not (flags ^ member.flags) & 1
    if same and not flags & _SIZES_FOLLOW:
        same = crc == member.crc and packed in (member.packed, _FULL32) and size in (member.size, _FULL32)
    if not same:
        raise _bad(member, "has another size, CRC or method in its own header than in the directory")
    return _HEADER.size + names + extras


def _inflate(pieces: Iterator[memoryview], member: Member) -> Iterator[bytes | memoryview]:
    """At most one byte more than the member declares."""
    if member.method != DEFLATED:
        yield from pieces
        return
    inflater, left = zlib.decompressobj(-zlib.MAX_WBITS), member.size + 1
    for piece in pieces:
        packed: bytes | memoryview = piece
        while packed and left and not inflater.eof:
            plain = inflater.decompress(packed, min(left, 4 * PIECE))
            left -= len(plain)
            packed = inflater.unconsumed_tail
            if plain:
                yield plain
        if inflater.eof or not left:
            return
    while left and not inflater.eof and (plain := inflater.decompress(inflater.unconsumed_tail, min(left, 4 * PIECE))):
        left -= len(plain)
        yield plain
