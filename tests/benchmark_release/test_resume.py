"""Runs that are killed, stopped, repeated or in each other's way end the same."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path

import pytest

from tests.benchmark_release import releases
from tests.benchmark_release.jobs import examples, job, tree
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
    for overwrite, said in (
        (False, rf"holds mine\.txt and no {STATE_NAME}, so what made it cannot be told"),
        (True, r"mine\.txt: was not made by this tool and is not removed"),
    ):
        with pytest.raises(DataError, match=said):
            convert(job("mmsi", source, tmp_path / "b", overwrite=overwrite))
    assert own.read_text() == "mine"


@pytest.mark.parametrize("stranger", ["mine.txt", "784-7056/000/mine.txt", "784-7056/000/000000/notes/00.png", "mine"])
def test_overwriting_removes_no_file_of_others(stranger, built, tmp_path):
    source, _ = built["mmsi"]
    done = convert(job("mmsi", source, tmp_path))
    own = tmp_path / "images/mmsi_bench" / stranger
    if stranger == "mine":
        (tmp_path / "elsewhere").mkdir()
        own.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    else:
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(DataError, match=f"{own}: was not made by this tool and is not removed"):
        convert(job("mmsi", source, tmp_path, rule=SizeRule(max_pixels=56 * 56), overwrite=True))
    assert tree(tmp_path) == before
    own.unlink()
    convert(job("mmsi", source, tmp_path, rule=SizeRule(max_pixels=56 * 56), overwrite=True))
    assert done.file.is_file()


def test_half_written_folders_are_ours(built, tmp_path):
    """What a killed run leaves is removed with the rest."""
    source, _ = built["vsi"]
    convert(job("vsi", source, tmp_path))
    half = next(tmp_path.rglob("00.png")).parent
    half.rename(half.with_name(f".{half.name}.part"))
    convert(job("vsi", source, tmp_path, frames=3, overwrite=True))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("lost", ["images", "state", "all but images"])
def test_what_was_lost_is_told_and_made_again(lost, built, tmp_path):
    source, _ = built["mmsi"]
    convert(job("mmsi", source, tmp_path))
    before, images = tree(tmp_path), tmp_path / "images/mmsi_bench"
    if lost == "images":
        shutil.rmtree(images)
        said = f"{images}: the images of {tmp_path}/mmsi_bench.json are gone; .*--overwrite"
    elif lost == "all but images":  # as a run leaves it that is killed while it replaces what lost its state
        (images / STATE_NAME).unlink()
        (tmp_path / "mmsi_bench.json").unlink()
        said = f"{images}: holds 784-7056 and no {STATE_NAME}, .*--overwrite"
    else:
        (images / STATE_NAME).unlink()
        said = f"{STATE_NAME}: is gone, so the settings of {tmp_path}/mmsi_bench.json cannot be told; .*--overwrite"
    with pytest.raises(DataError, match=said):
        convert(job("mmsi", source, tmp_path))
    convert(job("mmsi", source, tmp_path, overwrite=True))
    assert tree(tmp_path) == before


def test_images_of_another_size_are_other_items(built, tmp_path):
    """Or results with the one would go on with the other."""
    changes: dict[str, list[dict]] = {
        "vsi": [{}, {"frames": 3}, {"rule": SizeRule(max_pixels=56 * 56)}],
        "mmsi": [{}, {"rule": SizeRule(max_pixels=56 * 56)}, {"rule": SizeRule(min_pixels=56 * 56)}],
    }
    for name, kinds in changes.items():
        digests = []
        for number, change in enumerate(kinds):
            done = convert(job(name, built[name][0], tmp_path / f"{name}{number}", **change))
            found = examples(done, name)
            digests += [item.digest() for item in found]
            if change.get("frames") == 3:
                assert found[0].image_paths[0].startswith("images/vsi_bench/3x784-7056/")
        assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("stop", [False, True])
def test_a_replaced_video_is_read_again(zipped, stop, tmp_path):
    source = tmp_path / "in"
    releases.vsi(source, zipped=zipped)
    changed = job("vsi", source, tmp_path / "out", frames=5)
    done = convert(changed)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    releases.mp4(tmp_path / "new.mp4", 30, draw=lambda number: releases.frame(255 - number, 96, 64))
    if zipped:
        with zipfile.ZipFile(source / "scannet.zip", "w") as archive:
            archive.write(tmp_path / "new.mp4", "scannet/scene0011_00.mp4")
    else:
        os.replace(tmp_path / "new.mp4", source / "scannet/scene0011_00.mp4")
    if stop:  # before the new video is noted
        assert run_until(changed, 6)
        assert not done.file.exists()
    again = convert(changed)
    assert (again.pieces, again.reused) == (3, 2)
    convert(job("vsi", source, tmp_path / "whole", frames=5))
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    for path, time in before.items():
        assert (path.stat().st_mtime_ns == time) == ("scene0011_00" not in path.parts), path
    assert convert(changed).reused == 3


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
