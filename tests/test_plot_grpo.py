"""The picture of GRPO runs: what is in it, small, and the same each time."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from tests.plot_grpo import main, moving_mean, read_run

TIMES = {"gen": 5.0, "old_log_prob": 1.0, "adv": 0.1, "update_actor": 2.0, "update_weights": 0.5, "step": 10.0}


@pytest.fixture
def folder(tmp_path):
    """folder(name, steps) -> a run with all that verl logs and the picture shows."""

    def make(name: str, steps: int, **more: float):
        noise = np.random.default_rng(ord(name[0]))
        lines = [{"step": 0, "data": {"val-core/maze/acc/mean@1": 0.25, "val-core/video/acc/mean@1": 0.75}}]
        for step in range(1, steps + 1):
            names = [f"rollout/all/{key}" for key in ("reward", "accuracy", "format")]
            names += ["response_length/mean", "actor/entropy", "actor/grad_norm"]
            data = {key: float(noise.uniform()) for key in names}
            data |= {f"timing_s/{key}": value for key, value in TIMES.items()}
            if step == 1:
                data["timing_s/step"] = 100.0
            lines.append({"step": step, "data": {**data, "rollout/seconds/drawing": 0.5, **more}})
        path = tmp_path / name
        path.mkdir()
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return make


def test_a_picture_of_long_runs_is_small_and_always_the_same(folder, tmp_path):
    runs = [f"{count} GPUs={folder(str(count), 1500)}" for count in (1, 2, 4)]
    found = []
    for name in ("one", "two"):
        assert main([str(tmp_path / name), *runs, "--title", "Mazes"]) == 0
        found.append([(tmp_path / f"{name}.{kind}").read_bytes() for kind in ("png", "svg")])
    assert found[0] == found[1]
    svg = found[0][1].decode()
    assert len(svg) < 200_000
    for words in ("Mazes", "1 GPUs", "4 GPUs", "reward", "gradient norm", "generation", "weight sync", "other"):
        assert f">{words}" in svg
    assert "dc:date" not in svg


def test_seconds_are_split_without_the_first_step(folder):
    run = read_run("a", folder("a", 3))
    found = run.seconds()
    assert found["generation"] == 5.0
    assert found["log-prob"] == 1.0
    assert found["other"] == pytest.approx(10 - 8.6)
    assert (found["drawing"], found["reward"]) == (0.5, 0.0)
    assert read_run("b", folder("b", 1)).seconds()["other"] == pytest.approx(100 - 8.6)


def test_validation_is_the_mean_over_data_sources(folder):
    steps, values = read_run("a", folder("a", 2)).validation("acc")
    assert (steps.tolist(), values.tolist()) == ([0.0], [0.5])


def test_numbers_that_are_none_are_left_out(folder):
    steps, _ = read_run("a", folder("a", 3, **{"actor/entropy": None})).series("actor/entropy")
    assert len(steps) == 0


def test_mean_of_the_last():
    assert moving_mean(np.array([2.0, 4.0, 6.0, 8.0]), 2).tolist() == [2.0, 3.0, 5.0, 7.0]
    assert moving_mean(np.zeros(0), 2).tolist() == []


def test_a_run_needs_a_folder(tmp_path):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "out"), "just a name"])
