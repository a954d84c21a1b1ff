"""EasyR1's whole loop on a CPU: two GRPO steps with drawing episodes, saved, gone on from, merged. Minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data_engine.test_sample_run import learned as _learned
from vilasr.training.recipe import ROOT

pytestmark = pytest.mark.engine

RECIPE = ROOT / "train/rl/nano/config_grpo_easyr1.yaml"
# The format alone is rewarded (beta): right answers are too rare for samples of a question to differ in them.
SMALL = [
    "vilasr.held_out=2",
    "vilasr.beta=-1",
    "data.val_batch_size=2",
    "worker.rollout.n=2",
    "data.max_response_length=1024",
]
SMALL += ["worker.actor.micro_batch_size_per_device_for_update=2", "worker.actor.optim.lr=1e-3", "trainer.save_freq=1"]
SMALL += ["worker.actor.micro_batch_size_per_device_for_experience=2", "trainer.save_limit=-1", "trainer.val_freq=2"]


__all__ = ["_learned"]  # a fixture


@pytest.fixture(scope="module")
def model(_learned) -> Path:
    """It answers in the format, and draws."""
    return _learned / "model"


@pytest.fixture(scope="module")
def mazes(_learned) -> Path:
    """Ten, of which it has seen eight."""
    return _learned / "data/rl/vilasr_rl_data.jsonl"


def train(easyr1: Any, model: Path, mazes: Path, output: Path, *overrides: str, world: int = 1) -> Any:
    given = [f"worker.actor.model.model_path={model}", f"data.train_files={mazes}"]
    given += [f"trainer.save_checkpoint_path={output}", f"trainer.n_gpus_per_node={world}", *SMALL, *overrides]
    return easyr1.run(
        "bash", "train/rl/train_grpo.sh", *given, CONFIG=str(RECIPE), PREFLIGHT="off", VILASR_EASYR1_GPUS=str(world)
    )


def metrics(output: Path) -> dict[int, dict[str, float]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    found: dict[int, dict[str, float]] = {}
    for line in lines:
        found.setdefault(line["step"], {}).update(line["data"])
    return found


def rows(output: Path, name: str, step: int) -> list[dict[str, Any]]:
    file = output / f"rollouts/{name}/step_{step:06d}/results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("world", [1, 2])
def test_steps_of_grpo_saved_and_gone_on_from(easyr1, model, mazes, tmp_path, world):
    output = tmp_path / "run"
    done = train(easyr1, model, mazes, output, "trainer.max_steps=2", "trainer.val_before_train=false", world=world)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = metrics(output)
    assert sorted(found) == [1, 2]
    for step in (1, 2):  # fresh weights, and those of an update that was carried to vLLM
        assert found[step]["rollout/log_prob_difference/max"] < 1e-4
        episodes = rows(output, "train", step)
        assert len(episodes) == 8
        assert found[step]["rollout/all/reward"] == pytest.approx(sum(row["reward"]["total"] for row in episodes) / 8)
        assert found[step]["critic/score/mean"] == pytest.approx(found[step]["rollout/all/reward"])
        assert {row["sample"] for row in episodes} == {0, 1}
    assert any(row["steps"] and row["steps"][0]["new_images"] for row in rows(output, "train", 1)), "nothing was drawn"
    pairs: dict[str, list[str]] = {}
    for row in rows(output, "train", 1):
        pairs.setdefault(row["id"], []).append(json.dumps([step["text"] for step in row["steps"]]))
    assert any(len(set(texts)) == 2 for texts in pairs.values()), "all samples of a question are the same"
    assert len(rows(output, "val", 2)) == 2
    assert max(found[step]["actor/grad_norm"] for step in (1, 2)) > 0

    done = train(easyr1, model, mazes, output, "trainer.max_steps=3", "trainer.val_before_train=false", world=world)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(metrics(output)) == [1, 2, 3], "the metrics of the first part are kept"
    assert metrics(output)[1] == found[1]
    if world == 2:
        merged_checkpoint_is_another_model(output / "global_step_3/actor", model, tmp_path / "merged")


def merged_checkpoint_is_another_model(actor: Path, start: Path, target: Path) -> None:
    tool = [sys.executable, str(ROOT / "utils/model_merger.py"), "--local_dir", str(actor), "--target_dir", str(target)]
    merged = subprocess.run(tool, cwd=ROOT, capture_output=True, text=True)
    assert merged.returncode == 0, merged.stderr[-2000:]
    from safetensors.torch import load_file

    old, new = load_file(start / "model.safetensors"), load_file(target / "model.safetensors")
    tied = new.pop("lm_head.weight")
    assert tied.equal(new["model.embed_tokens.weight"]), "the two are one tensor"
    assert {name: tensor.shape for name, tensor in old.items()} == {name: tensor.shape for name, tensor in new.items()}
    changes = [(old[name].float() - new[name].float()).abs().max().item() for name in old]
    assert 0 < max(changes) < 0.1
    assert (target / "vilasr_profile.yaml").is_file()


def test_what_cannot_run_is_told_before(easyr1, model, mazes, tmp_path):
    given = [
        f"worker.actor.model.model_path={model}",
        f"data.train_files={mazes}",
        "vilasr.attention=flash_attention_2",
    ]
    given += [
        f"trainer.save_checkpoint_path={tmp_path / 'run'}",
        "worker.actor.global_batch_size=3",
        "data.max_pixels=9",
    ]
    done = easyr1.run("bash", "train/rl/train_grpo.sh", *given, "--dry-run", CONFIG=str(RECIPE))
    assert done.returncode == 1
    for told in (
        "0 visible here, trainer.n_gpus_per_node=1",
        "flash-attn is not installed; install it, or use vilasr.attention=sdpa worker.actor.padding_free=false",
        "data.max_pixels must be null",
        "data.rollout_batch_size=4 is no multiple of worker.actor.global_batch_size=3",
        "10 questions, 16 of them held out, 0 unusable",
        "nothing was started",
    ):
        assert told in done.stderr, done.stderr[-3000:]
    assert not (tmp_path / "run").exists()
