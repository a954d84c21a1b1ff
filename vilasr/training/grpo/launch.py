"""Launches a GRPO recipe on verl: composes, checks first, mends and resumes by itself.

    python -m vilasr.training.grpo.launch config_grpo.yaml [key=value ...] [--dry-run]

Overrides are Hydra's. From the environment: PREFLIGHT=off skips the checks, PREFLIGHT=only or --dry-run stops after
them; RAY_ADDRESS names a Ray cluster that is running (train/rl/ray.sh starts one), else one on this machine is found.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vilasr.data_check.writing import write
from vilasr.prompts import ProfileError
from vilasr.tasks import DataError
from vilasr.training.grpo import metric_lines
from vilasr.training.grpo.checkpoints import (
    CONTENTS,
    Checkpoint,
    Earlier,
    check_world,
    look,
    read_checkpoint,
    repair,
    steps_in,
)
from vilasr.training.grpo.config import MODEL, OUTPUT, compose, files_in, overridden_keys, text_of, value_of
from vilasr.training.grpo.environment import for_cluster, process_environment
from vilasr.training.grpo.nodes import GPUS, NODES, Nodes, find_nodes
from vilasr.training.grpo.settings import settings_of
from vilasr.training.processes import wait_for
from vilasr.training.recipe import ROOT
from vilasr.training.resume import RUN_FILE, claim, compare_settings, set_aside, write_settings

log = logging.getLogger(__name__)

PREFLIGHTS = ("on", "only", "off")
CONFIG = "config.yaml"
FINISHED = "finished.json"
_WAYS_OUT = (
    "Resume with the old ones, choose another trainer.default_local_dir=..., or start over with "
    "trainer.resume_mode=disable (the old is kept aside)"
)


@dataclass(frozen=True)
class Plan:
    """What will run: verl's configuration, on which machines, from which checkpoint. `fresh` starts over."""

    recipe: Path
    config: DictConfig
    nodes: Nodes
    settings: Mapping[str, Any]
    earlier: Earlier
    resume: Checkpoint | None
    fresh: bool

    @property
    def output(self) -> Path:
        return Path(value_of(self.config, OUTPUT))

    @property
    def on_cpu(self) -> bool:
        return value_of(self.config, "trainer.device") == "cpu"

    @property
    def aim(self) -> dict[str, Any]:
        """Up to where it trains: with a further one the same run goes on."""
        return {key: value_of(self.config, f"trainer.{key}") for key in ("total_epochs", "total_training_steps")}

    @property
    def finished(self) -> bool:
        try:
            return json.loads((self.output / FINISHED).read_text(encoding="utf-8")) == self.aim and not self.fresh
        except (OSError, ValueError):
            return False


def make_plan(recipe: Path, overrides: Sequence[str], environment: Mapping[str, str]) -> Plan:
    """Everything decided before a process starts; nothing is written. Raises DataError."""
    config = compose(recipe, overrides)
    for key in (MODEL, OUTPUT):
        if not isinstance(value_of(config, key), str) or not value_of(config, key):
            raise DataError(f"key {key!r} must be given in {recipe} or as {key}=...")
    if not files_in(config, "data.train_files"):
        raise DataError(f"key 'data.train_files' must be given in {recipe} or as data.train_files=...")
    nodes = find_nodes(config, overridden_keys(overrides), environment)
    OmegaConf.update(config, NODES, nodes.count)
    OmegaConf.update(config, GPUS, nodes.gpus)
    OmegaConf.update(config, "actor_rollout_ref.rollout.n_gpus_per_node", nodes.gpus)
    output = Path(value_of(config, OUTPUT))
    mode = value_of(config, "trainer.resume_mode", "auto")
    if mode not in ("auto", "disable", "resume_path"):
        raise DataError(f"trainer.resume_mode: must be auto, disable or resume_path, not {mode!r}")
    # a job that Slurm starts again goes on, whatever its first start was told
    fresh = mode == "disable" and not environment.get("SLURM_RESTART_COUNT")
    if mode == "disable" and not fresh:
        OmegaConf.update(config, "trainer.resume_mode", "auto")
    _check_output(config, output, fresh)
    contents = value_of(config, "actor_rollout_ref.actor.checkpoint.load_contents", CONTENTS)
    earlier = look(output, contents)
    settings = settings_of(config)
    resume = None if fresh else earlier.last
    if mode == "resume_path":
        resume = _named(value_of(config, "trainer.resume_from_path"), contents)
    if resume is not None:
        if mode != "resume_path":
            compare_settings(output, settings, _WAYS_OUT)
        if nodes.found:
            check_world(resume, nodes.world)
    return Plan(recipe, config, nodes, settings, earlier, resume, fresh)


def _named(path: object, contents: Sequence[str]) -> Checkpoint:
    try:
        return read_checkpoint(Path(str(path)), contents)
    except DataError as exc:
        raise DataError(f"trainer.resume_from_path: {path}: {exc}") from exc


def _check_output(config: DictConfig, output: Path, fresh: bool) -> None:
    """Raises DataError for an output folder that holds what is not its own: checkpoints are removed there."""
    precious = [Path(value_of(config, MODEL)), *files_in(config, "data.train_files"), Path.cwd(), ROOT]
    for path in (path.resolve() for path in precious if path.exists()):
        if path == output.resolve() or output.resolve() in path.parents:
            raise DataError(f"{OUTPUT}: {output} is or holds {path}, which the training needs; choose another folder")
    ours = (output / RUN_FILE).is_file() or steps_in(output)
    if fresh and output.is_dir() and any(output.iterdir()) and not ours:
        raise DataError(f"{OUTPUT}: {output} was not made by a training; trainer.resume_mode=disable leaves it alone")


def command(plan: Plan, folder: Path) -> list[str]:
    """verl's own program with the configuration that `prepare` wrote; `folder` is for Ray, of this machine alone."""
    words = [sys.executable, "-m", "verl.trainer.main_ppo", "--config-path", str(plan.output), "--config-name"]
    words += [Path(CONFIG).stem, f"hydra.run.dir={_quoted(plan.output)}", "hydra.output_subdir=null"]
    if plan.nodes.address is None and value_of(plan.config, "ray_kwargs.ray_init._temp_dir") is None:
        words.append(f"+ray_kwargs.ray_init._temp_dir={_quoted(folder)}")
    return words


def _quoted(path: Path) -> str:
    """For Hydra's grammar, which has its own meaning for many signs."""
    text = str(path).replace("'", "\\'")
    return f"'{text}'"


def prepare(plan: Plan, environment: Mapping[str, str]) -> None:
    """The output folder as the run needs it: what was cut off aside, the settings and verl's configuration written."""
    output = plan.output
    if plan.fresh and output.is_dir() and any(output.iterdir()):
        set_aside(output, f"{output.name}.previous")
    output.mkdir(parents=True, exist_ok=True)
    if not plan.fresh:
        repair(output, plan.earlier)
    (output / FINISHED).unlink(missing_ok=True)
    metric_lines.begin(output, plan.resume.step if plan.resume else 0)
    write_settings(output, plan.settings)
    config = for_cluster(plan.config, environment) if plan.nodes.address else plan.config
    text = text_of(config)
    file = output / CONFIG
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        set_aside(file, file.stem, file.suffix)
    write(file, text)


def run(plan: Plan) -> int:
    """Train; returns the exit status."""
    # Short: the paths of Ray's sockets may have 107 characters. Its own: so two runs on a machine never meet.
    folder = Path(tempfile.mkdtemp(prefix="vilasr-", dir="/tmp" if Path("/tmp").is_dir() else None))  # noqa: S108
    failed = False
    try:
        with claim(plan.output):
            environment = process_environment(plan.config, os.environ, plan.nodes.address, _names(plan, folder))
            prepare(plan, environment)
            try:
                status = wait_for(command(plan, folder / "ray"), environment)
            finally:
                metric_lines.end(plan.output)
            failed = status != 0 and (folder / "ray").exists()
            _tell_end(plan, status, folder / "ray")
            return status
    finally:
        if not failed:  # else Ray's logs are worth a look
            shutil.rmtree(folder, ignore_errors=True)


def _names(plan: Plan, folder: Path) -> Path | None:
    if not plan.on_cpu:
        return None
    from vilasr.training.vllm_name import provide_distribution

    return provide_distribution(folder / "names")


def _tell_end(plan: Plan, status: int, ray: Path) -> None:
    if not status:
        write(plan.output / FINISHED, json.dumps(plan.aim) + "\n")
        log.info("training ended; checkpoints: %s", plan.output)
        return
    contents = value_of(plan.config, "actor_rollout_ref.actor.checkpoint.load_contents", CONTENTS)
    last = look(plan.output, contents).last
    how = "the same command without trainer.resume_mode=disable" if plan.fresh else "the same command"
    again = f"{how} goes on from {last.path}" if last else "no checkpoint was written yet"
    logs = f"; Ray's logs: {ray}" if ray.exists() else ""
    log.error("training ended with status %d; %s%s", status, again, logs)


def main(arguments: Sequence[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    overrides = [argument for argument in arguments if argument != "--dry-run"]
    if not overrides or overrides[0].startswith("-"):
        log.error("usage: python -m vilasr.training.grpo.launch CONFIG [key=value ...] [--dry-run]")
        return 2
    recipe = Path(overrides.pop(0))
    checks = os.environ.get("PREFLIGHT") or "on"
    dry = "--dry-run" in arguments or checks == "only"
    try:
        if checks not in PREFLIGHTS:
            raise DataError(f"PREFLIGHT is {checks!r}; it may be {', '.join(PREFLIGHTS)}")
        plan = make_plan(recipe, overrides, os.environ)
        if plan.finished and not dry:
            log.info(
                "%s is trained already; more epochs or steps go on, trainer.resume_mode=disable starts over",
                plan.output,
            )
            return 0
        if checks != "off" or dry:
            from vilasr.training.grpo.preflight import preflight

            if not preflight(plan):
                log.error("nothing was started; PREFLIGHT=off would start nevertheless")
                return 1
        elif not plan.nodes.found:
            raise DataError(
                "no GPU is visible on this machine; a small model trains on the CPU with trainer.device=cpu"
            )
        return 0 if dry else run(plan)
    except (DataError, ProfileError, OSError) as exc:
        where = "" if str(exc).startswith(recipe.name) else f"{recipe.name}: "
        log.error("%serror: %s", where, exc)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
