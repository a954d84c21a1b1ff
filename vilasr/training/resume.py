"""What an output folder holds of an earlier run, and how to go on from there.

The trainer resumes from the highest `checkpoint-N` it finds, whole or not, and whatever the settings. Here a checkpoint
that was cut off is set aside, and a run with other settings is refused: `vilasr_run.json` keeps them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.checkpoints import inspect_checkpoint
from vilasr.data_check.writing import write
from vilasr.prompts import PROFILE_NAME
from vilasr.tasks import DataError
from vilasr.training.recipe import ROOT

log = logging.getLogger(__name__)

RUN_FILE = "vilasr_run.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
# They may differ between the parts of a run: none changes what is learned.
_FREE = {
    "cache_dir", "dataloader_num_workers", "dataset_dir", "ddp_backend", "ddp_timeout", "flash_attn",
    "gradient_accumulation_steps", "logging_steps", "media_dir", "output_dir", "overwrite_cache",
    "overwrite_output_dir", "per_device_train_batch_size", "plot_loss", "preprocessing_num_workers", "report_to",
    "resume_from_checkpoint", "run_name", "save_steps", "save_strategy", "save_total_limit", "tokenized_path",
    "trust_remote_code", "use_cpu",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Earlier:
    """An output folder's state. `checkpoint` is the last that can be gone on from, `incomplete` are those cut off,
    `weights_only` whole ones without the optimizer's state (save_only_model)."""

    finished: bool
    checkpoint: Path | None
    incomplete: tuple[Path, ...]
    weights_only: tuple[Path, ...] = ()


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
    bare = tuple(path for path in whole if not _has_optimizer(path))
    going = [path for path in whole if path not in bare]
    finished = (output / PROFILE_NAME).is_file() and (output / RUN_FILE).is_file()
    return Earlier(finished, going[-1] if going else None, broken, bare)


def why_incomplete(checkpoint: Path) -> str | None:
    """Why a checkpoint is not whole; None if it is. The trainer writes `trainer_state.json` last."""
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
    return None


def _has_optimizer(checkpoint: Path) -> bool:
    return (checkpoint / "latest").is_file() or (checkpoint / "optimizer.pt").is_file()


def processes_of(checkpoint: Path) -> int:
    """How many processes wrote the checkpoint."""
    return max(1, len(list(checkpoint.glob("rng_state_*.pth"))))


def settings_of(config: Mapping[str, Any], global_batch: int) -> dict[str, Any]:
    """What must not change between the parts of a run, as it stands in `vilasr_run.json`. Folders count by their
    names: a disk may be mounted elsewhere next time."""
    kept = {key: config[key] for key in sorted(config) if key not in _FREE}
    for key in ("model_name_or_path", "deepspeed"):
        if isinstance(kept.get(key), str):
            kept[key] = Path(kept[key]).name
    return {**kept, "global_batch": global_batch}


def choose_checkpoint(output: Path, settings: Mapping[str, Any], world: int) -> Path | None:
    """The checkpoint to resume from; None to start. Raises DataError where what is there does not fit this run."""
    earlier = look(output)
    if earlier.finished or earlier.checkpoint is not None:
        compare_settings(
            output,
            settings,
            "Resume with the old ones, choose another output_dir=..., or start over with overwrite_output_dir=true "
            "(the old is kept aside)",
        )
    if earlier.finished:
        return None  # there is nothing to go on with
    if earlier.checkpoint is None and earlier.weights_only:
        raise DataError(
            f"{earlier.weights_only[-1]}: has no optimizer state (save_only_model), so the run cannot go on from it; "
            "start over with overwrite_output_dir=true, or elsewhere from its weights: model_name_or_path=..."
        )
    if earlier.checkpoint is None:
        return None
    wrote = processes_of(earlier.checkpoint)
    if (earlier.checkpoint / "latest").is_file() and wrote != world:
        raise DataError(
            f"{earlier.checkpoint}: was written by {wrote} processes under DeepSpeed, which cannot go on with {world}; "
            f"use {wrote} GPUs, or start over elsewhere: output_dir=... model_name_or_path={earlier.checkpoint}"
        )
    return earlier.checkpoint


def compare_settings(output: Path, settings: Mapping[str, Any], ways_out: str) -> None:
    """Raises DataError naming what an earlier run in `output` did with other settings, and the `ways_out`."""
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
        for key in sorted({*old, *settings} - _FREE)  # an older version may have written more
        if old.get(key, absent) != settings.get(key, absent)
    ]
    if changed:
        raise DataError(f"{output}: holds a run with other settings ({'; '.join(changed)}). {ways_out}")


def check_precious(output: Path, precious: Iterable[Path], key: str) -> None:
    """Raises DataError for an output folder, named by `key`, that is or holds what the training needs."""
    for path in (path.resolve() for path in precious if path.exists()):
        if path == output.resolve() or output.resolve() in path.parents:
            raise DataError(f"{key}: {output} is or holds {path}, which the training needs; choose another folder")


def file_digest(file: Path, key: str) -> str:
    """Of what is in a file that the configuration names by `key`. Raises DataError."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()[:16]
    except OSError as exc:
        raise DataError(f"{key}: {file} cannot be read ({exc.strerror}); unpack the archives with unzip.py") from exc


def check_output(config: Mapping[str, Any], fresh: bool) -> None:
    """Raises DataError for an output folder that holds what is not its own: with `fresh` it would be moved."""
    output = Path(config["output_dir"]).resolve()
    precious = [Path(config[key]) for key in ("model_name_or_path", "dataset_dir")]
    home = Path(os.path.expanduser("~"))  # unlike Path.home() no error for a user without one
    for path in (path.resolve() for path in (*precious, Path.cwd(), home, ROOT) if path.exists()):
        if path == output or output in path.parents:
            raise DataError(
                f"output_dir: {output} is or holds {path}, which the training needs; choose a folder of its own"
            )
    if fresh and output.is_dir() and any(output.iterdir()) and not _is_ours(output):
        raise DataError(f"output_dir: {output} was not made by a training; overwrite_output_dir=true does not touch it")
    if fresh and config.get("resume_from_checkpoint"):
        raise DataError("overwrite_output_dir=true and resume_from_checkpoint exclude each other; give one of them")


def _is_ours(output: Path) -> bool:
    return (output / RUN_FILE).is_file() or any(_CHECKPOINT.fullmatch(path.name) for path in output.iterdir())


@contextmanager
def claim(output: Path) -> Iterator[int]:
    """Two runs into one folder would destroy each other's checkpoints. Raises DataError while another has it. Gives the
    lock's file descriptor, for the process that writes there."""
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = output.with_name(f".{output.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise DataError(f"output_dir: another run is writing to {output}; wait for it, or choose another") from exc
        except OSError as exc:  # some network file systems have no locks
            log.warning("%s: cannot be locked (%s); see to it that no second run writes it", output, exc)
        yield file.fileno()


def prepare_output(output: Path, settings: Mapping[str, Any], fresh: bool, named: Path | None = None) -> None:
    """Set cut-off checkpoints aside (but for one that was `named`), with `fresh` everything; then note the settings. Of
    one process alone."""
    if fresh and output.is_dir() and any(output.iterdir()):
        set_aside(output, f"{output.name}.previous")
    output.mkdir(parents=True, exist_ok=True)
    for path in look(output).incomplete:
        if named is not None and path.resolve() == named.resolve():
            continue
        log.warning("%s: %s", path, why_incomplete(path))
        set_aside(path, f"incomplete-{path.name}")  # the trainer would rotate away any checkpoint-*
    write_settings(output, settings)


def write_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """For a later start to compare with."""
    write(output / RUN_FILE, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")


def complete_processor(checkpoint: Path, model: str) -> None:
    """LLaMA-Factory saves the processor after `trainer_state.json`: a run killed in between leaves weights that are
    whole and a processor that is not. It is the one of the `model` the run started from. Raises DataError."""
    files = [path for path in checkpoint.glob("*.json") if not path.name.endswith(".index.json")]
    named = {path.name for path in files}
    if named & {"processor_config.json", "preprocessor_config.json"} and all(map(_parses, files)):
        return
    from transformers import AutoProcessor  # seconds; only here

    try:
        AutoProcessor.from_pretrained(model).save_pretrained(checkpoint)
    except (OSError, ValueError) as exc:
        raise DataError(
            f"{checkpoint}: the run was killed while its processor was saved, and that of {model} cannot be read "
            f"({exc}); copy the processor and tokenizer files of the base model there"
        ) from exc
    log.warning("%s: its processor was cut off; it is that of %s again", checkpoint, model)


def _parses(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def set_aside(path: Path, name: str, ending: str = "") -> Path:
    """Give it the first free of the names `name-1`, `name-2`, ... (and the `ending`) in its folder, and return it."""
    number, aside = 1, path.with_name(f"{name}-1{ending}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{name}-{number}{ending}")
    path.rename(aside)
    log.info("%s is now %s", path, aside)
    return aside
