"""What a shard file holds, without running anything it says.

A shard is a pickle of tensors and of the classes torch describes their distribution by. torch.load builds plain tensors
(`weights_only=True`); of other classes only those of ALLOWED are known, and for each of them stands an inert one that
keeps what it is given. So files are read alike whichever torch wrote them, on GPUs or not, no process group is asked
for, and what a file says is never more than data. Tensors are memory-mapped: nothing is read before it is needed.

Verified with files that torch 2.11 wrote: FSDP1 and FSDP2, with and without a device mesh, on one and on two levels.
"""

from __future__ import annotations

import ctypes
import mmap
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vilasr.merging.layout import Box, local_box
from vilasr.merging.shard_files import directory
from vilasr.tasks import DataError

_FORGET_EACH = 8  # blocks
_LARGEST_PICKLE = 256 << 20  # bytes; of the largest models it takes some MB


class _Inert:
    """Keeps the arguments and the state it is given."""

    arguments: tuple[Any, ...] = ()

    def __new__(cls, *arguments: Any) -> _Inert:
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *arguments: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def get(self, name: str, place: int | None = None) -> Any:
        """A field of the state, or else the argument at `place`; None where there is neither."""
        state = getattr(self, "state", None)
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, Mapping) and name in part:
                return part[name]
        return self.arguments[place] if place is not None and place < len(self.arguments) else None


class _Wrapper(torch.Tensor):
    """Knows shape and dtype of the whole tensor, and holds what this process had of it."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise TypeError("is not a tensor to compute with")


class _DTensor(_Wrapper): ...


class _ShardedTensor(_Wrapper):
    def __setstate__(self, state: Any) -> None:
        self.kept = state


class _Mesh(_Inert): ...


class _Cut(_Inert): ...


class _Replicate(_Inert): ...


def _attribute(owner: Any, name: str) -> Any:
    """In the place of getattr, by which an enum's member and a class within a class are written. Looks nothing up."""
    return _Inert if owner is _ShardedTensor else _Inert(name)


ALLOWED: dict[str, Callable[..., Any]] = {
    # DTensor: FSDP2, and FSDP1 with a device mesh
    "torch.distributed.tensor.DTensor": _DTensor,
    "torch.distributed.tensor._dtensor_spec.DTensorSpec": _Inert,
    "torch.distributed.tensor._dtensor_spec.TensorMeta": _Inert,
    "torch.distributed.tensor._dtensor_spec.ShardOrderEntry": _Inert,
    "torch.distributed.tensor.placement_types.Shard": _Cut,
    "torch.distributed.tensor.placement_types.Replicate": _Replicate,
    "torch.distributed.device_mesh.DeviceMesh": _Mesh,
    "torch.distributed._mesh_layout._MeshLayout": _Inert,
    # ShardedTensor: FSDP1 without one
    "torch.distributed._shard.sharded_tensor.api.ShardedTensor": _ShardedTensor,
    "torch.distributed._shard.sharded_tensor.metadata.ShardedTensorMetadata": _Inert,
    "torch.distributed._shard.sharded_tensor.metadata.TensorProperties": _Inert,
    "torch.distributed._shard.sharded_tensor.metadata.MEM_FORMAT_ENCODING": _Inert,
    "torch.distributed._shard.sharded_tensor.shard.Shard": _Inert,
    "torch.distributed._shard.metadata.ShardMetadata": _Inert,
    "torch.distributed._shard.sharding_spec.chunk_sharding_spec.ChunkShardingSpec": _Inert,
    "torch.distributed.remote_device._remote_device": _Inert,
    "builtins.getattr": _attribute,
}


@dataclass(frozen=True, slots=True)
class Part:
    """What one process had of a tensor of `shape`: `tensor` is `box` of it. `whole`: no distribution was recorded, so
    every process should hold the same."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    box: Box
    tensor: torch.Tensor
    whole: bool


@dataclass(frozen=True, slots=True)
class Shard:
    """`forget` gives back the memory of what was read so far."""

    file: Path
    parts: dict[str, Part]
    forget: Callable[[], None]


def read_shard(file: Path, rank: int, world: int) -> Shard:
    """Raises DataError that names the file, the tensor or class, and what to do."""
    content = _load(file)
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{file}: holds no state dict; name a checkpoint of verl or EasyR1")
    parts: dict[str, Part] = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise DataError(f"{file}: entry {str(name)!r} is no tensor; is this the model's shard?")
        try:
            parts[name] = _part(value, rank, world)
        except _RankError as exc:
            raise DataError(f"{file}: {exc}") from exc
        except (ValueError, TypeError, AttributeError, LookupError) as exc:
            raise DataError(f"{file}: tensor {name!r}: its distribution cannot be read ({exc}); copy it again") from exc
        part = parts[name]
        if tuple(part.tensor.shape) != part.box.size:
            raise DataError(
                f"{file}: tensor {name!r}: process {rank} of {world} must hold {list(part.box.size)} of "
                f"{list(part.shape)}, and the file holds {list(part.tensor.shape)}; it belongs to another run"
            )
        if part.tensor.dtype != part.dtype:
            raise DataError(f"{file}: tensor {name!r}: is {part.tensor.dtype} inside {part.dtype}; copy it again")
    return Shard(file, parts, _forgetter(file))


class _RankError(ValueError):
    """A file of another rank or run."""


def _load(file: Path) -> Any:
    pickles = [entry for entry in directory(file) if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > _LARGEST_PICKLE:
        raise DataError(f"{file}: is not written by torch.save; name a checkpoint of verl or EasyR1")
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        torch.serialization.add_safe_globals([(stand_in, name) for name, stand_in in ALLOWED.items()])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(str(file), map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as exc:
        try:
            unknown = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
        except Exception:  # of a file this damaged; the first error is told
            unknown = []
        if unknown:
            raise DataError(
                f"{file}: needs {', '.join(sorted(unknown)[:3])} to be read, which no checkpoint of an FSDP training "
                "should; nothing of it was run"
            ) from exc
        raise DataError(f"{file}: does what only a harmful or damaged file does ({_first_line(exc)})") from exc
    except Exception as exc:  # whatever a damaged pickle makes of it
        raise DataError(f"{file}: cannot be read ({_first_line(exc)}); copy it again") from exc
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _first_line(exc: BaseException) -> str:
    text = str(exc).partition("WeightsUnpickler error:")[2] or str(exc)  # before it stands advice to trust the file
    return (text.strip() or type(exc).__name__).splitlines()[0][:200]


def _part(value: torch.Tensor, rank: int, world: int) -> Part:
    shape = tuple(value.shape)
    if isinstance(value, _DTensor):
        local, spec = value._local_tensor, value._spec  # type: ignore[attr-defined]  # state of the pickle
        return Part(shape, value.dtype, _dtensor_box(spec, shape, rank, world), _plain(local), False)
    if isinstance(value, _ShardedTensor):
        box, tensor = _only_shard(value.kept[0], shape, rank)
        return Part(shape, value.dtype, box, tensor, False)
    return Part(shape, value.dtype, Box((0,) * len(shape), shape), _plain(value), True)


def _plain(tensor: Any) -> torch.Tensor:
    if isinstance(tensor, _Wrapper) or not isinstance(tensor, torch.Tensor):
        raise ValueError("no tensor inside")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise ValueError("no ordinary tensor inside")
    return tensor.detach().as_subclass(torch.Tensor)


def _dtensor_box(spec: _Inert, shape: tuple[int, ...], rank: int, world: int) -> Box:
    mesh, placements = spec.get("mesh", 0), spec.get("placements", 1)
    if not isinstance(mesh, _Mesh) or not isinstance(placements, tuple):
        raise ValueError("no mesh and placements")
    sharded: list[int | None] = []
    for placement in placements:
        if not isinstance(placement, _Cut | _Replicate):
            raise ValueError("an unknown placement")
        sharded.append(int(placement.get("dim", 0)) if isinstance(placement, _Cut) else None)
    for entry in spec.get("shard_order") or ():
        order = entry.get("mesh_dims", 1)
        if list(order) != sorted(order):
            raise ValueError(f"cut in the order {list(order)} of the mesh's dimensions, which is not supported")
    ranks = _ranks(mesh)
    if ranks.numel() != world:
        raise _RankError(
            f"was written by one of {ranks.numel()} processes, and its name says {world}; restore the name it had"
        )
    writer = mesh.get("_rank")
    coordinate = mesh.get("_coordinate_on_dim")
    if writer is None and coordinate is not None:
        writer = int(ranks[tuple(coordinate)])
    if writer is not None and writer != rank:
        raise _RankError(f"was written by process {writer}, and its name says {rank}; restore the names the files had")
    place = (ranks == rank).nonzero()
    if len(place) != 1:
        raise ValueError(f"process {rank} is not in its mesh")
    return local_box(shape, sharded, tuple(ranks.shape), place[0].tolist())


def _ranks(mesh: _Mesh) -> torch.Tensor:
    """The processes' numbers, in the shape of the mesh. torch before 2.9 kept them like that, later as a layout."""
    direct = mesh.get("mesh")
    if isinstance(direct, torch.Tensor):
        return direct
    layout, ranks = mesh.get("_layout"), mesh.get("_rank_map")
    if not isinstance(layout, _Inert) or not isinstance(ranks, torch.Tensor):
        raise ValueError("a mesh without its processes")
    shape, stride = layout.get("shape", 0), layout.get("stride", 1)
    shape, stride = (value if isinstance(value, tuple) else (value,) for value in (shape, stride))
    if not all(isinstance(value, int) and value >= 0 for value in (*shape, *stride)):
        raise ValueError("a mesh of meshes, which is not supported")
    if len(shape) != len(stride) or sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) >= ranks.numel():
        raise ValueError("a mesh larger than its processes")
    return ranks.as_strided(shape, stride)


def _only_shard(shards: Any, shape: tuple[int, ...], rank: int) -> tuple[Box, torch.Tensor]:
    """FSDP1 gives each process one shard of a ShardedTensor, or none where there are fewer rows than processes."""
    if not isinstance(shards, list) or len(shards) > 1:
        raise ValueError("several shards in one process")
    if not shards:
        empty = (0, *shape[1:])
        return Box((0,) * len(shape), empty), torch.empty(empty)
    tensor, metadata = shards[0].get("tensor", 0), shards[0].get("metadata", 1)
    offset, size, owner = (metadata.get(name) for name in ("shard_offsets", "shard_sizes", "placement"))
    writer = owner.get("_rank") if isinstance(owner, _Inert) else None
    if writer is not None and writer != rank:
        raise _RankError(f"was written by process {writer}, and its name says {rank}; restore the names the files had")
    box = Box(tuple(map(int, offset)), tuple(map(int, size)))
    if len(box.offset) != len(shape) or min((*box.offset, *box.size), default=0) < 0:
        raise ValueError("a shard of other dimensions")
    return box, _plain(tensor)


def _forgetter(file: Path) -> Callable[[], None]:
    """The system would keep all that was read of a mapped file in this process's memory as long as there is room. To
    forget costs nothing: it stays in the system's cache, and a second look maps it again."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            lines = [line.split(maxsplit=5) for line in maps]
        advise, advice = ctypes.CDLL(None).madvise, mmap.MADV_DONTNEED
    except (OSError, AttributeError):  # not Linux: only the figures of memory differ
        return lambda: None
    resolved = str(file.resolve())
    ranges = [
        (int(start, 16), int(end, 16))
        for start, end in (line[0].split("-") for line in lines if len(line) == 6 and line[5].rstrip("\n") == resolved)
    ]

    calls = 0

    def forget() -> None:
        nonlocal calls
        calls += 1
        if calls % _FORGET_EACH:
            return  # what was read last may be in use still, and would be mapped again
        for start, end in ranges:  # of this file only, and never written to: so nothing can be lost
            advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), advice)

    return forget
