"""Runs that are killed, stopped, repeated or in each other's way end the same."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.benchmark_release import releases
from tests.benchmark_release.jobs import job, tree
from vilasr.benchmark_release import RELEASES, Job, convert
from vilasr.benchmark_release.rows import Row
from vilasr.benchmark_release.spar import TASKS
from vilasr.benchmark_release.state import STATE_NAME
from vilasr.images import SizeRule
from vilasr.tasks import DataError

convert_module = importlib.import_module("vilasr.benchmark_release.convert")  # the package has a function of that name


def run_until(job: Job, limit: int) -> bool:
    """Runs the job in a process of its own that is killed at its file operation number `limit`; whether it was."""
    child = os.fork()
    if child == 0:
        done = 0

        def watch(event: str, arguments: tuple) -> None:
            nonlocal done
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if writes and Path(arguments[0]).name in (job.file.name, STATE_NAME):
                os._exit(3)
            if writes or event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"):
                done += 1
                if done == limit:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            convert(job)
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "a file is written under its own name"
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("name", ["vsi", "mmsi"])
def test_killed_anywhere(name, built, tmp_path):
    """Killed once and finished, for places all over the run; and killed again and again, a little further each time."""
    source, _ = built[name]
    file = f"{RELEASES[name].name}.json"
    convert(job(name, source, tmp_path / "whole"))
    whole = tree(tmp_path / "whole")
    limit, again = 1, tmp_path / "again"
    while run_until(job(name, source, once := tmp_path / f"once {limit}"), limit):
        assert not (once / file).exists(), "named only when complete"
        left = tree(once)
        assert all(left[path] == whole[path] for path in left if not any(p.startswith(".") for p in Path(path).parts))
        convert(job(name, source, once))
        assert tree(once) == whole, limit
        run_until(job(name, source, again), limit)
        limit += 1 + limit // 3
    assert limit > 30
    convert(job(name, source, again))
    assert tree(again) == whole


def test_killed_while_it_replaces_another_conversion(built, tmp_path):
    """Whatever is left of the old images is never taken for a whole folder."""
    source, _ = built["vsi"]
    old, new = (job("vsi", source, tmp_path / "out", frames=frames, overwrite=True) for frames in (8, 3))
    convert(job("vsi", source, tmp_path / "whole", frames=3))
    convert(job("vsi", source, tmp_path / "old", frames=8))
    limit = 1
    while True:
        convert(old)
        assert tree(tmp_path / "out") == tree(tmp_path / "old"), limit
        if not run_until(new, limit):
            break
        if new.file.exists():
            named = [path for record in json.loads(new.file.read_text()) for path in record["image_path"]]
            assert all((new.out / path).is_file() for path in named), "no file names images that are gone"
        if limit % 2:
            convert(new)
            assert tree(tmp_path / "out") == tree(tmp_path / "whole"), limit
        limit += 1 + limit // 4
    assert limit > 20


@pytest.mark.parametrize("workers", [1, 3])
def test_few_rows_are_read_ahead(workers, built, tmp_path, monkeypatch):
    """So that memory does not grow with the release."""
    source, _ = built["spar"]
    true, read, ahead = convert_module.embedded, 0, []

    def counted(row: Row, field: str) -> tuple[bytes, ...]:
        nonlocal read
        read += 1
        return true(row, field)

    monkeypatch.setattr(convert_module, "embedded", counted)
    convert(job("spar", source, tmp_path, workers=workers), lambda done, total: ahead.append(read - done))
    assert read == len(ahead) == 20
    assert max(ahead) == 2 * workers


def test_a_second_run_reuses_all_and_changes_nothing(built, tmp_path):
    source, _ = built["spar"]
    first = convert(job("spar", source, tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert (first.reused, first.pieces) == (0, 20)
    told = []
    again = convert(job("spar", source, tmp_path), lambda done, total: told.append((done, total)))
    assert again.reused == 20
    assert told == [(done, 20) for done in range(1, 21)]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == before


def test_more_than_a_hundred_images(tmp_path):
    (row,) = releases.spar_rows(["obj_spatial_relation_oo"])
    row["image"] = [row["image"][0]] * 99 + releases.spar_rows(TASKS[:8], seed=1)[7]["image"]
    releases.spar(tmp_path / "in", rows=[row])
    first = convert(job("spar", tmp_path / "in", tmp_path))
    before = first.file.read_bytes()
    assert first.images > 100
    assert convert(job("spar", tmp_path / "in", tmp_path)).reused == 1
    assert first.file.read_bytes() == before


def test_a_full_disk(built, tmp_path, monkeypatch):
    source, _ = built["mmsi"]
    convert(job("mmsi", source, tmp_path / "whole"))
    written = 0

    def write(path: Path, data: bytes) -> int:
        nonlocal written
        written += 1
        if written > 9:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        with path.open("wb") as file:
            return file.write(data)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", write)
        with pytest.raises(OSError, match="No space left"):
            convert(job("mmsi", source, tmp_path / "out", workers=1))
    assert convert(job("mmsi", source, tmp_path / "out")).reused == 4
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["empty", "cut", "gone", "more", "other"])
def test_a_folder_that_is_not_whole_is_made_again(damage, built, tmp_path):
    source, _ = built["mmsi"]
    convert(job("mmsi", source, tmp_path))
    before = tree(tmp_path)
    image = next(tmp_path.rglob("01.png"))
    if damage == "empty":
        image.write_bytes(b"")
    elif damage == "cut":
        image.write_bytes(image.read_bytes()[:-20])
    elif damage == "gone":
        image.unlink()
    elif damage == "more":
        (image.parent / "02.png").write_bytes(image.read_bytes())
    else:
        image.write_bytes(b"\xff\xd8" + image.read_bytes()[2:])
    assert tree(tmp_path) != before
    assert convert(job("mmsi", source, tmp_path)).reused == 10
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rule": SizeRule(max_pixels=56 * 56)}, "image"),
        ({"frames": 32}, "frames"),
    ],
)
def test_other_settings_are_not_mixed(change, named, built, tmp_path):
    source, _ = built["vsi"]
    convert(job("vsi", source, tmp_path / "out"))
    before = tree(tmp_path / "out")
    with pytest.raises(DataError, match=rf"other settings \(changed: {named}\)"):
        convert(job("vsi", source, tmp_path / "out", **change))
    assert tree(tmp_path / "out") == before
    convert(job("vsi", source, tmp_path / "out", overwrite=True, **change))
    convert(job("vsi", source, tmp_path / "new", **change))
    assert tree(tmp_path / "out") == tree(tmp_path / "new")


def test_what_others_made_is_not_touched(built, tmp_path):
    source, _ = built["mmsi"]
    published = tmp_path / "mmsi_bench.json"
    published.write_text('[{"question": "q", "image_path": ["a.png"]}]')
    with pytest.raises(DataError, match="was not made by this tool"):
        convert(job("mmsi", source, tmp_path, overwrite=True))
    assert published.read_text().startswith('[{"question"')
    assert list(tmp_path.iterdir()) == [published]
    own = tmp_path / "b/images/mmsi_bench/mine.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    with pytest.raises(DataError, match="files that this tool did not make"):
        convert(job("mmsi", source, tmp_path / "b", overwrite=True))
    assert own.read_text() == "mine"


def test_two_runs_at_once(built, tmp_path):
    source, _ = built["mmsi"]

    def second(done: int, total: int) -> None:
        with pytest.raises(DataError, match="another run is writing it"):
            convert(job("mmsi", source, tmp_path))

    assert convert(job("mmsi", source, tmp_path), second).items == 11


def test_a_damaged_state_is_another_conversion(built, tmp_path):
    source, _ = built["mmsi"]
    done = convert(job("mmsi", source, tmp_path))
    state = done.file.parent / "images/mmsi_bench" / STATE_NAME
    assert json.loads(state.read_text())["tables"] == [
        ["MMSI_Bench.parquet", (source / "MMSI_Bench.parquet").stat().st_size]
    ]
    state.write_text("{")
    with pytest.raises(DataError, match="other settings"):
        convert(job("mmsi", source, tmp_path))
    assert convert(job("mmsi", source, tmp_path, overwrite=True)).reused == 0
