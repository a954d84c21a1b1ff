"""Archives packed with and without the folders they lie in: every file of a stage has one place."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest

from tests.archives.zips import files, pack, run
from vilasr.archives.layout import top_of

ONE = {"vqa/a.png": b"a", "maze/m.png": b"m"}
TWO = {"vqa/b.png": b"b", "vqa.json": b"[]"}


def below(top: str, content: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{top}{name}": data for name, data in content.items()}


@pytest.mark.parametrize(
    ("name", "top"),
    [("rl/a", "rl/"), ("ViLaSR-data/rl/a", "ViLaSR-data/rl/"), ("ViLaSR-data/a", "ViLaSR-data/"), ("rl", ""),
     ("rl2/a", ""), ("vqa/rl/a", ""), ("cold_start/a", ""), ("rl/rl/a", "rl/"), ("ViLaSR-data/", "ViLaSR-data/")],
)  # fmt: skip
def test_what_is_a_top_folder(name: str, top: str) -> None:
    assert top_of(name, "rl") == top


@pytest.mark.parametrize(
    ("first", "second"), [*itertools.product(["", "cold_start/", "ViLaSR-data/", "ViLaSR-data/cold_start/"], repeat=2)]
)
def test_parts_packed_differently_go_to_one_place(
    first: str, second: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Documents at an archive's root do not matter."""
    caplog.set_level(logging.INFO)
    pack(tmp_path / "cold_start_part1.zip", {f"{first}": b"", **below(first, ONE)} if first else ONE)
    pack(tmp_path / "cold_start_part2.zip", {**below(second, TWO), "README.md": b"# Data", ".gitattributes": b"x"})
    assert run(tmp_path).bad == ()
    assert files(tmp_path / "cold_start") == {**ONE, **TWO, "README.md": b"# Data", ".gitattributes": b"x"}
    assert ("so that all go to one place" in caplog.text) == (bool(first) != bool(second))
    for number, top in enumerate((first, second), 1):
        assert (f"cold_start_part{number}.zip: its top folder {top} is left out" in caplog.text) == bool(top)


def test_one_archive_with_files_inside_and_outside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pack(tmp_path / "rl_part1.zip", {"rl/": b"", "rl/vqa/a.png": b"a", "__MACOSX/rl/._a.png": b"", "rl/.DS_Store": b""})
    pack(tmp_path / "rl_part2.zip", {"rl/vqa/b.png": b"b", "vqa/c.png": b"c"})
    assert run(tmp_path).bad == ()
    assert files(tmp_path / "rl") == {"vqa/a.png": b"a", "vqa/b.png": b"b", "vqa/c.png": b"c"}
    assert (
        "rl: files lie in a top folder rl/ in rl_part1.zip, rl_part2.zip, and outside it in rl_part2.zip" in caplog.text
    )


def test_a_place_does_not_depend_on_which_archives_are_there(tmp_path: Path) -> None:
    """The first is removed once it is unpacked, then the second one comes."""
    pack(tmp_path / "rl_part1.zip", {"rl/vqa/a.png": b"a"})
    run(tmp_path)
    (tmp_path / "rl_part1.zip").unlink()
    pack(tmp_path / "rl_part2.zip", {"rl/vqa/b.png": b"b", "maze/c.png": b"c"})
    assert run(tmp_path).bad == ()
    assert files(tmp_path / "rl") == {"vqa/a.png": b"a", "vqa/b.png": b"b", "maze/c.png": b"c"}


def test_two_files_for_one_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    twice = {"rl/a.png": b"a", "a.png": b"a", "README.md": b"of all", "rl/README.md": b"of rl"}
    pack(tmp_path / "rl_part1.zip", twice)
    assert run(tmp_path).bad == ()
    assert files(tmp_path / "rl") == {"a.png": b"a", "README.md": b"of rl"}
    assert "rl_part1.zip: README.md is left out" in caplog.text
    pack(tmp_path / "rl_part1.zip", {**twice, "a.png": b"other"})
    [reason] = run(tmp_path).bad
    assert "rl_part1.zip: member 'a.png' and 'rl/a.png' differ and go to one place" in reason
