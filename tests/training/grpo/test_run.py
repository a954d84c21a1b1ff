"""Real GRPO by verl on a CPU, through the recipe's script: faults, save, kill -9, resume.

Two starts of the same command. The first is killed once it has saved its second step; the second goes on.

step 1   six questions, each with a fault, two episodes each (tests/training/grpo/faults.py)
step 2   six questions whose twelve episodes all have the same length
step 3   four questions that the model answers itself, and two scripted; then the validation set, in two batches
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.golden import picture
from tests.training.grpo.faults import RIGHT
from tests.training.grpo.watch import host
from tests.training.test_sft_run import kill_all
from vilasr.results import parse_row
from vilasr.reward import reward
from vilasr.traces import StopReason

pytestmark = pytest.mark.engine

SCRIPT = ROOT / "train/rl/nano/train_grpo.sh"
FAULTS = ("empty", "forbidden", "ten", "engine", "long", "gone")


def write_questions(folder: Path) -> None:
    """`rl.jsonl`, in the order of the steps, and `val.jsonl`; nano's profile with room for all images."""
    profile = (ROOT / "vilasr/profiles/nano.yaml").read_text()
    (folder / "profile.yaml").write_text(re.sub(r"(?m)^  images: \d+", "  images: 42", profile))
    for number in range(10):
        picture(112, 112, number).save(folder / f"{number}.png")

    def question(name: str, images: int = 1) -> dict:
        return {
            "id": name,
            "question": "Which object is nearer? " + ("Look again. " * 600 if name.startswith("long") else ""),
            "options": ["chair", "table", "lamp", "sofa"],
            "answer": RIGHT,
            "question_type": "multiple choice",
            "data_type": "vqa" if name.split("-")[0] in FAULTS else "maze",
            "image_path": ["gone.png"] if name.startswith("gone") else [f"{n}.png" for n in range(images)],
        }

    steps = [question(f"{fault}-1", images=10 if fault == "ten" else 1) for fault in FAULTS]
    steps += [question(f"equal-{n}") for n in range(6)]
    steps += [question("overflow-1"), question("forbidden-3"), *(question(f"own-{n}") for n in range(4))]
    (folder / "rl.jsonl").write_text("".join(json.dumps(item) + "\n" for item in steps))
    held_out = [{**question(f"held-{n}"), "question": f"Which object is nearer to wall {n}?"} for n in range(3)]
    (folder / "val.jsonl").write_text("".join(json.dumps(item) + "\n" for item in held_out))


def start(folder: Path, nano: Path, *more: str) -> subprocess.Popen[bytes]:
    keys = [
        f"data.train_files={folder}/rl.jsonl",
        f"data.val_files={folder}/val.jsonl",
        f"vilasr.profile={folder}/profile.yaml",
        "data.filter_overlong_prompts=false",  # else the question that is too long never comes to its episode
        "data.shuffle=false",
        "data.train_batch_size=6",
        "data.max_response_length=1024",  # the scripted conversation outgrows it before its turns are used up
        "data.val_batch_size=2",
        f"actor_rollout_ref.model.path={nano}",
        "actor_rollout_ref.rollout.n=2",
        "actor_rollout_ref.actor.ppo_mini_batch_size=3",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2",
        f"actor_rollout_ref.rollout.agent.agent_loop_config_path={Path(__file__).with_name('faults.yaml')}",
        f"trainer.default_local_dir={folder}/out put",
        "trainer.total_training_steps=3",
        "trainer.save_freq=1",
        "trainer.test_freq=3",
        "trainer.val_before_train=false",
        "vilasr.keep_checkpoints=2",
    ]
    log = (folder / "log").open("ab")
    environment = {**os.environ, "PYTHON": os.environ.get("PYTHON", os.sys.executable), "PREFLIGHT": "off"}
    return subprocess.Popen(
        ["bash", str(SCRIPT), *keys, *more], stdout=log, stderr=log, env=environment, cwd="/", start_new_session=True
    )


def tail(folder: Path) -> str:
    lines = (folder / "log").read_text(errors="replace").splitlines()
    return "\n".join(line for line in lines if "TaskRunnerV1" not in line or "'" not in line)[-6000:]


@pytest.fixture(scope="module")
def run(nano, tmp_path_factory):
    """The folder of a run that was killed after its second step and gone on with."""
    folder = tmp_path_factory.mktemp("grpo")
    write_questions(folder)
    seconds, peak = [], 0
    began = time.monotonic()
    process = start(folder, nano)
    tracker = folder / "out put/latest_checkpointed_iteration.txt"
    while not (tracker.is_file() and tracker.read_text() == "2"):
        assert process.poll() is None, tail(folder)
        assert time.monotonic() - began < 500, tail(folder)
        peak = max(peak, host(process.pid)[0])
        time.sleep(0.05)
    kill_all(process.pid)
    process.wait()
    seconds.append(time.monotonic() - began)
    began = time.monotonic()
    process = start(folder, nano)
    try:
        assert process.wait(timeout=600) == 0, tail(folder)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
    seconds.append(time.monotonic() - began)
    print(f"GRPO on a CPU: killed after {seconds[0]:.0f} s, gone on in {seconds[1]:.0f} s, {peak / 2**30:.1f} GiB")
    return folder


def rows(folder: Path, step: int, split: str = "train") -> list[dict]:
    path = folder / f"out put/rollouts/{split}/step_{step:06d}/results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def logged(folder: Path) -> dict[int, dict[str, float]]:
    """By the number of the step, of both starts."""
    lines = [json.loads(line) for line in (folder / "out put/metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["data"] for line in lines}


def test_every_fault_ends_its_own_episode_by_name(run):
    found = {(row["id"].split("-")[0], row["sample"]): row for row in rows(run, 1)}
    assert len(found) == 12
    ends = {key: row["stop_reason"] for key, row in found.items()}
    assert ends == {
        ("empty", 0): StopReason.ANSWERED,
        ("empty", 1): StopReason.ANSWERED,
        ("forbidden", 0): StopReason.FORBIDDEN_TOKEN,
        ("forbidden", 1): StopReason.ANSWERED,
        ("ten", 0): StopReason.ANSWERED,
        ("ten", 1): StopReason.ANSWERED,
        ("engine", 0): StopReason.ENGINE_ERROR,
        ("engine", 1): StopReason.ANSWERED,
        ("long", 0): StopReason.CONTEXT_OVERFLOW,
        ("long", 1): StopReason.CONTEXT_OVERFLOW,
        ("gone", 0): StopReason.INPUT_ERROR,
        ("gone", 1): StopReason.INPUT_ERROR,
    }
    assert len(found["ten", 0]["images"]) == 20
    assert "the server is gone" in found["engine", 0]["detail"]
    assert "gone.png" in found["gone", 0]["detail"]


def test_rewards_are_those_of_the_evaluation(run):
    """Of every episode of all steps, read back from its line; right ones earn, failed ones do not."""
    earned = Counter()
    for step in (1, 2, 3):
        for row in rows(run, step):
            result = parse_row(row)
            if result.trace is None:
                assert row["reward"]["total"] == 0
                continue
            assert row["reward"]["total"] == reward(result.example, result.trace).total
            earned[row["id"].split("-")[0], row["sample"], row["reward"]["total"]] += 1
    assert earned["empty", 0, 0.5] == 1, "right, but one reply was empty"
    assert earned["forbidden", 1, 1.0] == 2
    assert earned["engine", 1, 1.0] == earned["ten", 0, 1.0] == 1
    assert earned["equal", 0, 1.0] == earned["equal", 1, 0.0] == 6
    assert earned["engine", 0, 0.0] == 1
    assert earned["forbidden", 0, 0.0] == 2


def test_the_logs_tell_what_the_episodes_were(run):
    for step, data in logged(run).items():
        found = rows(run, step)
        right = sum(row["reward"]["accuracy"] for row in found) / len(found)
        assert data["rollout/all/accuracy"] == pytest.approx(right)
        for reason in StopReason:
            share = sum(row["stop_reason"] == reason for row in found) / len(found)
            assert data[f"rollout/stop/{reason}"] == pytest.approx(share)
        spent = {name: data[f"rollout/seconds/{name}"] for name in ("generating", "building", "drawing", "reward")}
        assert all(seconds > 0 for seconds in spent.values()), spent
        assert spent["drawing"] + spent["reward"] < data["timing_s/step"], "one thread has done both"
        assert data["critic/rewards/mean"] == pytest.approx(data["rollout/all/reward"])
    assert set(logged(run)) >= {1, 3}  # killed at once after the second checkpoint, its numbers may not be written


def test_steps_of_episodes_of_one_length_and_of_many(run):
    def lengths(step: int, split: str = "train") -> set[tuple[int, int]]:
        return {(row["usage"].get("prompt"), row["usage"].get("response")) for row in rows(run, step, split)}

    assert len(lengths(2)) == 1
    assert len(lengths(1)) > 4
    assert logged(run)[1]["actor/grad_norm"] > 0, "right and wrong answers in one group teach"


def test_the_model_answered_itself_in_the_third_step(run):
    """Its probabilities by vLLM and by the actor are the same, but for rounding."""
    data = logged(run)[3]
    own = [row for row in rows(run, 3) if row["id"].startswith("own")]
    assert len({row["steps"][0]["text"] for row in own if row["steps"]}) > 1
    overflow = [row for row in rows(run, 3) if row["id"].startswith("overflow")]
    assert {row["stop_reason"] for row in overflow} == {StopReason.CONTEXT_OVERFLOW}
    assert data["response_length/max"] <= 1024


def test_killed_and_started_again_it_went_on_at_the_third_step(run):
    assert "setting global step to 2" in (run / "log").read_text(errors="replace")
    assert [row["id"] for row in rows(run, 3)][::2] == ["forbidden-3", "overflow-1", *(f"own-{n}" for n in range(4))]


def test_checkpoints_are_whole_kept_by_number_and_carry_the_profile(run):
    output = run / "out put"
    assert sorted(path.name for path in output.glob("global_step_*")) == ["global_step_2", "global_step_3"]
    assert (output / "latest_checkpointed_iteration.txt").read_text() == "3"
    for path in output.glob("global_step_*"):
        assert (path / "actor/huggingface/vilasr_profile.yaml").is_file()
        assert "attn_implementation" not in json.loads((path / "actor/huggingface/config.json").read_text())


def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def test_the_optimizer_went_on_too(run):
    """AdamW counts its steps: two mini-batches in each of three steps. And the weights moved."""
    import torch

    def load(step: int, kind: str) -> dict:
        path = run / f"out put/global_step_{step}/actor/{kind}_world_size_1_rank_0.pt"
        return torch.load(path, weights_only=False)

    steps = {int(state["step"]) for state in load(3, "optim")["state"].values()}
    assert steps == {6}
    before, after = load(2, "model"), load(3, "model")
    moved = [name for name in before if not torch.equal(local(before[name]), local(after[name]))]
    assert any("language_model" in name for name in moved)
    assert any("visual" in name for name in moved), "the vision tower is trained too"


def test_validation_is_asked_as_in_evaluation(run):
    found = rows(run, 3, "val")
    assert {row["id"] for row in found} == {"held-0", "held-1", "held-2"}
    assert logged(run)[3]["val-core/maze/acc/mean@1"] == pytest.approx(
        sum(row["reward"]["accuracy"] for row in found) / 3
    )
