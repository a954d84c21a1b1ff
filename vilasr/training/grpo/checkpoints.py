"""What a GRPO output folder holds of an earlier run, and which of it can be gone on from.

verl (0.9.1) writes `global_step_N/actor/{model,optim,extra_state}_world_size_W_rank_R.pt`, then
`global_step_N/data.pt`, then the tracker `latest_checkpointed_iteration.txt`, which alone it reads to resume. A kill
can leave any of them cut off, and an empty tracker crashes it; so all is looked at and mended before a start.
"""

from __future__ import annotations

import logging
import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vilasr.data_check.writing import write
from vilasr.merging.companions import configuration
from vilasr.prompts import PROFILE_NAME
from vilasr.tasks import DataError
from vilasr.training.resume import set_aside

log = logging.getLogger(__name__)

TRACKER = "latest_checkpointed_iteration.txt"
CONTENTS = ("model", "optimizer", "extra")  # what verl saves by default
_FOLDER = re.compile(r"global_step_(\d+)")
_SHARD = re.compile(r"(model|optim|extra_state)_world_size_(\d+)_rank_(\d+)\.pt")
_KINDS = {"model": "model", "optimizer": "optim", "extra": "extra_state"}
_DYING = ".removing-"
LAST_WRITTEN = "data.pt"  # verl's; EasyR1's has another name
_ASIDE = "incomplete-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole one, written by `world` processes."""

    path: Path
    step: int
    world: int


@dataclass(frozen=True, slots=True)
class Earlier:
    """`last` is the checkpoint to go on from, `broken` are those cut off, each with the reason; `tracked` is the step
    the tracker names, None where there is none, -1 where it cannot be read."""

    last: Checkpoint | None
    broken: tuple[tuple[Path, str], ...]
    tracked: int | None

    @property
    def in_order(self) -> bool:
        """Whether verl would resume from the right one."""
        return not self.broken and self.tracked == (self.last.step if self.last else None)


def look(output: Path, contents: Sequence[str] = CONTENTS, last_written: str = LAST_WRITTEN) -> Earlier:
    """What is there. Writes nothing."""
    last, broken = None, []
    for _, path in steps_in(output):
        try:
            last = read_checkpoint(path, contents, last_written)
        except DataError as exc:
            broken.append((path, str(exc)))
    return Earlier(last, tuple(broken), _tracked(output))


def steps_in(output: Path) -> list[tuple[int, Path]]:
    """The checkpoint folders by their numbers, lowest first."""
    if not output.is_dir():
        return []
    found = [(_FOLDER.fullmatch(path.name), path) for path in output.iterdir() if path.is_dir()]
    return sorted((int(match[1]), path) for match, path in found if match)


def _tracked(output: Path) -> int | None:
    try:
        return int((output / TRACKER).read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return -1


def read_checkpoint(path: Path, contents: Sequence[str] = CONTENTS, last_written: str = LAST_WRITTEN) -> Checkpoint:
    """Raises DataError that says why it is not whole."""
    name = _FOLDER.fullmatch(path.name)
    if name is None or not path.is_dir():
        raise DataError("it is no folder global_step_N")
    shards: dict[int, dict[str, dict[int, Path]]] = {}
    for file in (path / "actor").glob("*.pt"):
        if match := _SHARD.fullmatch(file.name):
            shards.setdefault(int(match[2]), {}).setdefault(match[1], {})[int(match[3])] = file
    if len(shards) != 1:
        found = f"those of {' and '.join(map(str, sorted(shards)))} processes" if shards else "none"
        raise DataError(f"actor/ must hold the files of one number of processes, and has {found}")
    ((world, kinds),) = shards.items()
    for kind in (_KINDS[content] for content in contents if content in _KINDS):
        for rank in range(world):
            _check_whole(kinds.get(kind, {}).get(rank, path / "actor" / f"{kind}_world_size_{world}_rank_{rank}.pt"))
    if not (path / "actor" / "huggingface" / "config.json").is_file():
        raise DataError("actor/huggingface/config.json is missing")
    _check_whole(path / last_written)
    return Checkpoint(path, int(name[1]), world)


def _check_whole(file: Path) -> None:
    """torch.save writes a zip file, whose directory stands at its end."""
    try:
        with zipfile.ZipFile(file) as content:
            content.infolist()
    except FileNotFoundError:
        raise DataError(f"{file.name} is missing") from None
    except (OSError, zipfile.BadZipFile) as exc:
        raise DataError(f"{file.name} is cut off ({exc})") from None


def check_world(checkpoint: Checkpoint, world: int) -> None:
    """Raises DataError where verl could not go on with so many processes: it reads shards only as they were written."""
    if checkpoint.world != world:
        raise DataError(
            f"{checkpoint.path}: was written by {checkpoint.world} processes, and verl cannot go on with {world}; use "
            f"{checkpoint.world} GPUs, or start over elsewhere from its merged weights (utils/model_merger.py "
            f"--local_dir {checkpoint.path / 'actor'}): trainer.default_local_dir=... actor_rollout_ref.model.path=..."
        )


def repair(output: Path, earlier: Earlier) -> None:
    """Set what was cut off aside, and let the tracker name the last whole checkpoint."""
    aside = None
    for path, why in earlier.broken:
        log.warning("%s: %s", path, why)
        aside = set_aside(path, f"{_ASIDE}{path.name}")
    if aside is not None:
        _keep_aside(aside)
    if earlier.in_order:
        return
    if earlier.last is not None:
        write(output / TRACKER, str(earlier.last.step))
        log.info("%s names step %d now", output / TRACKER, earlier.last.step)
    else:
        (output / TRACKER).unlink(missing_ok=True)


def _keep_aside(newest: Path) -> None:
    """Of what was cut off the `newest` alone: a job that fails again and again would fill the disk."""
    for path in newest.parent.glob(f"{_ASIDE}global_step_*"):
        if path != newest and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            log.info("%s, an earlier one that was cut off, is removed; %s is kept", path.name, newest.name)


def set_aside_later(output: Path, step: int) -> None:
    """Those after `step`, where a run goes back to it: they are another branch, which a later start would take for its
    own, and overwriting them in place would mix the two."""
    for number, path in steps_in(output):
        if number > step:
            set_aside(path, f"abandoned-{path.name}")
            log.warning("%s is after step %d, which the run goes back to; remove it when it is not needed", path, step)


def add_profile(checkpoint: Path, profile: str) -> None:
    """`put_profile` where there is none."""
    if not (checkpoint / "actor" / "huggingface" / PROFILE_NAME).is_file():
        log.info("%s gets the profile it was trained with", put_profile(checkpoint, profile))


def put_profile(checkpoint: Path, profile: str) -> Path:
    """The text of the profile the weights were trained with, where utils/model_merger.py and inference look for it."""
    folder = checkpoint / "actor" / "huggingface"
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / PROFILE_NAME, profile)
    return folder / PROFILE_NAME


def clean_configuration(checkpoint: Path) -> None:
    """verl writes the actor's attention into the model's configuration, where whatever loads it next would want it."""
    path = checkpoint / "actor" / "huggingface" / "config.json"
    write(path, configuration(path))


def keep_newest(output: Path, newest: Path, keep: int) -> list[Path]:
    """Remove the checkpoints before the `keep` last ones, 0 keeps all; returns those removed. `newest`, just written,
    stays, and unless it is whole so do all others. Folders of later numbers, of a run that was gone back on, stay."""
    for left in output.glob(f"{_DYING}*"):  # of a kill in the midst of it
        shutil.rmtree(left, ignore_errors=True)
    if keep < 1:
        return []
    last = read_step(newest)
    before = [path for step, path in steps_in(output) if step < last]
    removed = before[: max(0, len(before) - (keep - 1))]
    for path in removed:
        dying = path.with_name(f"{_DYING}{path.name}")
        path.rename(dying)  # at once: half a checkpoint must never look like one
        shutil.rmtree(dying)
    return removed


def read_step(path: Path) -> int:
    match = _FOLDER.fullmatch(path.name)
    if match is None:
        raise DataError(f"{path}: is no folder global_step_N")
    return int(match[1])
