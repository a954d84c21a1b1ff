"""`eval/infer.py` with a real server: selections, samples, shards, controls, presets, one's own picture, cost."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import run_tool
from tests.engines.conftest import Served

pytestmark = pytest.mark.engine

WARM = ("--temperature", "0.8", "--turn-tokens", "24")


@pytest.fixture
def infer(served: Served, mazes: Path, tmp_path: Path):
    def run(*arguments: object, benchmarks: str | None = "maze") -> subprocess.CompletedProcess[str]:
        server = ("--base-url", served.url, "--profile", served.checkpoint / "vilasr_profile.yaml")
        data = ("--benchmark-dir", mazes / "test", "--benchmarks", benchmarks) if benchmarks else ()
        return run_tool("eval/infer.py", *server, *data, "--output", tmp_path / "out", *arguments)

    return run


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def episodes(found: list[dict]) -> dict[tuple[str, int], list[str]]:
    """What was said, by item and sample; an episode that stands twice is an error."""
    assert not [key for key, n in Counter((row["id"], row["sample"]) for row in found).items() if n > 1]
    return {(row["id"], row["sample"]): [step["text"] for step in row["steps"]] for row in found}


def test_shards_of_samples_merge_to_the_whole_run(infer, mazes, tmp_path):
    arguments = (*WARM, "--samples", 2, "--limit", 7)
    whole = infer(*arguments)
    assert whole.returncode == 0, whole.stderr
    assert "7 items x 2, 0 already done, 14 to run" in whole.stderr
    expected = episodes(rows(tmp_path / "out" / "maze"))
    assert len(expected) == 14
    assert len({tuple(texts) for texts in expected.values()}) > 7, "samples have seeds of their own"
    for index in (1, 0):
        assert infer(*arguments, "--shard", f"{index}/2", "--output", tmp_path / "shards").returncode == 0
    merge = ("tools/merge_results.py", tmp_path / "shards", "--benchmarks", "maze", "--benchmark-dir", mazes / "test")
    assert "episodes are missing" in run_tool(*merge).stderr, "the file has 40 items"
    done = run_tool(*merge, "--limit", 7)
    assert done.returncode == 0, done.stderr
    merged = rows(tmp_path / "shards" / "maze")
    assert [(row["id"], row["sample"]) for row in merged] == sorted(expected)
    assert {row["config"] for row in merged} == {row["config"] for row in rows(tmp_path / "out" / "maze")}
    same = sum(episodes(merged)[key] == texts for key, texts in expected.items())
    assert same >= 10, "the same seeds; a few may fall to another batch's rounding"
    more = infer(*WARM, "--samples", 3, "--limit", 7)
    assert "14 already done, 7 to run" in more.stderr
    scored = run_tool(
        "eval/evaluate.py", "--results", tmp_path / "out", "--limit", 7, "--benchmark-dir", mazes / "test"
    )
    assert "maze: 7 items, 3 samples each" in scored.stdout
    assert "corrected, best of 3" in scored.stdout


def test_named_items_and_their_cost(infer, mazes, tmp_path):
    ids = [item["id"] for item in json.loads((mazes / "test" / "maze.json").read_text())]
    prices = ("--price-prompt", "1", "--price-sampled", "10")
    done = infer(*WARM, "--ids", ids[5], ids[2], *prices)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "out" / "maze")
    assert sorted(row["id"] for row in found) == sorted([ids[5], ids[2]])
    usage = [row["usage"] for row in found]
    prompt, sampled = sum(u["prompt_total"] for u in usage), sum(u["sampled"] for u in usage)
    assert sampled > 0
    assert prompt > sum(u["prompt"] for u in usage), "every turn is billed for the whole conversation"
    cost = (prompt + 10 * sampled) / 1e6
    assert f"{prompt} prompt tokens, {sampled} sampled tokens in this run, {cost:.4f} US dollars" in done.stderr
    unknown = infer("--ids", "no-such-item")
    assert unknown.returncode == 2
    assert "has no item no-such-item" in unknown.stderr


def test_the_cost_limit_ends_a_run_that_goes_on_later(infer, tmp_path):
    limit = ("--price-prompt", "100", "--price-sampled", "100", "--max-cost", "0.2", "--concurrency", 2)
    first = infer(*WARM, "--limit", 12, *limit)
    assert first.returncode == 3, first.stderr
    assert "--max-cost is reached" in first.stderr
    begun = len(rows(tmp_path / "out" / "maze"))
    assert 0 < begun < 12
    again = infer(*WARM, "--limit", 12, *limit)
    assert (again.returncode, len(rows(tmp_path / "out" / "maze"))) == (3, begun), "what was spent before counts"
    assert "US dollars of earlier starts" in again.stderr
    assert infer(*WARM, "--limit", 12).returncode == 0
    assert len(episodes(rows(tmp_path / "out" / "maze"))) == 12


@pytest.mark.parametrize("arguments", [("--tools", "none"), ("--feedback", "unchanged"), ("--feedback", "shuffled")])
def test_controls_are_runs_of_their_own(infer, tmp_path, arguments):
    done = infer(*WARM, "--limit", 3, *arguments)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "out" / "maze")
    assert len(found) == 3
    if "none" in arguments:
        assert all(len(row["steps"]) == 1 for row in found)
        assert all("without drawing" in row["conversation"][1]["content"] for row in found)
    else:
        assert {row["feedback"] for row in found} == {arguments[1]}
    if "shuffled" in arguments:
        assert all(row["shown_instead"] != row["id"] for row in found)
    refused = infer(*WARM, "--limit", 3)
    assert refused.returncode == 2
    assert "holds results of another configuration" in refused.stderr


def test_ones_own_picture(infer, mazes, tmp_path):
    image = next((mazes / "test").rglob("*.png"))
    own = ("--image", image, "--image", image, "--question", "Which is larger?", "--options", "first", "second")
    done = infer(*own, "--turn-tokens", 16, benchmarks=None)
    assert done.returncode == 0, done.stderr
    trace = json.loads((tmp_path / "out" / "trace.json").read_text())
    first = trace["steps"][0]["text"]
    assert first
    assert done.stdout.startswith(first), "what it says comes as it is said"
    assert "2 images, 0 of them drawn" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["image-1.png", "image-2.png", "trace.json"]
    assert "1. first" in trace["conversation"][1]["content"] or "A. first" in trace["conversation"][1]["content"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--image", "gone.png", "--question", "Why?"), "gone.png: no such image file"),
        (("--image", "README.md", "--question", "Why?"), "README.md: unreadable image"),
        (("--image", "README.md", "--question", " "), "the question is empty"),
        (("--question", "Why?"), "name --image and --question both"),
        (("--image", "a.png", "--question", "Why?", "--options", "one"), "options: name at least two"),
    ],
)
def test_pictures_that_cannot_be_asked_about(infer, arguments, message):
    done = infer(*arguments, benchmarks=None)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there(infer):
    done = infer("--base-url", "http://127.0.0.1:9/v1", "--limit", 1, "--max-retries", 0)
    assert done.returncode == 3
    assert "http://127.0.0.1:9/v1" in done.stderr
    assert "Traceback" not in done.stderr
