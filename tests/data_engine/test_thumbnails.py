"""The cache of thumbnails: used by all runs, never believed where it is old, damaged or another's."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.bench_leaks import scene
from tests.conftest import ROOT
from vilasr.data_engine import thumbnails
from vilasr.data_engine.benchmarks import read_benchmarks
from vilasr.data_engine.image_hash import thumbnail
from vilasr.data_engine.leaks import Index, Match, leak
from vilasr.data_engine.thumbnails import Thumbnails
from vilasr.tasks import Example, QuestionType

PICTURES = 7


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """One question of three pictures, one of four; and a copy of the first picture, for training."""
    folder = tmp_path / "benchmark"
    folder.mkdir()
    for number in range(PICTURES):
        scene(number, 80, 60).save(folder / f"s{number}.png")
    for name, numbers in (("rooms", range(3)), ("videos", range(3, PICTURES))):
        row = {"id": name, "question": "How many?", "answer": "3", "problem_type": "regression"}
        row["image_path"] = [f"s{number}.png" for number in numbers]
        (folder / f"{name}.json").write_text(json.dumps([row]))
    scene(0, 80, 60).save(tmp_path / "copy.png")
    return folder


def found_in(benchmark: Path, index: Index) -> Match | None:
    one = Example("t", "Where?", (), "1", ("copy.png",), QuestionType.REGRESSION, source="vqa")
    found = leak(one, benchmark.parent / "rl.jsonl", None, index)
    return None if found is None else found.match


def known(cache: Path) -> dict[str, tuple[int, int, bytes]]:
    read = Thumbnails([cache])._known
    return {name: (one.size, one.modified, one.pixels) for name, one in read.items()}


def test_it_is_used_and_noticed_to_be_old(benchmark):
    cache = benchmark.parent / "new" / "cache.npz"
    first = read_benchmarks(benchmark, caches=[cache])
    assert first.decoded == PICTURES
    again = read_benchmarks(benchmark, caches=[cache])
    assert again.decoded == 0
    assert list(again.items) == list(first.items)
    assert found_in(benchmark, again) == found_in(benchmark, first) == Match.PICTURE
    before = os.stat(benchmark / "s0.png")
    scene(52, 40, 30).save(benchmark / "s0.png")  # smooth and small
    with (benchmark / "s0.png").open("ab") as file:  # to the same size, which only the time tells apart
        file.write(bytes(before.st_size - file.tell()))
    os.utime(benchmark / "s0.png", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    changed = read_benchmarks(benchmark, caches=[cache])
    assert changed.decoded == 1
    assert found_in(benchmark, changed) is None
    assert read_benchmarks(benchmark, caches=[cache]).decoded == 0, "the new one is kept"
    assert {path.name for path in cache.parent.iterdir()} == {"cache.npz", "cache.npz.lock"}


def test_files_stand_by_their_path_in_the_folder(benchmark, tmp_path):
    """Another machine may have the folder elsewhere; a name that leads to another file is none."""
    cache = benchmark / "cache.npz"
    read_benchmarks(benchmark, caches=[cache])
    assert set(known(cache)) == {f"s{number}.png" for number in range(PICTURES)}
    moved = benchmark.rename(tmp_path / "moved")
    index = read_benchmarks(moved, caches=[moved / "cache.npz"])
    assert index.decoded == 0
    assert found_in(moved, index) is Match.PICTURE
    other = tmp_path / "other"  # files of the same names, made anew
    shutil.copytree(moved, other, copy_function=shutil.copyfile)
    assert read_benchmarks(other, caches=[other / "cache.npz"]).decoded == PICTURES


def test_training_pictures_have_their_own(benchmark, tmp_path):
    cache, own = benchmark / "cache.npz", tmp_path / "own.npz"
    index = read_benchmarks(benchmark, caches=[cache], training_cache=own)
    found_in(benchmark, index)
    index.thumbnails.save()
    assert list(known(own)) == [os.path.realpath(tmp_path / "copy.png")]
    assert len(known(cache)) == PICTURES
    again = read_benchmarks(benchmark, caches=[cache], training_cache=own)
    assert found_in(benchmark, again) is Match.PICTURE
    assert not again.thumbnails.made


@pytest.mark.parametrize("damage", ["half", "text", "empty", "flipped", "npz", "array", "pickle", "version", "kind"])
def test_a_damaged_or_foreign_one_is_made_anew(benchmark, damage, caplog, tmp_path, monkeypatch):
    cache = tmp_path / "cache.npz"
    read_benchmarks(benchmark, caches=[cache])
    good = cache.read_bytes()
    with np.load(cache) as file:
        content = dict(file)
    middle = good.index(b"pixels.npy") + 400
    flipped = good[:middle] + bytes([good[middle] ^ 255]) + good[middle + 1 :]
    if damage in ("half", "text", "empty", "flipped"):
        cache.write_bytes({"half": good[: len(good) // 2], "text": b"hello", "empty": b"", "flipped": flipped}[damage])
    elif damage == "pickle":
        cache.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    else:
        other = {
            "npz": {"format": np.int64(2), "paths": np.zeros(3, np.uint8)},
            "array": {},
            "version": content | {"format": np.int64(1)},
            "kind": content | {"stamps": content["stamps"].astype(float)},
        }[damage]
        with cache.open("wb") as file:
            np.savez(file, **other) if other else np.save(file, np.zeros(3))
    index = read_benchmarks(benchmark, caches=[cache])
    assert caplog.text.count("cache.npz: damaged, or no file of thumbnails") == 1
    assert index.decoded == PICTURES
    assert len(known(cache)) == PICTURES
    assert not (tmp_path / "exploded").exists()


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_any_damaged_byte_is_noticed_or_harmless(benchmark, tmp_path):
    cache, rng = tmp_path / "cache.npz", Random(0)
    read_benchmarks(benchmark, names=["rooms"], caches=[cache])
    good, whole = cache.read_bytes(), known(cache)
    pixels = good.index(b"pixels.npy") + 200
    places = [n for n in range(len(good)) if not pixels < n < pixels + 4000]  # the rest is as the others
    for _ in range(400):
        place = rng.choice(places)
        cache.write_bytes(good[:place] + bytes([rng.randrange(256)]) + good[place + 1 :])
        assert known(cache) in ({}, whole)


@pytest.mark.parametrize("way", ["no folder", "a folder"])
def test_where_it_cannot_be_written_it_is_kept_elsewhere_and_told_once(benchmark, tmp_path, way, caplog):
    refused, elsewhere = benchmark / "s0.png" / "cache.npz", tmp_path / "out" / "cache.npz"
    if way == "a folder":
        refused = benchmark / "cache.npz"
        refused.mkdir()
    index = read_benchmarks(benchmark, caches=[refused, elsewhere])
    assert index.decoded == PICTURES
    assert found_in(benchmark, index) is Match.PICTURE
    assert caplog.text.count("thumbnails cannot be kept there") == 1
    assert f"they are kept in {elsewhere}" in caplog.text
    assert read_benchmarks(benchmark, caches=[refused, elsewhere]).decoded == 0
    assert set(known(elsewhere)) == {f"s{number}.png" for number in range(PICTURES)}


def test_without_any_place_it_only_costs_time(benchmark, caplog):
    for _ in range(2):
        assert read_benchmarks(benchmark, caches=[benchmark / "s0.png" / "cache.npz"]).decoded == PICTURES
    assert caplog.text.count("the pictures are read again by each run") == 2, "once a run"


def test_a_full_one_in_a_folder_that_is_read_only_is_used_without_a_word(benchmark, tmp_path, caplog, monkeypatch):
    cache, elsewhere = benchmark / "cache.npz", tmp_path / "out" / "cache.npz"
    read_benchmarks(benchmark, caches=[cache])

    def refuse(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(thumbnails, "_write", refuse)
    assert read_benchmarks(benchmark, caches=[cache, elsewhere]).decoded == 0
    assert not caplog.records


def test_nobody_loses_what_another_wrote(benchmark, tmp_path):
    """Two that read the cache before either wrote it."""
    cache = tmp_path / "cache.npz"
    one, other = (Thumbnails([cache], benchmark) for _ in range(2))
    one.of([benchmark / "s0.png"])
    other.of([benchmark / "s1.png"])
    one.save()
    other.save()
    assert set(known(cache)) == {"s0.png", "s1.png"}
    with one.filling():
        one.of([benchmark / "s0.png", benchmark / "s1.png"])
    assert one.made == {os.path.realpath(benchmark / "s0.png")}, "what the other wrote is known"


def test_several_processes_at_once_read_each_picture_once(benchmark, tmp_path):
    code = (
        "import sys; from pathlib import Path; from vilasr.data_engine.benchmarks import read_benchmarks\n"
        "print(read_benchmarks(Path(sys.argv[1]), caches=[Path(sys.argv[2])]).decoded)"
    )
    cache = tmp_path / "cache.npz"
    command = [sys.executable, "-c", code, str(benchmark), str(cache)]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    decoded = [int(process.communicate(timeout=120)[0]) for process in started]
    assert sorted(decoded) == [0, 0, 0, PICTURES]
    assert len(known(cache)) == PICTURES


def test_writers_without_locks_do_no_harm(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(Thumbnails, "_lock", lambda self, stack: None)
    cache = tmp_path / "cache.npz"
    one, other = (Thumbnails([cache], benchmark) for _ in range(2))
    with one.filling(), other.filling():  # as on a file system that has none
        for number, each in enumerate((one, other)):
            each.of([benchmark / f"s{number}.png"])
        one.save()
        other.save()
    assert set(known(cache)) == {"s1.png"}, "whole, if only the last one's"
    assert read_benchmarks(benchmark, caches=[cache]).decoded == PICTURES - 1


def test_the_thumbnails_are_those_of_the_pictures(benchmark, tmp_path):
    cache = tmp_path / "cache.npz"
    paths = sorted(benchmark.glob("*.png"))
    for decoded in (PICTURES, 0):
        each = Thumbnails([cache], benchmark)
        found = each.of(paths)
        assert len(each.made) == decoded
        each.save()
        for number, path in enumerate(paths):
            assert np.array_equal(found[path], thumbnail(scene(number, 80, 60)))


def test_a_bar_counts_the_pictures_of_each_benchmark(benchmark, tmp_path):
    told: list[list] = []

    def bar(title: str, total: int):
        told.append([title, total, 0])

        def step() -> None:
            told[-1][2] += 1

        return step

    (benchmark / "s5.png").unlink()  # told elsewhere
    (benchmark / "s6.png").write_bytes(b"no picture")
    for _ in range(2):
        read_benchmarks(benchmark, caches=[tmp_path / "cache.npz"], bar=bar)
    assert told == 2 * [["pictures of rooms", 3, 3], ["pictures of videos", 3, 3]]
