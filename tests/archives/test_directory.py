"""Reading what archives say they hold: as `zipfile` reads it, beyond 65,535 members and 4 GB too."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.archives.zips import Entry, build, files, pack, run
from vilasr.archives import zip_directory
from vilasr.archives.stages import Archive, find_archives, missing_parts, parse_archive
from vilasr.archives.zip_directory import ArchiveError, read_directory


def same_as_zipfile(path: Path) -> int:
    """Compares all members; returns how many there are."""
    with path.open("rb") as file:
        members = read_directory(file).members
    with zipfile.ZipFile(path) as archive:
        theirs = [(i.orig_filename, i.CRC, i.compress_size, i.file_size, i.header_offset) for i in archive.infolist()]
    assert [(m.name, m.crc, m.packed, m.size, m.offset) for m in members] == theirs
    return len(members)


def test_more_members_than_16_bits_count(tmp_path: Path) -> None:
    path, many = tmp_path / "many.zip", 65_600
    content = build(*(Entry(f"vqa/{number}", b"", method=0) for number in range(many)), count=0xFFFF)
    content, end = content[:-22], content[-22:]
    size, start = struct.unpack("<2I", end[12:20])
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, many, many, size, start)
    path.write_bytes(content + record + struct.pack("<4sIQI", b"PK\6\7", 0, len(content), 1) + end)
    assert same_as_zipfile(path) == 65_600


def test_members_beyond_four_gigabytes(tmp_path: Path) -> None:
    """A sparse archive: its second member and its directory lie behind 5 GB of nothing."""
    path, gap = tmp_path / "rl_part1.zip", 5_000_000_000
    with path.open("wb") as file:
        archive = zipfile.ZipFile(file, "w")
        archive.writestr("a.png", b"first")
        file.seek(gap)
        archive.start_dir = gap
        archive.writestr("b.png", b"second")
        archive.close()
    assert same_as_zipfile(path) == 2
    assert run(tmp_path).bad == ()
    assert files(tmp_path / "rl") == {"a.png": b"first", "b.png": b"second"}


def test_sizes_in_the_zip64_field(tmp_path: Path) -> None:
    data, name = b"hello", b"a.png"
    sizes = struct.pack("<2H2Q", 1, 16, len(data), len(data))
    head = (45, 0x800, 0, 0, 0x21, zlib.crc32(data), 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(sizes))
    body = struct.pack("<4s5H3I2H", b"PK\3\4", *head) + name + sizes + data
    entry = struct.pack("<4sH5H3I5H2I", b"PK\1\2", 45, *head, 0, 0, 0, 0, 0) + name + sizes
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(body), 0)
    path = tmp_path / "rl_part1.zip"
    path.write_bytes(body + entry + end)
    assert same_as_zipfile(path) == 1
    assert run(tmp_path).bad == ()
    assert files(tmp_path / "rl") == {"a.png": data}
    path.write_bytes(body + entry.replace(struct.pack("<2H", 1, 16), struct.pack("<2H", 1, 8)) + end)
    assert "a short zip64 field" in run(tmp_path).bad[0]


def test_archives_written_as_a_stream(tmp_path: Path) -> None:
    """Sizes then stand behind the data, and the local header has zeros."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vqa/a.png", b"a" * 3000)
        archive.writestr("vqa/b.png", b"")
    (tmp_path / "rl_part1.zip").write_bytes(pipe.data)
    assert run(tmp_path).bad == ()
    assert files(tmp_path / "rl") == {"vqa/a.png": b"a" * 3000, "vqa/b.png": b""}


def test_members_larger_than_a_piece(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(1 << 21)
    big = {"stored.json": noise + b"1", "packed.json": noise + bytes(range(256)) * 9000}
    pack(tmp_path / "rl_part1.zip", {"packed.json": big["packed.json"]})
    pack(tmp_path / "rl_part2.zip", {"stored.json": big["stored.json"]}, zipfile.ZIP_STORED)
    assert run(tmp_path).bad == ()
    assert files(tmp_path / "rl") == big


@pytest.mark.parametrize(
    ("raw", "flags", "name"),
    [("é.png".encode(), 0x800, "é.png"), ("é.png".encode(), 0, "é.png"), (b"\x82.png", 0, "é.png")],
    ids=["flagged", "Info-ZIP on Linux", "DOS"],
)
def test_names_beyond_ascii(raw: bytes, flags: int, name: str, tmp_path: Path) -> None:
    (tmp_path / "rl_part1.zip").write_bytes(build(Entry(raw, flags=flags)))
    assert run(tmp_path).bad == ()
    assert list(files(tmp_path / "rl")) == [name]


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "x.zip", {str(n): b"" for n in range(11)})
    assert same_as_zipfile(path) == 11
    monkeypatch.setattr(zip_directory, "MAX_MEMBERS", 10)
    with path.open("rb") as file, pytest.raises(ArchiveError, match="more than 10 members"):
        read_directory(file)


@pytest.mark.parametrize(
    ("name", "stage", "number"),
    [
        ("cold_start_part1.zip", "cold_start", 1),
        ("cold_start_path_02.zip", "cold_start", 2),
        ("reflective_rejection_sampling_part10.ZIP", "reflective_rejection_sampling", 10),
        ("rl_part3.zip", "rl", 3),
        ("rl_part1 (1).zip", "rl", None),
        ("rl_part.zip", "rl", None),
        ("rl.zip", None, None),
        ("my_rl_part1.zip", None, None),
        ("rl_part1.zip.part", None, None),
    ],
)
def test_names_of_archives(name: str, stage: str | None, number: int | None) -> None:
    archive = parse_archive(Path(name))
    assert (archive and archive.stage, archive and archive.number) == (stage, number)


def test_archives_come_in_the_order_of_their_parts(tmp_path: Path) -> None:
    for name in ("rl_part10.zip", "rl_part9.zip", "cold_start_path2.zip", "other.zip", "notes.txt"):
        (tmp_path / name).touch()
    archives, others = find_archives(tmp_path)
    assert [archive.name for archive in archives] == ["cold_start_path2.zip", "rl_part9.zip", "rl_part10.zip"]
    assert [path.name for path in others] == ["other.zip"]


@pytest.mark.parametrize(
    ("numbers", "gaps"),
    [([1, 2, 3], ""), ([0, 1], ""), ([1, 3], "part 2 of at least 3"), ([3], "part 1, 2 of"), ([0, 2], "part 1 of"),
     ([None], "")],
)  # fmt: skip
def test_gaps_in_the_numbering(numbers: list[int | None], gaps: str) -> None:
    lines = missing_parts(Archive(Path(f"{n}.zip"), "rl", n) for n in numbers)
    assert len(lines) == bool(gaps)
    assert not gaps or gaps in lines[0]
