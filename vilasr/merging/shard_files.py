"""Which files make a checkpoint: `model_world_size_W_rank_R.pt`, one a process."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from vilasr.tasks import DataError

_SHARD = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")
_FSDP_CONFIG = "fsdp_config.json"
CONFIG_FOLDER = "huggingface"


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """`files` in the order of their ranks; `folder` is where the trainer wrote them."""

    folder: Path
    files: tuple[Path, ...]

    @property
    def world(self) -> int:
        return len(self.files)

    @property
    def config_folder(self) -> Path:
        return self.folder / CONFIG_FOLDER

    def fingerprint(self) -> str:
        """A hash of the content that reads none of the weights: a shard is a zip file, whose directory holds the
        CRC-32 of each tensor. Raises DataError that names a file which is cut off."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.name}\n".encode())
            for entry in directory(file):
                digest.update(f"{entry.filename.partition('/')[2]} {entry.file_size} {entry.CRC}\n".encode())
        return digest.hexdigest()


def directory(file: Path) -> list[zipfile.ZipInfo]:
    """The records of a shard. Raises DataError where it is not whole."""
    status = file.stat() if file.is_file() else None
    return _directory(file, (status.st_mtime_ns, status.st_size) if status else ())


@functools.lru_cache(maxsize=256)
def _directory(file: Path, _: tuple[int, ...]) -> list[zipfile.ZipInfo]:
    """The records of a file made by torch.save; asked for several times, and there are thousands."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except FileNotFoundError as exc:
        raise DataError(f"{file}: is missing; copy it from where the checkpoint was written") from exc
    except Exception as exc:  # zipfile makes many things of damaged bytes
        raise DataError(f"{file}: is cut off or not written by torch.save ({exc}); copy it again") from exc


def find(local_dir: Path) -> ShardFiles:
    """`local_dir` is `.../global_step_N/actor` or `.../global_step_N`. Raises DataError."""
    if not local_dir.is_dir():
        raise DataError(f"{local_dir}: no such folder; name the actor folder of a checkpoint by --local_dir")
    ranks = _ranks(local_dir)
    folder = local_dir
    if not ranks and (local_dir / "actor").is_dir():
        folder = local_dir / "actor"
        ranks = _ranks(folder)
    if not ranks:
        raise DataError(
            f"{local_dir}: holds no model_world_size_*_rank_*.pt; name a folder .../global_step_N/actor by --local_dir"
        )
    if len(ranks) > 1:
        raise DataError(
            f"{folder}: holds shards of runs with {' and '.join(map(str, sorted(ranks)))} processes; move those away "
            "that do not belong to this checkpoint"
        )
    ((world, found),) = ranks.items()
    stated = _stated_world(folder)
    if stated is not None and stated != world:
        raise DataError(
            f"{folder}: the shards are named as those of {world} processes, but {_FSDP_CONFIG} says {stated}; the "
            "folder is mixed from two checkpoints: copy it again"
        )
    missing = [rank for rank in range(world) if rank not in found]
    if missing:
        name = f"model_world_size_{world}_rank_{missing[0]}.pt"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{folder / name}{more}: missing; copy it from the node that wrote it (each keeps its own)")
    beyond = sorted(rank for rank in found if rank >= world)
    if beyond:
        raise DataError(f"{found[beyond[0]]}: there are only ranks 0 to {world - 1}; move it away")
    return ShardFiles(folder, tuple(found[rank] for rank in range(world)))


def _ranks(folder: Path) -> dict[int, dict[int, Path]]:
    """Files by their world size and rank."""
    found: dict[int, dict[int, Path]] = {}
    for file in sorted(folder.iterdir()):
        if match := _SHARD.fullmatch(file.name):
            found.setdefault(int(match[1]), {})[int(match[2])] = file
    return found


def _stated_world(folder: Path) -> int | None:
    """What verl wrote down; EasyR1 does not."""
    path = folder / _FSDP_CONFIG
    try:
        world = json.loads(path.read_text(encoding="utf-8"))["world_size"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); copy it again") from exc
    if not isinstance(world, int):
        raise DataError(f"{path}: field 'world_size' is no whole number; copy it again")
    return world
