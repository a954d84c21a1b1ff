"""Launches a GRPO recipe on verl: composes, checks first, mends and resumes by itself.

    python -m vilasr.training.grpo.launch config_grpo.yaml [key=value ...] [--dry-run]

Overrides are Hydra's. From the environment: PREFLIGHT=off skips the checks, PREFLIGHT=only or --dry-run stops after
them; RAY_ADDRESS names a Ray cluster that is running (train/rl/ray.sh starts one), else one on this machine is found.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vilasr.data_check.writing import write
from vilasr.prompts import ProfileError
from vilasr.tasks import DataError
from vilasr.training.grpo import metric_lines
from vilasr.training.grpo.checkpoints import add_profile, look, repair, set_aside_later
from vilasr.training.grpo.config import text_of, value_of
from vilasr.training.grpo.environment import for_cluster, process_environment
from vilasr.training.grpo.plan import CONFIG, FINISHED, Plan, make_plan
from vilasr.training.grpo.scratch import keep_logs, scratch
from vilasr.training.grpo.settings import profile_of
from vilasr.training.processes import wait_for
from vilasr.training.resume import claim, set_aside, write_settings

log = logging.getLogger(__name__)

PREFLIGHTS = ("on", "only", "off")


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
    if plan.trains and plan.back and plan.resume is not None:
        set_aside_later(output, plan.resume.step)
    repair(output, look(output, plan.contents))
    _complete(plan)
    if plan.trains:
        (output / FINISHED).unlink(missing_ok=True)
    step = plan.resume.step if plan.resume else 0
    metric_lines.begin(output, step if plan.trains else sys.maxsize)
    write_settings(output, plan.settings)
    config = for_cluster(plan.config, environment) if plan.nodes.address else plan.config
    text = text_of(config)
    file = output / CONFIG
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        set_aside(file, file.stem, file.suffix)
    write(file, text)


def _complete(plan: Plan) -> None:
    """A kill may have come between verl's checkpoint and the profile beside its weights."""
    last = plan.resume
    if last is not None and last.path.parent.resolve() == plan.output.resolve():
        add_profile(last.path, profile_of(plan.config).source)


def run(plan: Plan) -> int:
    """Train; returns the exit status."""
    with claim(plan.output) as lock, scratch() as folder:
        plan.check_unchanged()
        environment = process_environment(plan.config, os.environ, plan.nodes.address, _names(plan, folder))
        prepare(plan, environment)
        try:
            status = wait_for(command(plan, folder / "ray"), environment, [lock])
        finally:
            metric_lines.end(plan.output)
        _tell_end(plan, status, folder / "ray")
        return status


def _names(plan: Plan, folder: Path) -> Path | None:
    if not plan.on_cpu:
        return None
    from vilasr.training.vllm_name import provide_distribution

    return provide_distribution(folder / "names")


def _tell_end(plan: Plan, status: int, ray: Path) -> None:
    if not status:
        if not plan.trains:
            log.info("validation ended")
            return
        write(plan.output / FINISHED, json.dumps(plan.aim) + "\n")
        log.info("training ended; checkpoints: %s", plan.output)
        return
    last = look(plan.output, plan.contents).last
    how = "the same command without trainer.resume_mode=disable" if plan.fresh else "the same command"
    how = "the same command without trainer.resume_mode=resume_path" if plan.back else how
    again = f"{how} goes on from {last.path}" if last else "no checkpoint was written yet"
    kept = keep_logs(ray, plan.output)
    log.error("training ended with status %d; %s%s", status, again, f"; Ray's logs: {kept}" if kept else "")


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
            with claim(plan.output):
                _complete(plan)
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
