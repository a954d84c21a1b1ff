"""Running it again after something was changed: repaired files stay, lost ones are noticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.archives.test_unpack import places, unzip
from tests.archives.zips import files, images, pack, run, tree
from tests.conftest import run_tool
from vilasr.archives import records
from vilasr.archives.records import Kept, choose


def repair(path: Path, text: bytes) -> None:
    """As tools/check_data.py --fix does."""
    path.rename(path.with_name(f"{path.stem}.original{path.suffix}"))
    path.write_bytes(text)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pack(tmp_path / "cold_start_part1.zip", {"maze.json": b"broken", "rl.jsonl": b"broken too", **images(10)})
    assert run(tmp_path).bad == ()
    return tmp_path


def test_what_check_data_repaired_stays(tmp_path: Path) -> None:
    """The real tool: items that cannot be used go aside, so the file shrinks."""
    turns = [{"role": role, "content": "text"} for role in ("system", "user", "assistant")]
    items = [{"conversations": turns, "images": []} for _ in range(5)] + [{"conversations": turns[:1], "images": []}]
    pack(tmp_path / "cold_start_part1.zip", {"maze.json": json.dumps(items).encode()})
    info = {"maze": {"file_name": "cold_start/maze.json", "formatting": "sharegpt",
                     "columns": {"messages": "conversations", "images": "images"},
                     "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user",
                              "assistant_tag": "assistant", "system_tag": "system"}}}  # fmt: skip
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    assert unzip(tmp_path).returncode == 0
    path = tmp_path / "cold_start" / "maze.json"
    before = path.read_bytes()
    run_tool("tools/check_data.py", tmp_path, "--fix")
    assert path.with_name("maze.original.json").read_bytes() == before != path.read_bytes()
    repaired = tree(tmp_path)
    for arguments in ([], [], ["--verify"], ["--dry-run"]):
        done = unzip(tmp_path, *arguments)
        assert done.returncode == 0
        assert f"1 repaired file kept: {path}" in done.stderr
        assert tree(tmp_path) == repaired


@pytest.mark.parametrize("name", ["maze.json", "rl.jsonl"])
@pytest.mark.parametrize("text", [b"mended", b"mended, and longer", b""], ids=["same size", "longer", "empty"])
@pytest.mark.parametrize("recorded", [True, False])
def test_repaired_files_stay(name: str, text: bytes, recorded: bool, data: Path) -> None:
    path = data / "cold_start" / name
    repair(path, text)
    before = places(data / "cold_start")
    for verify in (False, True, False):
        if not recorded:
            shutil.rmtree(data / ".unzip")
        report = run(data, verify=verify)
        assert (report.bad, report.moved) == ((), ())
        if verify or not recorded or len(text) != path.with_name(f"{path.stem}.original{path.suffix}").stat().st_size:
            assert report.repaired == (str(path),)
    assert places(data / "cold_start") == before


def test_a_repaired_file_is_not_work_for_every_run(data: Path) -> None:
    repair(data / "cold_start" / "maze.json", b"mended, and longer")
    before = places(data)
    assert "0 to compare, 11 complete, 1 repaired kept" in run(data).lines[0]
    assert places(data) == before  # not even the record


@pytest.mark.parametrize("original", [b"bro", b"BROKEN", None], ids=["shorter", "another CRC", "none"])
def test_without_the_true_original_it_is_no_repair(original: bytes | None, data: Path) -> None:
    path = data / "cold_start" / "maze.json"
    path.write_bytes(b"somebody's own")
    if original is not None:
        path.with_name("maze.original.json").write_bytes(original)
    report = run(data)
    assert (report.moved, report.repaired) == ((f"{path}.previous",), ())
    assert path.read_bytes() == b"broken"


def test_a_repaired_file_that_is_gone_comes_back(data: Path) -> None:
    path = data / "cold_start" / "maze.json"
    repair(path, b"mended, and longer")
    path.unlink()
    assert run(data).repaired == ()
    assert path.read_bytes() == b"broken"


def test_archive_and_files_both_gone(data: Path) -> None:
    (data / "cold_start_part1.zip").unlink()
    assert unzip(data).returncode == 0
    shutil.rmtree(data / "cold_start")
    done = unzip(data)
    assert done.returncode == 1
    assert "Complete." not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("  cold_start_part1.zip: ")]
    assert "files of cold_start_part1.zip are missing or changed (12 of 12 looked at" in line
    assert "and the archive is gone: download it again" in line
    assert run(data, dry_run=True).bad == run(data).bad != ()
    (data / ".unzip" / "cold_start_part1.zip.json").unlink()  # as the message says
    assert "holds no archive" in unzip(data).stderr


@pytest.mark.parametrize("what", ["delete", "shorten", "folder"])
def test_one_file_gone_beside_other_archives(what: str, data: Path) -> None:
    pack(data / "cold_start_part2.zip", {"more.json": b"[]"})
    assert run(data).bad == ()
    (data / "cold_start_part1.zip").unlink()
    assert run(data).bad == ()
    repair(data / "cold_start" / "maze.json", b"mended, and longer")  # is not lost
    assert run(data).bad == ()
    victim = data / "cold_start" / "vqa" / "3" / "00003.png"
    victim.unlink()
    if what == "shorten":
        victim.write_bytes(b"short")
    elif what == "folder":
        victim.mkdir()
    [line] = run(data).bad
    assert line.startswith("cold_start_part1.zip: files of cold_start_part1.zip are missing or changed (1 of 12")
    assert str(victim) in line


def test_files_that_another_archive_brings_are_not_lost(data: Path) -> None:
    (data / "cold_start_part1.zip").rename(data / "cold_start_part01.zip")
    content = files(data / "cold_start")
    shutil.rmtree(data / "cold_start")
    assert run(data, dry_run=True).bad == ()
    assert run(data).bad == ()
    assert files(data / "cold_start") == content


def test_a_damaged_record_of_an_archive_that_is_gone(data: Path) -> None:
    (data / "cold_start_part1.zip").unlink()
    for text in ("", "[]", '{"version": 1, "directory": "x"}', '{"version": 2, "directory": "x", "kept": [1]}'):
        (data / ".unzip" / "cold_start_part1.zip.json").write_text(text)
        [line] = run(data).bad
        assert "cannot be read and the archive is gone: download it again" in line


def test_records_of_large_archives_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """And every folder is in them, as long as there are not too many."""
    monkeypatch.setattr(records, "MOST_KEPT", 40)
    many = [Kept(f"{n % 20}/{n}.png", n, n) for n in range(40_000)]
    chosen = choose(many)
    assert len(chosen) <= 40
    assert {file.path.split("/")[0] for file in chosen} == {str(n) for n in range(20)}
    assert len(choose([Kept(f"{n}/a", 0, 0) for n in range(1000)])) <= 40
    assert choose(many[:40]) == tuple(many[:40])
