"""What a GRPO run will be: decided before a process starts, and before anything is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vilasr.tasks import DataError
from vilasr.training.grpo.checkpoints import (
    CONTENTS,
    Checkpoint,
    Earlier,
    check_world,
    look,
    read_checkpoint,
    read_step,
    steps_in,
)
from vilasr.training.grpo.config import MODEL, OUTPUT, compose, files_in, overridden_keys, own_keys, value_of
from vilasr.training.grpo.nodes import GPUS, NODES, Nodes, find_nodes
from vilasr.training.grpo.settings import settings_of
from vilasr.training.recipe import ROOT
from vilasr.training.resume import RUN_FILE, check_precious, compare_settings

CONFIG = "config.yaml"
FINISHED = "finished.json"
_WAYS_OUT = (
    "Resume with the old ones, choose another trainer.default_local_dir=..., or start over with "
    "trainer.resume_mode=disable (the old is kept aside)"
)


@dataclass(frozen=True)
class Plan:
    """What will run: verl's configuration, on which machines, from which checkpoint. `fresh` starts over, `back` goes
    back to a checkpoint the user named, `done` is how far an earlier run came to its end."""

    recipe: Path
    config: DictConfig
    nodes: Nodes
    settings: Mapping[str, Any]
    earlier: Earlier
    done: Mapping[str, Any] | None
    resume: Checkpoint | None
    fresh: bool
    back: bool

    @property
    def output(self) -> Path:
        return Path(value_of(self.config, OUTPUT))

    @property
    def on_cpu(self) -> bool:
        return value_of(self.config, "trainer.device") == "cpu"

    @property
    def trains(self) -> bool:
        return not value_of(self.config, "trainer.val_only", False)

    @property
    def aim(self) -> dict[str, Any]:
        return _aim(self.config)

    @property
    def finished(self) -> bool:
        return self.done == self.aim and self.trains and not (self.fresh or self.back)

    @property
    def contents(self) -> Sequence[str]:
        return value_of(self.config, "actor_rollout_ref.actor.checkpoint.load_contents", CONTENTS)

    def check_unchanged(self) -> None:
        """Raises DataError where another run wrote to the output since the plan was made."""
        if (look(self.output, self.contents), read_end(self.output)) != (self.earlier, self.done):
            raise DataError(
                f"{OUTPUT}: another run wrote to {self.output} while this one was checked; look at what is there, and "
                "start again"
            )


def make_plan(recipe: Path, overrides: Sequence[str], environment: Mapping[str, str]) -> Plan:
    """Raises DataError."""
    config = compose(recipe, overrides)
    for key in (MODEL, OUTPUT):
        if not isinstance(value_of(config, key), str) or not value_of(config, key):
            raise DataError(f"key {key!r} must be given in {recipe} or as {key}=...")
    if not files_in(config, "data.train_files"):
        raise DataError(f"key 'data.train_files' must be given in {recipe} or as data.train_files=...")
    given = overridden_keys(overrides)
    nodes = find_nodes(config, given, environment, own_keys(recipe))
    OmegaConf.update(config, NODES, nodes.count)
    OmegaConf.update(config, GPUS, nodes.gpus)
    OmegaConf.update(config, "actor_rollout_ref.rollout.n_gpus_per_node", nodes.gpus)
    output = Path(value_of(config, OUTPUT))
    earlier = look(output, value_of(config, "actor_rollout_ref.actor.checkpoint.load_contents", CONTENTS))
    mode = _mode(config, output, earlier, environment)
    OmegaConf.update(config, "trainer.resume_mode", mode)
    _check_output(config, output, mode == "disable")
    settings, done = settings_of(config), read_end(output)
    plan = Plan(recipe, config, nodes, settings, earlier, done, _start(config, mode, earlier), mode == "disable",
                mode == "resume_path")  # fmt: skip
    if mode == "auto" and (plan.resume is not None or done is not None):
        compare_settings(output, settings, _WAYS_OUT)
    if mode == "auto" and done not in (None, plan.aim) and plan.resume is None and plan.trains:
        raise DataError(
            f"{output}: holds a run to {done} that saved no checkpoint, so none can go on from it; choose another "
            f"{OUTPUT}=..., or start over with trainer.resume_mode=disable (the old is kept aside)"
        )
    if plan.resume is not None and nodes.found:
        check_world(plan.resume, nodes.world)
    _choose_validation(plan, "trainer.val_before_train" in given)
    return plan


def read_end(output: Path) -> dict[str, Any] | None:
    """How far the run in a folder came, if it came to its end."""
    try:
        found = json.loads((output / FINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _aim(config: DictConfig) -> dict[str, Any]:
    """Up to where it trains: with a further one the same run goes on."""
    return {key: value_of(config, f"trainer.{key}") for key in ("total_epochs", "total_training_steps")}


def _mode(config: DictConfig, output: Path, earlier: Earlier, environment: Mapping[str, str]) -> str:
    """`trainer.resume_mode`; but a job that Slurm starts again goes on, whatever its first start was told."""
    mode = value_of(config, "trainer.resume_mode", "auto")
    if mode not in ("auto", "disable", "resume_path"):
        raise DataError(f"trainer.resume_mode: must be auto, disable or resume_path, not {mode!r}")
    if not environment.get("SLURM_RESTART_COUNT"):
        return mode
    if mode == "resume_path" and not _came_further(config, output, earlier):
        return mode
    return "auto"


def _came_further(config: DictConfig, output: Path, earlier: Earlier) -> bool:
    """Whether a start from the checkpoint the user names, noted in the output, has saved a later one. The named one may
    have been removed since."""
    named = value_of(config, "trainer.resume_from_path")
    try:
        noted = OmegaConf.load(output / CONFIG)
        same = OmegaConf.select(noted, "trainer.resume_from_path") == named
        return same and earlier.last is not None and earlier.last.step > read_step(Path(str(named)))
    except Exception:  # YAML's, OmegaConf's, the system's, and a name that is none: told by `_start`
        return False


def _start(config: DictConfig, mode: str, earlier: Earlier) -> Checkpoint | None:
    if mode != "resume_path":
        return earlier.last if mode == "auto" else None
    path = value_of(config, "trainer.resume_from_path")
    contents = value_of(config, "actor_rollout_ref.actor.checkpoint.load_contents", CONTENTS)
    try:
        return read_checkpoint(Path(str(path)), contents)
    except DataError as exc:
        raise DataError(f"trainer.resume_from_path: {path}: {exc}") from exc


def _choose_validation(plan: Plan, given: bool) -> None:
    """What is gone on from was validated when it was saved."""
    key = "trainer.val_before_train"
    if not plan.trains and not value_of(plan.config, key, True):
        raise DataError(f"trainer.val_only=true needs {key}=true: verl would train")
    if plan.resume is not None and plan.trains and not given:
        OmegaConf.update(plan.config, key, False)


def _check_output(config: DictConfig, output: Path, fresh: bool) -> None:
    """Raises DataError for an output folder that holds what is not its own: checkpoints are removed there."""
    precious = [Path(value_of(config, MODEL)), *files_in(config, "data.train_files"), Path.cwd(), ROOT]
    check_precious(output, precious, OUTPUT)
    ours = (output / RUN_FILE).is_file() or steps_in(output)
    if fresh and output.is_dir() and any(output.iterdir()) and not ours:
        raise DataError(f"{OUTPUT}: {output} was not made by a training; trainer.resume_mode=disable leaves it alone")
