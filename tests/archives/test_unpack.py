"""Unpacking whole data folders: the tree, what is skipped, repaired, kept and reported."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.archives.zips import files, images, pack, run, tree
from tests.conftest import ROOT
from vilasr.archives import OutputError
from vilasr.archives.checks import place_key
from vilasr.archives.progress import Progress
from vilasr.archives.records import locked


def unzip(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program, with the standard library alone and from another folder."""
    command = [sys.executable, "-S", str(ROOT / "unzip.py"), *map(str, arguments)]
    return subprocess.run(command, cwd="/", text=True, capture_output=True, timeout=60)


def places(folder: Path) -> dict[str, tuple[int, int]]:
    """What tells whether a file was written again."""
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def test_the_program_unpacks_skips_and_says_so(tmp_path: Path) -> None:
    data = images(30)
    pack(tmp_path / "cold_start_part1.zip", {"vqa.json": b"[1]", **data})
    pack(tmp_path / "rl_path1.zip", {"vilasr_rl_data.json": b"[2]"}, zipfile.ZIP_STORED)
    (tmp_path / "other.zip").write_bytes(b"not ours")
    would = unzip(tmp_path, "--dry-run")
    assert would.returncode == 0
    assert "cold_start_part1.zip: 31 files (0.1 MB) to write" in would.stdout
    assert not (tmp_path / ".unzip").exists()
    first = unzip(tmp_path)
    assert (first.returncode, first.stdout) == (0, "")
    assert "other.zip: is none of the archives" in first.stderr
    assert "Complete." in first.stderr
    assert "\r" not in first.stderr
    assert files(tmp_path / "cold_start") == {"vqa.json": b"[1]", **data}
    assert files(tmp_path / "rl") == {"vilasr_rl_data.json": b"[2]"}
    written = places(tmp_path)
    again = unzip(tmp_path, "--workers", 5)
    assert again.returncode == 0
    assert "0 files (0.0 MB) to write" in again.stderr
    assert places(tmp_path) == written  # not even the records


def test_no_archive_says_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"AntResearchNLP/ViLaSR-data") as error:
        run(tmp_path)
    assert str(tmp_path) in str(error.value)


names = st.text(st.characters(blacklist_categories=["Cc", "Cs"], blacklist_characters="/\\:"), min_size=1, max_size=20)
LEFT_OUT = (".", "..", "__MACOSX", ".DS_Store")  # the last two are no data
paths = st.lists(names.filter(lambda name: name not in LEFT_OUT), min_size=1, max_size=3).map("/".join)


def is_tree(given: dict[str, bytes]) -> bool:
    """Paths that can all be files at once."""
    keys = [place_key(name) for name in given]
    return len(set(keys)) == len(keys) and not any(a.startswith(f"{b}/") for a in keys for b in keys)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(paths, st.binary(max_size=3000), max_size=8).filter(is_tree), st.booleans(), st.integers(1, 4))
def test_any_tree_comes_back(tmp_path_factory, content: dict[str, bytes], stored: bool, workers: int) -> None:
    data = tmp_path_factory.mktemp("tree")
    method = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    pack(data / "reflective_rejection_sampling_part1.zip", content, method)
    assert run(data, workers).bad == ()
    unpacked = data / "reflective_rejection_sampling"
    assert {p.relative_to(unpacked).as_posix(): p.read_bytes() for p in unpacked.rglob("*") if p.is_file()} == content


def test_any_number_of_workers_gives_the_same_tree(tmp_path: Path) -> None:
    parts = [images(100, folder=f"p{part}") for part in range(3)]
    trees = []
    for workers in (1, 2, 3, 16):
        data = tmp_path / str(workers)
        data.mkdir()
        for number, content in enumerate(parts):
            pack(data / f"rl_part{number}.zip", content)
        assert run(data, workers).bad == ()
        trees.append(tree(data / "rl"))
    assert {name: d for name, d in trees[0].items() if d} == {k: v for part in parts for k, v in part.items()}
    assert all(each == trees[0] for each in trees)


def test_deleted_and_shortened_files_come_back(tmp_path: Path) -> None:
    content = images(40)
    pack(tmp_path / "rl_part1.zip", content)
    run(tmp_path)
    gone, short, *others = [tmp_path / "rl" / name for name in content]
    kept = {path: path.stat().st_ino for path in others}
    gone.unlink()
    short.write_bytes(b"short")
    assert run(tmp_path).moved == (f"{short}.previous",)
    assert files(tmp_path / "rl") == {**content, f"{short.relative_to(tmp_path / 'rl')}.previous": b"short"}
    assert {path: path.stat().st_ino for path in others} == kept


def test_verify_finds_what_sizes_do_not_tell(tmp_path: Path) -> None:
    content = images(40)
    pack(tmp_path / "rl_part1.zip", content)
    run(tmp_path)
    victim = tmp_path / "rl" / next(iter(content))
    victim.write_bytes(bytes(len(victim.read_bytes())))
    assert run(tmp_path).moved == ()
    assert run(tmp_path, verify=True).moved == (f"{victim}.previous",)
    assert victim.read_bytes() == next(iter(content.values()))


def test_files_of_another_tool_are_compared_and_kept(tmp_path: Path) -> None:
    content = images(40)
    with zipfile.ZipFile(pack(tmp_path / "rl_part1.zip", content)) as archive:
        archive.extractall(tmp_path / "rl")
    first, second, *_ = [tmp_path / "rl" / name for name in content]
    first.write_bytes(bytes(first.stat().st_size))  # reserved by a copy that was cut off
    second.unlink()
    before = places(tmp_path / "rl")
    assert run(tmp_path).moved == (f"{first}.previous",)
    after = places(tmp_path / "rl")
    assert {name for name in before if before[name] != after[name]} == {str(first)}
    assert {name: files(tmp_path / "rl")[name] for name in content} == content


def test_work_of_one_s_own_is_never_lost(tmp_path: Path) -> None:
    pack(tmp_path / "rl_part1.zip", {"vilasr_rl_data.json": b"[]"})
    own = tmp_path / "rl" / "vilasr_rl_data.json"
    own.parent.mkdir()
    for number, text in enumerate((b"[1, 2]", b"[3, 4, 5]", b"[6, 7, 8]")):
        own.write_bytes(text)
        run(tmp_path)
        assert own.read_bytes() == b"[]"
        assert own.with_name(own.name + (".previous" if not number else f".previous-{number + 1}")).read_bytes() == text


def test_another_archive_of_the_same_name_is_unpacked(tmp_path: Path) -> None:
    pack(tmp_path / "rl_part1.zip", {"a.json": b"old"})
    run(tmp_path)
    pack(tmp_path / "rl_part1.zip", {"a.json": b"new"})
    run(tmp_path)
    assert (tmp_path / "rl" / "a.json").read_bytes() == b"new"


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    pack(tmp_path / "rl_part1.zip", {"a.json": b"x"})
    run(tmp_path)
    for text in ("", "[]", "{", '{"version": 1}'):
        (tmp_path / ".unzip" / "rl_part1.zip.json").write_text(text)
        assert "1 to compare" in run(tmp_path).lines[0]
    assert "1 complete" in run(tmp_path).lines[0]


def test_a_corrupted_byte_is_told_and_the_rest_is_there(tmp_path: Path) -> None:
    content = images(20)
    path = pack(tmp_path / "cold_start_part1.zip", content, zipfile.ZIP_STORED)
    victim = list(content)[7]
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(content[victim]) + 100] ^= 1
    path.write_bytes(damaged)
    done = unzip(tmp_path)
    assert done.returncode == 1
    assert f"cold_start_part1.zip: member '{victim}' has CRC-32" in done.stderr.split("Not complete:")[1]
    del content[victim]
    assert files(tmp_path / "cold_start") == content


def test_missing_parts_are_told(tmp_path: Path) -> None:
    pack(tmp_path / "rl_part1.zip", {"a": b"1"})
    pack(tmp_path / "rl_part3.zip", {"b": b"2"})
    assert run(tmp_path).bad == ("rl: part 2 of at least 3 is missing; download it, its images are not here",)
    pack(tmp_path / "rl_part2.zip", {"c": b"3"})
    assert run(tmp_path).bad == ()


def test_archives_may_be_removed_once_they_are_unpacked(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        pack(tmp_path / f"rl_part{number}.zip", {str(number): b"1"})
    run(tmp_path)
    (tmp_path / "rl_part2.zip").unlink()
    assert run(tmp_path).bad == ()
    for number in (1, 3):
        (tmp_path / f"rl_part{number}.zip").unlink()
    assert run(tmp_path).bad == ()
    assert unzip(tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("one", "other", "bad"),
    [
        ({"a": b"same"}, {"a": b"same"}, False),
        ({"a": b"same"}, {"a": b"lame"}, True),
        ({"a": b"file"}, {"a/b": b"folder"}, True),
        ({"a/b": b"folder"}, {"a": b"file"}, True),
        ({"a/b": b"folder"}, {"a/": b"", "a/c": b"x"}, False),
        ({"\u00e9": b"x"}, {"e\u0301": b"x"}, True),
    ],
)
def test_archives_that_contradict_each_other(one: dict, other: dict, bad: bool, tmp_path: Path) -> None:
    pack(tmp_path / "rl_part1.zip", one)
    pack(tmp_path / "rl_part2.zip", other)
    pack(tmp_path / "cold_start_part1.zip", {"a": b"other stage"})
    report = run(tmp_path)
    assert len(report.bad) == 2 * bad
    if bad:
        assert report.bad[0].startswith("rl_part1.zip: ")
        assert "rl_part2.zip" in report.bad[0]
        assert not (tmp_path / "rl").exists()
    else:
        assert files(tmp_path / "rl") == {name: text for name, text in {**one, **other}.items() if text}
    assert files(tmp_path / "cold_start") == {"a": b"other stage"}


def test_one_run_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    pack(tmp_path / "rl_part1.zip", {"a": b"1"})
    with locked(tmp_path):
        done = unzip(tmp_path)
    assert done.returncode == 1
    assert "another run is unpacking into it" in done.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress(stream: io.StringIO) -> None:
    now = [0.0]
    progress = Progress(stream, lambda: now[0])
    progress.start(4, 4_000_000_000)
    for _ in range(10):
        now[0] += 0.1
        progress.show()
    progress.add(1_000_000_000)
    now[0] = 100.0
    progress.show()
    progress.close()
    lines = stream.getvalue().replace("\r", "\n").split("\n")
    text = "1.00 GB of 4.00 GB, 1 of 4 files, 10.0 MB/s, 5:00 left"
    assert sum(line.startswith(text) for line in lines) == 1
    assert len([line for line in lines if "GB" in line]) == (2 if stream.isatty() else 1)


def test_skipping_is_quick(tmp_path: Path) -> None:
    """Nothing of the archive's data is read: with it gone the second run still says complete."""
    path = pack(tmp_path / "rl_part1.zip", images(200), zipfile.ZIP_STORED)
    run(tmp_path)
    content = path.read_bytes()
    start = content.index(b"PK\1\2")
    path.write_bytes(bytes(start) + content[start:])
    os.utime(path)
    assert run(tmp_path).bad == ()
    assert "200 complete" in run(tmp_path).lines[0]
    (tmp_path / "rl" / "vqa" / "0" / "00000.png").unlink()
    assert "is not where the directory says" in run(tmp_path).bad[0]
