"""The planned episodes of tests/bench_inference.py, and the engine that gives replies of their lengths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import run_tool
from tests.inference.schedules import tokenizer
from tests.inference.workload import KINDS, make_work
from vilasr.engines.chat import ChatTokens

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def chat(nano) -> ChatTokens:
    return ChatTokens(tokenizer(nano))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_seed_always_gives_the_same_items(chat, tmp_path, kind):
    first, second, other = (make_work(tmp_path / str(n), kind, 6, chat, seed, 0.25) for n, seed in enumerate((3, 3, 4)))
    assert first.replies == second.replies != other.replies
    assert first.turns == sum(len(first.replies[place]) for place in range(6))
    assert all(3 <= len(replies) <= 6 for replies in first.replies), "two to five drawing turns, and the answer"
    images = KINDS[kind][0]
    for one, again, different in zip(first.items, second.items, other.items, strict=True):
        assert len(one.image_paths) == images
        here, there, elsewhere = (Path(item.image_paths[-1]).read_bytes() for item in (one, again, different))
        assert here == there != elsewhere


def test_a_reply_is_found_by_its_seed(chat, tmp_path):
    work = make_work(tmp_path, "maze", 3, chat, 0, 0.25)
    for place, replies in enumerate(work.replies):
        for turn, reply in enumerate(replies):
            assert work.reply(work.seed(str(place)) + turn) == reply


def test_episodes_go_as_planned(tmp_path):
    """Real vLLM: as many turns, tokens and images as planned, whatever the weights would say. In a process of its own,
    as the end of one vLLM takes the process groups of another with it."""
    options = ("--shape", "nano", "--items", 3, "--concurrency", 3, "--schedules", "ours", "--no-costs")
    done = run_tool("-m", "tests.bench_inference", tmp_path, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    [report] = json.loads(done.stdout.splitlines()[-1])
    work = make_work(tmp_path / "again", "maze", 3, ChatTokens(tokenizer(tmp_path / "tiny-nano")), 0, 0.25)
    rows = {row["id"]: row for row in map(json.loads, (tmp_path / "results/results.jsonl").read_text().splitlines())}
    for place, replies in enumerate(work.replies):
        usage = rows[str(place)]["usage"]
        assert (usage["turns"], usage["sampled"]) == (len(replies), sum(map(len, replies)))
    assert (report["items"], report["turns"]) == (3, work.turns)
    assert report["tokens_s"] == pytest.approx(work.tokens / report["seconds"], rel=0.01)
    images = sum(len(replies) for replies in work.replies)  # the question's, and one of each drawing turn
    calls = {name: spent["calls"] for name, spent in report["spent"].items()}
    assert calls["image keys"] == calls["image features"] == images
    assert calls["handing over"] == calls["taking replies"] == calls["parsing and drawing"] == work.turns
