"""Jobs without an engine, of seconds each: scores, merged shards, reports, exports, archives, converted benchmarks."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from tests.archives.zips import images, pack
from tests.benchmark_release import releases
from tests.conftest import ROOT, run_tool
from tests.faults.hurting import DISK, SIGNALS, Fault
from tests.faults.job import Items, Job, digest, files_of
from tests.golden import answer, boxes
from vilasr.episode import Episode
from vilasr.messages import Reply
from vilasr.prompts import default_profile
from vilasr.results import ResultsWriter, result_row
from vilasr.selection import Selection, Shard, select
from vilasr.tasks import Example, load_frames, read_examples

ITEMS = 240
SHARDS = 3


def tool(path: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, str(ROOT / path), *words)


def make_results(folder: Path) -> None:
    """Mazes in bench/, episodes that draw and answer in results/maze, and the same in shards for two benchmarks."""
    done = run_tool(
        "tools/make_mazes.py", "--out", folder / "bench", "--split", "test", "--count", ITEMS, "--sizes", "3",
        "--image-size", 84,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "bench/again.json").write_bytes((folder / "bench/maze.json").read_bytes())
    rng = random.Random(0)
    for name in ("maze", "again"):
        path = folder / f"bench/{name}.json"
        items = [item for item in read_examples(path) if isinstance(item, Example)]
        for place, shard in [("results", None), *(("shards", Shard(n, SHARDS)) for n in range(SHARDS))]:
            if place == "results" and name == "again":
                continue
            into = folder / place / name / (shard.folder if shard else "")
            with ResultsWriter(into, {"seed": 0}) as results:
                for item in select(items, Selection(shard=shard), path):
                    assert isinstance(item, Example)
                    results.append(_row(item, path, results.config, rng))


def _row(item: Example, path: Path, config: str, rng: random.Random) -> dict:
    episode = Episode(load_frames(item, default_profile().image, path), default_profile())
    for _ in range(rng.randint(1, 3)):
        corner = rng.randint(2, 30)
        episode.advance(Reply(boxes((1, [corner, corner, corner + 20, corner + 20], f"cell {rng.randint(0, 99)}"))))
    episode.advance(Reply(answer(rng.choice("ABCD"))))
    row = result_row(item, episode.trace(), config, (f"in/bench/{item.image_paths[0]}",))
    return json.loads(json.dumps(row))


def _shards(folder: Path) -> None:
    for name in ("maze", "again"):
        (folder / "out" / name).mkdir()
        for number in range(SHARDS):
            shard = Shard(number, SHARDS).folder
            (folder / "out" / name / shard).symlink_to(folder.resolve() / "in/shards" / name / shard)


def _merged(folder: Path) -> Items:
    return files_of(folder / "out", without=(".lock", ".tmp", "shard-"))


def make_archives(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part in (1, 2, 3):
        pack(folder / f"rl_part{part}.zip", images(700, 8000, f"vqa{part}"))


def _archives(folder: Path) -> None:
    for path in sorted((folder.resolve() / "in").iterdir()):
        (folder / "out" / path.name).symlink_to(path)


def _unpacked(folder: Path) -> Items:
    return files_of(folder / "out", without=(".unzip", ".zip"))


def make_release(folder: Path) -> None:
    releases.mmsi(folder, 60)


def make_nothing(folder: Path) -> None:
    folder.mkdir(parents=True)


def _all(folder: Path) -> Items:
    return files_of(folder / "out", without=(".tmp", ".part", "/.", ".lock"))


def _visible(folder: Path) -> Items:
    return {name: values for name, values in _all(folder).items() if not name.startswith(".")}


def _maze_files(folder: Path) -> Items:
    """Nothing but what a later program reads."""
    return {name: values for name, values in _visible(folder).items() if name.endswith((".json", ".jsonl", ".png"))}


def _reports(folder: Path) -> Items:
    """The report is of bytes; nothing else is there."""
    return {path.name: [digest(path.read_bytes())] for path in (folder / "out").glob("*.html")}


def jobs(made: Path) -> list[Job]:
    """`made` keeps the input, made when it is not there."""
    for name, make in (("results", make_results), ("archives", make_archives), ("mmsi", make_release),
                       ("nothing", make_nothing)):  # fmt: skip
        if not (made / name).exists():
            half = made / f"{name}.half"
            make(half)
            half.rename(made / name)
    both = (*SIGNALS, *DISK)
    bench = ("--benchmark-dir", "in/bench")
    return [
        Job(
            "evaluate",
            made / "results",
            tool("eval/evaluate.py", "--results", "in/results", "--benchmarks", "maze", *bench,
                 "--json", "out/scores.json", "--items", "out/items.jsonl"),
            _visible,
            both,
        ),
        Job(
            "merge_results",
            made / "results",
            tool("tools/merge_results.py", "out", "--benchmarks", "maze", "again", *bench),
            _merged,
            both,
            setup=_shards,
        ),
        Job(
            "view_traces",
            made / "results",
            tool("tools/view_traces.py", "in/results", "-o", "out/report.html"),
            _reports,
            both,
        ),
        Job("unzip", made / "archives", tool("unzip.py", "out"), _unpacked, both, setup=_archives),
        Job(
            "convert_benchmark",
            made / "mmsi",
            tool("tools/convert_benchmark.py", "mmsi", "in", "--out", "out", "--allow-other-counts", "--workers", "2"),
            _visible,
            both,
        ),
        Job(
            "make_mazes",
            made / "nothing",
            tool("tools/make_mazes.py", "--out", "out", "--split", "train", "--count", "60"),
            _maze_files,
            (*SIGNALS, Fault.FULL),
            steady=False,  # its images are believed once a file of questions names them
            again=("--overwrite",),
        ),
    ]  # fmt: skip
