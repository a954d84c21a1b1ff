"""Archives that must not be unpacked: each is refused with its own message and writes nothing, inside or outside."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.archives.zips import FILE, Entry, build, deflate, files, pack, run, tree
from vilasr.archives.checks import check_directory
from vilasr.archives.zip_directory import ArchiveError, Directory, Member

GOOD = Entry("vqa/good.png", b"good")
ZEROS = Entry("vqa/zeros.png", bytes(1 << 21))


def quoted(copies: int) -> bytes:
    """One block of data that many members claim, as in Fifield's bomb."""
    block = Entry("vqa/block", bytes(100_000))
    return build(block, *(replace(block, name=f"vqa/copy{n}", offset=0) for n in range(copies)))


HOSTILE = {
    "an absolute path": build(GOOD, Entry("/etc/vilasr-was-here")),
    "leads out of its folder": build(GOOD, Entry("vqa/../../../outside/x")),
    "names a drive": build(GOOD, Entry("C:/windows/x")),
    "a backslash": build(GOOD, Entry("..\\..\\outside\\x")),
    "a control character": build(GOOD, Entry("vqa/a.png\0../../outside")),
    "an empty or '.' folder": build(GOOD, Entry("vqa//./x")),
    "has no name": build(GOOD, Entry("")),
    "too long a name": build(GOOD, Entry("vqa/" + "é" * 128)),
    "the name .unzip-partial": build(GOOD, Entry(".unzip-partial/0")),
    "a symbolic link": build(GOOD, Entry("vqa/link", b"../../outside", mode=stat.S_IFLNK | 0o777)),
    "a device": build(GOOD, Entry("vqa/null", b"", mode=stat.S_IFCHR | 0o666)),
    "a named pipe": build(GOOD, Entry("vqa/pipe", b"", mode=stat.S_IFIFO | 0o666)),
    "a socket": build(GOOD, Entry("vqa/socket", b"", mode=stat.S_IFSOCK | 0o666)),
    "marked as a folder": build(GOOD, Entry("vqa/folder", mode=stat.S_IFDIR | 0o755)),
    "named as a folder and is a file": build(GOOD, Entry("vqa/folder/", b"bytes", mode=0)),
    "is there twice": build(GOOD, replace(GOOD, data=b"evil")),
    "is there under two names": build(GOOD, Entry("vqa/\u00e9.png"), Entry("vqa/e\u0301.png")),
    "a file and a folder at once": build(GOOD, Entry("vqa/good.png/x")),
    "is encrypted": build(GOOD, Entry("vqa/secret", flags=0x801)),
    "compressed with Deflate64": build(GOOD, Entry("vqa/x", method=9)),
    "over 200 times": build(GOOD, ZEROS),
    "over 100 times": build(GOOD, *(Entry(f"vqa/{n}", bytes(1 << 20)) for n in range(65))),
    "overlaps 'vqa/": quoted(30),
    "overlaps the archive's directory": build(GOOD, Entry("vqa/x", b"x", method=0, packed=5000, size=5000)),
    "is stored, but declares": build(GOOD, Entry("vqa/x", b"x", method=0, size=5000)),
    "is one piece of a split": build(GOOD, disk=3),
    "lies in another piece": build(GOOD, Entry("vqa/x", disk=2)),
    "lists 2 members, its end record 1": build(GOOD, Entry("vqa/x"), count=1),
    "is not where its end record says": b"#!/bin/sh\n" + build(GOOD),
    "a name that is not UTF-8": build(GOOD, Entry(b"vqa/\xff.png")),
    "is cut off": build(GOOD, Entry("vqa/x", os.urandom(5000)))[:4000],
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "a web page": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "is empty": b"",
    "is not a zip archive": b"\x89PNG",
}
# Told only by the data: the good member stays, the bad one is not there.
LYING = {
    "holds more than the 3 bytes": Entry("vqa/x", b"long enough", size=3),
    "ends after 4 of 400 bytes": Entry("vqa/x", b"data", size=400),
    "has CRC-32": Entry("vqa/x", b"data", crc=1),
    "cannot be decompressed": Entry("vqa/x", b"\xff" * 40, method=9),  # made method 8 below
    "another name in its own header": Entry("vqa/x", local_name="../xx"),
    "another size, CRC or method in its own header": Entry("vqa/x", local_crc=1),
    "is not where the directory says": Entry("vqa/x", signature=b"PK\3\5"),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with something around it that must stay as it is."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine.txt").write_text("mine")
    folder = tmp_path / "deep" / "data"
    folder.mkdir(parents=True)
    return folder


def refusal(data: Path) -> str:
    report = run(data)
    assert len(report.bad) == 1
    return report.bad[0]


@pytest.mark.parametrize("message", HOSTILE)
def test_hostile_archives_are_refused_and_write_nothing(message: str, data: Path, tmp_path: Path) -> None:
    (data / "cold_start_part1.zip").write_bytes(HOSTILE[message])
    before = tree(tmp_path)
    reason = refusal(data)
    assert reason.startswith("cold_start_part1.zip: ")
    assert [known for known in HOSTILE if known in reason] == [message]
    assert tree(tmp_path) == before
    assert not Path("/etc/vilasr-was-here").exists()


@pytest.mark.parametrize("message", LYING)
def test_members_whose_data_lies_are_left_out_and_the_others_stay(message: str, data: Path, tmp_path: Path) -> None:
    archive = build(GOOD, LYING[message])
    if message == "cannot be decompressed":
        archive = archive.replace(b"\x09\0\0\0\x21", b"\x08\0\0\0\x21")
    (data / "cold_start_part1.zip").write_bytes(archive)
    before = tree(tmp_path)
    reason = refusal(data)
    assert [known for known in LYING if known in reason] == [message]
    assert "'vqa/x'" in reason
    new = {name: what for name, what in tree(tmp_path).items() if name not in before}
    assert new == {
        "deep/data/cold_start": "",
        "deep/data/cold_start/vqa": "",
        "deep/data/cold_start/vqa/good.png": b"good",
    }
    assert refusal(data) == reason  # it was not taken for complete


def test_the_same_archives_without_the_lie_are_unpacked(data: Path) -> None:
    """So that the refusals above are not of archives that are unreadable anyway."""
    honest = (GOOD, Entry("vqa/x", b"x", method=0), Entry("vqa/", b"", mode=stat.S_IFDIR | 0o755), Entry("a.json"))
    (data / "cold_start_part1.zip").write_bytes(build(*honest, comment=b"PK\5\6 in the comment" + bytes(30)))
    assert run(data).bad == ()
    assert files(data / "cold_start") == {"vqa/good.png": b"good", "vqa/x": b"x", "a.json": b"data"}


def test_a_bad_archive_does_not_stop_the_others(data: Path) -> None:
    (data / "cold_start_part1.zip").write_bytes(HOSTILE["leads out of its folder"])
    (data / "cold_start_part2.zip").write_bytes(build(GOOD))
    assert len(run(data).bad) == 1
    assert files(data / "cold_start") == {"vqa/good.png": b"good"}


def test_the_limits_on_growth_let_the_published_kind_of_data_pass(data: Path) -> None:
    text = b'{"role": "user", "content": "Where is the chair?"}, ' * 4000
    blank = bytes(1 << 20)  # a blank mask
    (data / "cold_start_part1.zip").write_bytes(build(Entry("vqa.json", text), Entry("vqa/blank.bmp", blank)))
    assert len(deflate(blank)) * 900 < len(blank)
    assert run(data).bad == ()


def test_a_link_that_leads_out_is_not_followed(data: Path, tmp_path: Path) -> None:
    (data / "cold_start").mkdir()
    (data / "cold_start" / "vqa").symlink_to(tmp_path / "outside")
    (data / "cold_start_part1.zip").write_bytes(build(GOOD))
    before = tree(tmp_path)
    assert "leads out of" in refusal(data)
    assert tree(tmp_path) == before


def test_a_link_in_place_of_a_file_is_not_written_through(data: Path, tmp_path: Path) -> None:
    (data / "cold_start" / "vqa").mkdir(parents=True)
    link = data / "cold_start" / "vqa" / "good.png"
    link.symlink_to(tmp_path / "outside" / "mine.txt")
    (data / "cold_start_part1.zip").write_bytes(build(GOOD))
    report = run(data)
    assert report.moved == (f"{link}.previous",)
    assert (link.read_bytes(), link.is_symlink()) == (b"good", False)
    assert (tmp_path / "outside" / "mine.txt").read_text() == "mine"


def test_the_folder_of_a_stage_may_be_a_link_to_another_disk(data: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (data / "cold_start").symlink_to(tmp_path / "disk")
    (data / "cold_start_part1.zip").write_bytes(build(GOOD))
    assert run(data).bad == ()
    assert files(tmp_path / "disk") == {"vqa/good.png": b"good"}


@pytest.mark.parametrize(("path", "message"), [("vqa", "is a file where a folder"), ("vqa/good.png/", "is a folder")])
def test_what_is_in_the_way_is_named(path: str, message: str, data: Path) -> None:
    place = data / "cold_start" / path
    place.mkdir(parents=True) if path.endswith("/") else (place.parent.mkdir(), place.write_text("mine"))
    (data / "cold_start_part1.zip").write_bytes(build(GOOD))
    assert message in refusal(data)


def test_names_that_differ_in_case_are_refused_where_they_are_one_file() -> None:
    def member(name: str, offset: int) -> Member:
        return Member(name, name.encode(), 0, 0, 0, 0, 0, offset, FILE, False)

    directory = Directory((member("vqa/a.png", 0), member("vqa/A.png", 100)), 200, "")
    assert len(check_directory(directory, "cold_start").items) == 2
    with pytest.raises(ArchiveError, match="under two names"):
        check_directory(directory, "cold_start", fold_case=True)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_archives_never_write_what_is_not_theirs(data: Path, tmp_path: Path, draw: st.DataObject) -> None:
    """Any bytes changed anywhere: the archive is refused or unpacked with right CRCs, and nothing else happens."""
    original = {"vqa/a.png": b"a" * 50, "vqa/b.png": bytes(range(200)), "vqa.json": b"[]"}
    content = bytearray(pack(tmp_path / "x", original).read_bytes())
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    folder = tmp_path / "fuzz" / str(len(list((tmp_path).glob("fuzz/*"))))
    folder.mkdir(parents=True)
    (folder / "rl_part1.zip").write_bytes(
        content[: draw.draw(st.integers(0, len(content)))] if draw.draw(st.booleans()) else content
    )
    run(folder, workers=1)
    assert {path.name for path in folder.iterdir()} <= {"rl_part1.zip", "rl", ".unzip"}
    assert set(files(folder / "rl").values()) <= {*original.values()} if (folder / "rl").exists() else True
