"""Merging shards: complete and in order, or an error that says which shard to run again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_tool
from tests.golden import answer, golden_traces
from vilasr.episode import Episode
from vilasr.messages import Reply
from vilasr.prompts import default_profile
from vilasr.results import ResultsWriter, read_lines, result_row
from vilasr.selection import Selection, Shard, select
from vilasr.shards import merge_shards
from vilasr.tasks import DataError

ITEMS = [golden.example for golden in golden_traces()]
EXPECTED = [(item.id, item.digest()) for item in ITEMS]


def row(item, config: str, sample: int = 0) -> dict:
    episode = Episode(item, default_profile())
    episode.advance(Reply(answer()))
    return result_row(item, episode.trace(), config, sample=sample)


def run(folder: Path, count: int, samples: int = 1, config: dict | None = None, leave_out: str = "") -> Path:
    """The results of every shard, last item first."""
    for index in range(count):
        shard = Shard(index, count)
        with ResultsWriter(folder / shard.folder, config or {"seed": 0}) as results:
            for item in reversed(select(ITEMS, Selection(shard=shard), folder)):
                for sample in range(samples):
                    if item.id != leave_out:
                        results.append(row(item, results.config, sample))
    return folder


def keys(path: Path) -> list[tuple[str, int]]:
    return [(line["id"], line["sample"]) for _, line in read_lines(path)]


@pytest.mark.parametrize(("count", "samples"), [(1, 1), (3, 1), (4, 3)])
def test_every_episode_once_and_in_order(tmp_path, count, samples):
    merged = merge_shards(run(tmp_path, count, samples), EXPECTED)
    assert keys(merged.path) == [(item.id, sample) for item in ITEMS for sample in range(samples)]
    assert (merged.rows, merged.shards, merged.missing) == (len(ITEMS) * samples, count, 0)
    with ResultsWriter(tmp_path, {"seed": 0}) as results:
        assert len(results.done) == merged.rows, "a plain run of the same settings goes on from it"


def test_what_is_missing_is_named_with_its_shard(tmp_path):
    run(tmp_path, 3, leave_out=ITEMS[4].id)
    with pytest.raises(DataError, match=rf"1 episodes are missing, the first of item '{ITEMS[4].id}'; run shards 1/3"):
        merge_shards(tmp_path, EXPECTED)
    assert not (tmp_path / "results.jsonl").exists()
    assert merge_shards(tmp_path, EXPECTED, allow_missing=True).missing == 1


def test_a_shard_without_results_or_of_another_number(tmp_path):
    with pytest.raises(DataError, match="has no shards"):
        merge_shards(tmp_path, EXPECTED)
    run(tmp_path, 3)
    (tmp_path / "shard-1-of-3" / "results.jsonl").unlink()
    with pytest.raises(DataError, match=r"shards 1/3 have no results; run infer\.sh --shard 1/3"):
        merge_shards(tmp_path, EXPECTED)
    run(tmp_path, 2)
    with pytest.raises(DataError, match=r"shards of different numbers \(\[2, 3\]\)"):
        merge_shards(tmp_path, EXPECTED)


def test_shards_that_do_not_belong_together(tmp_path):
    run(tmp_path, 2)
    other = tmp_path / "shard-1-of-2" / "results.jsonl"
    first = (tmp_path / "shard-0-of-2" / "results.jsonl").read_bytes().splitlines(keepends=True)
    original = other.read_bytes()
    for content, message in (
        (original.replace(json.loads(original.splitlines()[0])["config"].encode(), b"other"), "different settings"),
        (original + first[0], "is in .*shard-0-of-2"),
        (original[:-20], "line 10 is damaged .*half-written; run that shard again"),
        (original + b"[1]\n", "line 11 is damaged"),
        (original.replace(b'"id": "', b'"id": "un'), "are of items that the benchmark lacks"),
    ):
        other.write_bytes(content)
        with pytest.raises(DataError, match=message):
            merge_shards(tmp_path, EXPECTED)
    assert not (tmp_path / "results.jsonl").exists()


def test_a_shard_that_is_being_written(tmp_path):
    run(tmp_path, 2)
    with ResultsWriter(tmp_path / "shard-0-of-2", {"seed": 0}), pytest.raises(DataError, match="still being written"):
        merge_shards(tmp_path, EXPECTED)


def test_nothing_is_overwritten_unasked(tmp_path):
    target = merge_shards(run(tmp_path, 2), EXPECTED).path
    lines = target.read_bytes().splitlines(keepends=True)
    for other in (lines[:-1], [*lines, lines[0]], [*lines[:-1], lines[-1].replace(b"}", b" }", 1)], []):
        target.write_bytes(b"".join(other))
        with pytest.raises(DataError, match="already there, with other rows than the shards; --overwrite"):
            merge_shards(tmp_path, EXPECTED)
        assert target.read_bytes() == b"".join(other)
    assert merge_shards(tmp_path, EXPECTED, overwrite=True).rows == len(ITEMS)


def test_a_merge_that_was_killed_goes_on(tmp_path, monkeypatch):
    """Before each of its renames. What has its results has its settings; a benchmark that is done does not stop the
    same command, and is not written again."""
    rename, whole = os.replace, merge_shards(run(tmp_path / "whole", 2), EXPECTED).path
    for left in range(2):
        folder = run(tmp_path / f"{left}", 2)
        calls = iter(range(left))

        def killed(source, target, calls=calls):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            rename(source, target)

        monkeypatch.setattr("vilasr.shards.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            merge_shards(folder, EXPECTED)
        monkeypatch.setattr("vilasr.shards.os.replace", rename)
        assert not (folder / "results.jsonl").exists()
        for _ in range(2):
            merged = merge_shards(folder, EXPECTED)
        assert merged.rows == len(ITEMS)
        for name in ("results.jsonl", "run.json"):
            assert (folder / name).read_bytes() == (whole.parent / name).read_bytes()
    before = whole.stat().st_mtime_ns
    merge_shards(whole.parent, EXPECTED)
    assert whole.stat().st_mtime_ns == before


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    """In a process that may not write files beyond 4 KB."""
    folder = run(tmp_path, 2)
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.test_shards import EXPECTED, merge_shards\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "merge_shards(Path(sys.argv[1]), EXPECTED)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, text=True, capture_output=True)
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["run.json", "shard-0-of-2", "shard-1-of-2"]


def test_the_program(tmp_path):
    records = [
        {
            "id": item.id,
            "question": item.question,
            "options": list(item.options),
            "answer": item.answer,
            "image_path": list(item.image_paths),
            "problem_type": item.question_type,
            "original_question_type": item.task,
        }
        for item in ITEMS
    ]
    (tmp_path / "maze.json").write_text(json.dumps(records))
    run(tmp_path / "results" / "maze", 2)
    arguments = ("tools/merge_results.py", tmp_path / "results", "--benchmarks", "maze", "--benchmark-dir", tmp_path)
    done = run_tool(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"{len(ITEMS)} rows of 2 shards, 0 missing" in done.stderr
    assert run_tool(*arguments).returncode == 0, "the same rows"
    with (tmp_path / "results/maze/results.jsonl").open("a") as file:
        file.write("{}\n")
    again = run_tool(*arguments)
    assert again.returncode == 2
    assert "already there" in again.stderr
