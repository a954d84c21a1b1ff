"""An episode's record: reward and numbers as the evaluation finds them, and the line it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.golden import golden_traces
from vilasr.reflect import reflection
from vilasr.results import parse_row
from vilasr.reward import reward
from vilasr.scoring import find_benchmark
from vilasr.scoring.reading import ReadResults
from vilasr.scoring.summary import summarise
from vilasr.traces import StopReason
from vilasr.training.grpo.item import Item
from vilasr.training.grpo.metrics import rollout_metrics
from vilasr.training.grpo.record import Record

GOLDEN = {golden.name: golden for golden in golden_traces()}


@pytest.fixture(scope="module")
def records():
    return [Record(golden.example, golden.run().trace(), sample=n) for n, golden in enumerate(GOLDEN.values())]


def test_reward_is_the_evaluations(records):
    for record in records:
        assert record.reward == reward(record.example, record.trace)
    assert len({record.reward.total for record in records}) > 1


def test_a_line_can_be_read_and_gives_the_same_numbers(records):
    """What `eval/evaluate.py` makes of the lines equals what the trainer logs."""
    rows = [json.loads(json.dumps(record.row())) for record in records]
    metrics = rollout_metrics(rows, [record.scores() for record in records])
    read = ReadResults(Path(), [parse_row(row) for row in rows], unreadable=0, duplicates=0)
    summary, _ = summarise(read, find_benchmark("train"))
    count = len(records)
    assert metrics["rollout/all/accuracy"] == pytest.approx(summary.scores["corrected"][0].mean)
    assert metrics["rollout/all/reward"] == pytest.approx(summary.reward)
    assert metrics["rollout/all/steps"] == pytest.approx(summary.drawing.steps)
    assert metrics["rollout/all/boxes"] == pytest.approx(summary.drawing.boxes)
    assert metrics["rollout/all/lines"] == pytest.approx(summary.drawing.lines)
    for reason, times in summary.stop_reasons.items():
        assert metrics[f"rollout/stop/{reason}"] == pytest.approx(times / count)
    assert sum(value for name, value in metrics.items() if name.startswith("rollout/stop/")) == pytest.approx(1)


def test_metrics_by_data_type(records):
    rows, scores = [record.row() for record in records], [record.scores() for record in records]
    metrics = rollout_metrics(rows, scores)
    kinds = {row["data_type"] for row in rows}
    assert len(kinds) > 1
    for kind in kinds:
        members = [record for record in records if record.example.data_type == kind]
        share = sum(reflection(record.trace).loose for record in members) / len(members)
        assert metrics[f"rollout/{kind}/reflection"] == pytest.approx(share)
        assert metrics[f"rollout/{kind}/format"] == pytest.approx(sum(r.reward.format for r in members) / len(members))


def test_seconds_are_added_up(records):
    rows, scores = [record.row() for record in records[:2]], [record.scores() for record in records[:2]]
    spent = [{"drawing": 1.5, "reward": 0.25}, {"drawing": 2.0, "reward": 0.5}]
    metrics = rollout_metrics(rows, scores, spent)
    found = {name: value for name, value in metrics.items() if name.startswith("rollout/seconds/")}
    assert found == {"rollout/seconds/drawing": 3.5, "rollout/seconds/reward": 0.75}
    assert rollout_metrics(rows, scores) == {name: metrics[name] for name in metrics if name not in found}


def test_a_reward_is_found_once(records, monkeypatch):
    record = replace(records[0], sample=99)
    wanted = records[0].reward
    calls = []
    monkeypatch.setattr("vilasr.training.grpo.record.reward", lambda *given: calls.append(given) or wanted)
    assert record.seconds > 0
    assert record.reward == wanted
    assert (record.row()["reward"]["total"], record.scores()["acc"]) == (wanted.total, wanted.accuracy)
    assert len(calls) == 1


def test_a_question_that_could_not_be_read(records):
    record = Record(records[0].example, None, "rl.jsonl: item 3: no image")
    assert record.reward.total == 0
    assert record.stop_reason is StopReason.INPUT_ERROR
    assert parse_row(record.row()).detail == "rl.jsonl: item 3: no image"
    metrics = rollout_metrics([records[0].row(), record.row()], [records[0].scores(), record.scores()])
    assert metrics["rollout/stop/input_error"] == 0.5


def test_item_keeps_everything_but_pixels(records):
    for record in records:
        example = replace(record.example, frames=())
        item = Item(example, "rl.jsonl", "/data", held_out=True)
        assert Item.from_json(item.to_json()) == item
