"""Results of the published project: its own rule beside ours, matched to the benchmark's items by wording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import run_tool
from tests.golden import answer
from vilasr.scoring import find_benchmark
from vilasr.scoring.reading import PUBLISHED, read_all
from vilasr.scoring.summary import summarise
from vilasr.tasks import read_examples

# (task, what was said, truth, score by the published rule, official, corrected)
SAID = [
    ("object_rel_direction_easy", "B", "B", 1, 1, 1),
    ("object_rel_direction_easy", "(B)", "B", 0, 0, 1),
    ("object_rel_direction_easy", "Because", "B", 1, 0, 0),
    ("object_rel_direction_hard", "A", "B", 0, 0, 0),
    ("route_planning", "table", "B", 0, 0, 1),
    ("room_size_estimation", "14", "10", 0.2, 0.3, 0.3),  # float32 at the limit
    ("room_size_estimation", "9.8 square metres", "10", 0, 1, 1),
]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A benchmark file without ids, and results of all its items, the last one first."""
    items = [
        {
            "question": f"Question {number}?",
            "options": ["A. chair", "B. table"] if truth == "B" else [],
            "answer": truth,
            "image_path": ["a.png"],
            "problem_type": "multiple choice" if truth == "B" else "regression",
            "original_question_type": task,
        }
        for number, (task, _, truth, *_) in enumerate(SAID)
    ]
    (tmp_path / "vsi_bench.json").write_text(json.dumps(items))
    lines = []
    for item, (_, said, *_) in reversed(list(zip(items, SAID, strict=True))):
        reply = answer(said)
        turns = [
            {"role": "system", "content": "Look."},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": item["question"]}]},
            {"role": "assistant", "content": reply},
        ]
        lines.append(json.dumps({**item, "conversations": turns, "model_output": reply, "model_id": "m"}) + "\n")
    (tmp_path / "results" / "vsi_bench").mkdir(parents=True)
    (tmp_path / "results" / "vsi_bench" / "results.jsonl").write_text("".join(lines))
    return tmp_path


def expected(folder: Path) -> list[tuple[str, str]]:
    return [(item.id, item.digest()) for item in read_examples(folder / "vsi_bench.json")]


def test_three_rules_item_by_item(folder):
    keys = expected(folder)
    read = read_all(folder / "results" / "vsi_bench", "vsi_bench", keys)
    summary, scored = summarise(read, find_benchmark("vsi_bench"), keys)
    assert not summary.problems.any(unparsed_allowed=2)
    got = {one.item[0]: one.scores for one in scored}
    for (item_id, _), (_, said, _, published, official, corrected) in zip(keys, SAID, strict=True):
        assert got[item_id] == {
            "corrected": pytest.approx(corrected),
            "official": pytest.approx(official),
            PUBLISHED: pytest.approx(published),
        }, said
    means = {rule: {g.name: g.mean for g in groups} for rule, groups in summary.scores.items()}
    assert means[PUBLISHED]["object_rel_direction"] == pytest.approx(2 / 4), "pooled"
    assert means["official"]["object_rel_direction"] == pytest.approx((1 / 3 + 0) / 2), "mean of levels"
    assert means[PUBLISHED]["overall"] == pytest.approx((2 / 4 + 0 + 0.1) / 3)


def test_the_items_that_change_are_listed(folder):
    arguments = ("--results", folder / "results", "--benchmarks", "vsi_bench", "--benchmark-dir", folder)
    done = run_tool("eval/evaluate.py", *arguments, "--max-unparsed", "0.5")
    assert done.returncode == 0, done.stderr
    assert "published -> corrected: 5 items change, 4 up, 1 down" in done.stdout
    assert "published -> official: 3 items change, 2 up, 1 down" in done.stdout
    assert "vsi_bench-000002 (object_rel_direction_easy): 1.00 -> 0.00, 'Because' for 'B'" in done.stdout


def test_shards_of_the_published_project(folder):
    whole = folder / "results" / "vsi_bench" / "results.jsonl"
    lines = whole.read_text().splitlines(keepends=True)
    whole.unlink()
    for index, part in enumerate((lines[:3], lines[3:])):
        shard = whole.parent / f"{index}_2"
        shard.mkdir()
        (shard / "results.jsonl").write_text("".join(part))
    keys = expected(folder)
    read = read_all(whole.parent, "vsi_bench", keys)
    assert sorted((r.id, r.digest) for r in read.results) == keys
    (whole.parent / "1_2" / "results.jsonl").unlink()
    done = run_tool("eval/evaluate.py", "--results", folder / "results", "--benchmarks", "vsi_bench")
    assert done.returncode == 2
    assert "1 of 2 shards are missing" in done.stderr


def test_an_answer_that_stops_the_published_scorer(folder, caplog):
    path = folder / "results" / "vsi_bench" / "results.jsonl"
    row = json.loads(path.read_text().splitlines()[-1])
    row["model_output"] = "<answer></answer>"
    row["conversations"][-1]["content"] = row["model_output"]
    path.write_text(json.dumps(row) + "\n")
    summary, [scored] = summarise(read_all(path.parent, "vsi_bench"), find_benchmark("vsi_bench"))
    assert scored.scores[PUBLISHED] == 0.0
    assert "the published scorer stops here (IndexError" in caplog.text
    assert summary.items == 1
