"""Jobs that train, and the merging of what they trained."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.faults.cheap import tool
from tests.faults.engines import Stage
from tests.faults.hurting import DISK, SIGNALS, Fault
from tests.faults.job import Items, Job, digest, files_of

NAMES = ("model_merger", "sft", "grpo")
STEPS = 6


def _merged(folder: Path) -> Items:
    return files_of(folder / "out/model", without=(".merging",))


def _trained(folder: Path) -> Items:
    """Every step's loss, to four digits, and that of the weights which are at the end: the run goes on from the last
    whole checkpoint, and its steps must be those of the undisturbed one."""
    out = folder / "out/model"
    found: Items = {}
    if (out / "trainer_state.json").is_file():
        for step in json.loads((out / "trainer_state.json").read_text())["log_history"]:
            if "loss" in step:
                found.setdefault(f"model/trainer_state.json::{step['step']}", []).append(f"{step['loss']:.3f}")
    if (out / "model.safetensors").is_file():
        from safetensors.torch import load_file

        weights = load_file(out / "model.safetensors")
        text = [f"{name} {tuple(value.shape)}" for name, value in sorted(weights.items())]
        found["model/model.safetensors"] = [digest("\n".join(text).encode())]
    for name in ("vilasr_profile.yaml", "config.json", "processor_config.json", "tokenizer.json"):
        if (out / name).is_file():
            found[f"model/{name}"] = [digest((out / name).read_bytes())]
    return found


def _learned(folder: Path) -> Items:
    """The steps, once each by name, and how many episodes each has; sampled text depends on who shares a batch."""
    out = folder / "out/grpo"
    found: Items = {}
    tracker = out / "latest_checkpointed_iteration.txt"
    if tracker.is_file():
        found["grpo/latest_checkpointed_iteration.txt"] = [tracker.read_text()]
    for path in sorted(out.glob("rollouts/train/step_*/results.jsonl")):
        ids = sorted(f"{row['id']}-{row['sample']}" for row in map(json.loads, path.read_text().splitlines()))
        found[path.relative_to(folder / "out").as_posix()] = [digest("\n".join(ids).encode())]
    return found


def jobs(made: Path, stage: Stage) -> list[Job]:
    """Environment: FSDP, an actor folder of GRPO; SFT_DATA and NANO, mazes and a nano model."""
    shards = Path(os.environ.get("FSDP", made / "fsdp/actor")).resolve()
    data = Path(os.environ.get("SFT_DATA", made / "mazes")).resolve()
    nano = Path(os.environ.get("NANO", made / "nano")).resolve()
    environment = {"PYTHON": sys.executable, "PREFLIGHT": "off", "OMP_NUM_THREADS": "2"}
    sft = ("bash", str(ROOT / "train/cold_start/nano/train_cold_start.sh"), f"model_name_or_path={nano}",
           f"dataset_dir={data}", f"max_steps={STEPS}", "logging_steps=1", "save_steps=2",
           "plot_loss=false")  # fmt: skip
    grpo = ("bash", str(ROOT / "train/rl/nano/train_grpo.sh"), f"actor_rollout_ref.model.path={nano}",
            f"data.train_files={data}/rl/vilasr_rl_data.jsonl", "trainer.total_training_steps=3",
            "trainer.save_freq=1", "trainer.test_freq=-1", "trainer.val_before_train=false")  # fmt: skip
    return [
        Job("model_merger", shards, tool("utils/model_merger.py", "--local_dir", "in", "--target_dir", "out/model",
            "--max-shard-size", "1500KB"), _merged, (*SIGNALS, *DISK), steady=False),
        Job("sft", made / "nothing", (*sft, "output_dir=out/model"), _trained, (*SIGNALS, *DISK), steady=False,
            seconds=400, environment=environment),
        Job("grpo", made / "nothing", (*grpo, "trainer.default_local_dir=out/grpo"), _learned,
            (Fault.KILL_GROUP, Fault.TERM, Fault.KILL_MAIN), steady=False, seconds=900, environment=environment),
    ]  # fmt: skip
