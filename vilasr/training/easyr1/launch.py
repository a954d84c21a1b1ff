"""Launches a GRPO recipe on EasyR1: composes, checks first, goes on by itself from the last whole checkpoint.

    python -m vilasr.training.easyr1.launch config_grpo_easyr1.yaml [key=value ...] [--dry-run]

Overrides are OmegaConf's. From the environment: PREFLIGHT=off skips the checks, PREFLIGHT=only or --dry-run stops after
them; EASYR1_HOME is EasyR1's folder; RAY_ADDRESS names a Ray cluster that is running.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (EasyR1's verl is not that of the environment that is checked)
from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from vilasr.data_check.writing import write
from vilasr.prompts import ProfileError
from vilasr.tasks import DataError
from vilasr.training.easyr1.config import MODEL, Composed, compose
from vilasr.training.easyr1.model_folder import as_version_4
from vilasr.training.easyr1.plan import Plan, make_plan, prepare
from vilasr.training.easyr1.preflight import preflight
from vilasr.training.grpo import metric_lines
from vilasr.training.processes import wait_for
from vilasr.training.ray_token import authentication
from vilasr.training.recipe import ROOT
from vilasr.training.resume import claim

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
TRANSLATED = "model_for_transformers_4"
PREFLIGHTS = ("on", "only", "off")


def find_easyr1(environment: Mapping[str, str]) -> None:
    """Where EasyR1 is not installed, it is imported from EASYR1_HOME. Raises DataError."""
    home = environment.get("EASYR1_HOME")
    if home:
        if not (Path(home) / "verl/trainer/main.py").is_file():
            raise DataError(f"EASYR1_HOME is {home}, where there is no verl/trainer/main.py; name EasyR1's own folder")
        _check_commit(Path(home))
        sys.path.insert(0, str(Path(home).resolve()))
    try:
        import verl.trainer.config
        import verl.trainer.data_loader  # noqa: F401 (verl itself has none)
    except ImportError as exc:
        raise DataError(
            f"EasyR1 cannot be imported ({exc}); run bash setup.sh --easyr1, or set EASYR1_HOME to its folder"
        ) from exc


def _check_commit(home: Path) -> None:
    """Ours builds on names inside EasyR1. A copy without git is taken on trust. Raises DataError."""
    wanted = (ROOT / "requirements/easyr1-commit.txt").read_text(encoding="ascii").strip()
    if not (home / ".git").exists():
        return
    try:
        call = ["git", "-C", str(home), "rev-parse", "HEAD"]
        found = subprocess.run(call, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return
    if found != wanted:
        way = f"git -C {home} checkout {wanted}"
        raise DataError(f"EASYR1_HOME is {home}, at commit {found[:7]}; this works with {wanted[:7]}: {way}")


def process_environment(plan: Plan, environment: Mapping[str, str]) -> dict[str, str]:
    """Of EasyR1's processes; what the user has set stays."""
    found = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "TENSORBOARD_DIR": str(plan.output / "tensorboard"),
        "WANDB_DIR": str(plan.output),
    }
    if Path(plan.composed.model).is_dir():
        found |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    found |= environment
    home = environment.get("EASYR1_HOME", "")
    paths = [str(ROOT), str(Path(home).resolve()) if home else "", environment.get("PYTHONPATH", "")]
    found["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if "RAY_ADDRESS" in found:
        found |= authentication(environment)
    return found | plan.composed.ours.to_variable()


def run(plan: Plan) -> int:
    """Train; returns the exit status."""
    with claim(plan.output) as lock:
        prepare(plan)
        theirs = plan.composed.theirs.copy()
        model = Path(plan.composed.model)
        if model.is_dir() and (readable := as_version_4(model, plan.output / TRANSLATED)) != model:
            log.info("%s was saved by transformers 5; %s is the same for version 4", model, readable)
            OmegaConf.update(theirs, MODEL, str(readable))
        OmegaConf.update(theirs, "trainer.load_checkpoint_path", str(plan.resume.path) if plan.resume else None)
        OmegaConf.update(theirs, "trainer.find_last_checkpoint", False)
        file = plan.output / CONFIG
        write(file, OmegaConf.to_yaml(theirs))
        words = [sys.executable, "-m", "vilasr.training.easyr1.main", f"config={file}"]
        metric_lines.begin(plan.output, plan.resume.step if plan.resume else 0)
        try:
            status = wait_for(words, process_environment(plan, os.environ), [lock])
        finally:
            metric_lines.end(plan.output)
            plan.complete()
        if status:
            again = plan.last_checkpoint()
            same = "the same command" if plan.own else "the same command without trainer.find_last_checkpoint=false"
            how = f"{same} goes on from {again.path}" if again else "no checkpoint was written yet"
            log.error("training ended with status %d; %s", status, how)
        else:
            log.info("training ended; checkpoints: %s", plan.output)
        return status


def main(arguments: Sequence[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    overrides = [argument for argument in arguments if argument != "--dry-run"]
    if not overrides or overrides[0].startswith("-"):
        log.error("usage: python -m vilasr.training.easyr1.launch CONFIG [key=value ...] [--dry-run]")
        return 2
    recipe = Path(overrides.pop(0))
    checks = os.environ.get("PREFLIGHT") or "on"
    dry = "--dry-run" in arguments or checks == "only"
    try:
        if checks not in PREFLIGHTS:
            raise DataError(f"PREFLIGHT is {checks!r}; it may be {', '.join(PREFLIGHTS)}")
        find_easyr1(os.environ)
        composed: Composed = compose(recipe, overrides)
        plan = make_plan(composed, os.environ)
        if (checks != "off" or dry) and not preflight(plan):
            log.error("nothing was started; PREFLIGHT=off would start nevertheless")
            return 1
        return 0 if dry else run(plan)
    except (DataError, ProfileError, OSError) as exc:
        where = "" if str(exc).startswith(recipe.name) else f"{recipe.name}: "
        log.error("%serror: %s", where, exc)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
