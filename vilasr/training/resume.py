"""What an output folder holds of an earlier run, and how to go on from there.

The trainer resumes from the highest `checkpoint-N` it finds, whole or not, and whatever the settings. Here a checkpoint
that was cut off is set aside, and a run with other settings is refused: `vilasr_run.json` keeps them.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.checkpoints import inspect_checkpoint
from vilasr.prompts import PROFILE_NAME
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

RUN_FILE = "vilasr_run.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
# They may differ between the parts of a run: none changes what is learned.
_FREE = {
    "dataloader_num_workers", "ddp_backend", "ddp_timeout", "gradient_accumulation_steps", "logging_steps",
    "overwrite_cache", "overwrite_output_dir", "output_dir", "per_device_train_batch_size", "plot_loss",
    "preprocessing_num_workers", "report_to", "resume_from_checkpoint", "run_name", "save_steps", "save_strategy",
    "save_total_limit", "tokenized_path", "trust_remote_code", "use_cpu",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Earlier:
    """An output folder's state. `checkpoint` is the last whole one, `incomplete` those cut off."""

    finished: bool
    checkpoint: Path | None
    incomplete: tuple[Path, ...]


def look(output: Path) -> Earlier:
    """What is there. Writes nothing."""
    found = []
    if output.is_dir():
        for path in output.iterdir():
            match = _CHECKPOINT.fullmatch(path.name)
            if match and path.is_dir():
                found.append((int(match[1]), path))
    paths = [path for _, path in sorted(found)]
    broken = tuple(path for path in paths if why_incomplete(path))
    whole = [path for path in paths if path not in broken]
    return Earlier((output / PROFILE_NAME).is_file(), whole[-1] if whole else None, broken)


def why_incomplete(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be gone on from; None if it can. The trainer writes `trainer_state.json` last."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "trainer_state.json, which is written last, is missing or cut off"
    if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
        return "trainer_state.json names no global_step"
    if not (checkpoint / "adapter_config.json").is_file():  # an adapter has no weights of a whole model
        try:
            inspect_checkpoint(checkpoint)
        except DataError as exc:
            return str(exc)
    latest = checkpoint / "latest"  # DeepSpeed's: the folder of its shards
    if latest.is_file():
        shards = list((checkpoint / latest.read_text().strip()).glob("*_optim_states.pt"))
        if len(shards) < processes_of(checkpoint):
            return f"it has {len(shards)} optimizer shards of {processes_of(checkpoint)} processes"
    elif not (checkpoint / "optimizer.pt").is_file():
        return "it has no optimizer state (save_only_model?)"
    return None


def processes_of(checkpoint: Path) -> int:
    """How many processes wrote the checkpoint."""
    return max(1, len(list(checkpoint.glob("rng_state_*.pth"))))


def settings_of(config: Mapping[str, Any], global_batch: int) -> dict[str, Any]:
    """What must not change between the parts of a run, as it stands in `vilasr_run.json`."""
    return {**{key: config[key] for key in sorted(config) if key not in _FREE}, "global_batch": global_batch}


def choose_checkpoint(output: Path, settings: Mapping[str, Any], world: int) -> Path | None:
    """The checkpoint to resume from; None to start. Raises DataError where what is there does not fit this run."""
    earlier = look(output)
    if earlier.finished or earlier.checkpoint is not None:
        _compare(output, settings)
    if earlier.checkpoint is None:
        return None
    wrote = processes_of(earlier.checkpoint)
    if (earlier.checkpoint / "latest").is_file() and wrote != world:
        raise DataError(
            f"{earlier.checkpoint}: was written by {wrote} processes under DeepSpeed, which cannot go on with {world}; "
            f"use {wrote} GPUs, or start over elsewhere: output_dir=... model_name_or_path={earlier.checkpoint}"
        )
    return earlier.checkpoint


def _compare(output: Path, settings: Mapping[str, Any]) -> None:
    path = output / RUN_FILE
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(old, dict):
            raise ValueError("no object")
    except FileNotFoundError:
        log.warning("%s is absent: that it was made with these settings is not checked", path)
        return
    except (OSError, ValueError) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); remove it to resume without comparing settings") from exc
    absent = "not set"
    changed = [
        f"{key} was {old.get(key, absent)}, now {settings.get(key, absent)}"
        for key in sorted({*old, *settings})
        if old.get(key, absent) != settings.get(key, absent)
    ]
    if changed:
        raise DataError(
            f"{output}: holds a run with other settings ({'; '.join(changed)}). Resume with the old "
            "ones, choose another output_dir=..., or start over with overwrite_output_dir=true (the old is kept aside)"
        )


def prepare_output(output: Path, settings: Mapping[str, Any], fresh: bool) -> None:
    """Set cut-off checkpoints aside, with `fresh` everything; then note the settings. Of one process alone."""
    if fresh and output.is_dir() and any(output.iterdir()):
        _set_aside(output, f"{output.name}.previous")
    output.mkdir(parents=True, exist_ok=True)
    for path in look(output).incomplete:
        log.warning("%s: %s", path, why_incomplete(path))
        _set_aside(path, f"incomplete-{path.name}")  # the trainer would rotate away any checkpoint-*
    part = output / f".{RUN_FILE}.part"
    part.write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, output / RUN_FILE)


def _set_aside(path: Path, name: str) -> None:
    number, aside = 1, path.with_name(f"{name}-1")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{name}-{number}")
    path.rename(aside)
    log.info("%s is now %s", path, aside)
