"""What the replay buffer takes from the configuration. Its records are tested by the real run (test_run.py)."""

from __future__ import annotations

import json
import logging

import pytest

from vilasr.training.grpo.config import RECIPES, compose

pytestmark = pytest.mark.engine


def make(*overrides: str, **arguments):
    """As verl makes it: `_build_replay_buffer` gives a sampler of one's own these arguments."""
    from vilasr.training.grpo.sampler import RecordingReplayBuffer

    sampler = compose(RECIPES / "config_grpo.yaml", overrides).trainer.v1.sampler
    given = {
        "trainer_mode": "sync",
        "trainer_config": {},
        "max_off_policy_threshold": sampler.max_off_policy_threshold,
        "max_off_policy_strategy": sampler.max_off_policy_strategy,
        "sampler_kwargs": sampler.sampler_kwargs,
        "refill_fn": lambda count: None,
    }
    return RecordingReplayBuffer(**{**given, **arguments})


def test_groups_are_filtered_as_configured():
    assert make().filter_groups_metric is None
    made = make("algorithm.filter_groups.enable=true", "algorithm.filter_groups.metric=acc", "data.train_batch_size=24")
    assert made.filter_groups_metric == "acc"
    assert (made.train_batch_size, made.gen_batch_size, made.max_inflight_gen_batches) == (24, 1, 1)


def test_failed_groups_are_replaced_as_configured():
    assert not make().sync_refill_failed_groups
    made = make("trainer.v1.sampler.sync_refill_failed_groups=true")
    assert made.sync_refill_failed_groups
    assert made.gen_batch_size == 1


def test_records_go_beside_the_checkpoints(tmp_path):
    assert make(f"trainer.default_local_dir={tmp_path}")._folder == tmp_path / "rollouts"
    assert make("vilasr.rollouts=null")._folder is None


def test_a_file_in_the_way_stops_nothing(tmp_path, caplog):
    from vilasr.training.grpo.sampler import keep

    (tmp_path / "train").write_text("in the way")
    with caplog.at_level(logging.ERROR):
        keep(tmp_path / "train" / "results.jsonl", [{"id": "a", "sample": 0}])
    assert "could not be kept" in caplog.text


def test_lines_are_in_order(tmp_path):
    from vilasr.training.grpo.sampler import keep

    path = tmp_path / "train" / "results.jsonl"
    keep(path, [{"id": "b", "sample": 0}, {"id": "a", "sample": 1}, {"id": "a", "sample": 0}])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["id"], row["sample"]) for row in rows] == [("a", 0), ("a", 1), ("b", 0)]
