"""Whole tensors put together from all files, a block of rows at a time."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from vilasr.merging.layout import covers
from vilasr.merging.reading import Part, Shard, read_shard
from vilasr.merging.shard_files import ShardFiles
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

BLOCK = 8 << 20  # bytes of a block, so that it is still in the processor's cache when it is written


class Source(Protocol):
    """A tensor that can be read in blocks of its first dimension."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> torch.dtype: ...

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Elements `start` to `stop` of dimension 0, of `dtype` or wider; all of it for a tensor without dimensions.

        Raises DataError for NaN, Inf and copies that differ, naming file and tensor.
        """
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a tensor and where it comes from."""

    file: Path
    part: Part
    forget: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Sharded:
    """A tensor as a training left it. `pieces` make it once; `copies` are whole ones that must equal it."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: tuple[Piece, ...]
    copies: tuple[Piece, ...]

    def rows(self, start: int, stop: int) -> torch.Tensor:
        if not self.shape:
            return self._checked(self.pieces[0].part.tensor, self.pieces[0].file)
        self._forget()
        block, filled = None, 0
        for piece in self.pieces:
            offset, size = piece.part.box.offset, piece.part.box.size
            first, last = max(start, offset[0]), min(stop, offset[0] + size[0])
            if first >= last or not piece.part.box.count:
                continue
            found = self._checked(piece.part.tensor[first - offset[0] : last - offset[0]], piece.file)
            if (first, last) == (start, stop) and size[1:] == self.shape[1:]:
                block, filled = found, found.numel()
                break
            if block is None:
                block = torch.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
            columns = tuple(slice(o, o + s) for o, s in zip(offset[1:], size[1:], strict=True))
            block[(slice(first - start, last - start), *columns)] = found
            filled += found.numel()
        if block is None:
            block = torch.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        assert filled == block.numel(), self.name  # `covers` was asked
        for copy in self.copies:
            if not same_bits(block, copy.part.tensor[start:stop]):
                raise self._differs(copy)
        return block

    def _checked(self, found: torch.Tensor, file: Path) -> torch.Tensor:
        if problem := not_finite(found):
            raise DataError(
                f"{file}: tensor {self.name!r}: holds {problem}; the training diverged or the file is damaged: take an "
                "earlier checkpoint"
            )
        for copy in self.copies if not self.shape else ():
            if not same_bits(found, copy.part.tensor):
                raise self._differs(copy)
        return found

    def _differs(self, copy: Piece) -> DataError:
        return DataError(
            f"{copy.file}: tensor {self.name!r}: differs from that in {self.pieces[0].file.name}, though every process "
            "holds all of it; the files are of different checkpoints: copy them again"
        )

    def _forget(self) -> None:
        for piece in (*self.pieces, *self.copies):
            piece.forget()


def blocks(source: Source) -> Iterator[torch.Tensor]:
    """All of a tensor in order, at most BLOCK bytes at a time (or a row)."""
    if not source.shape or math.prod(source.shape) == 0:
        yield source.rows(0, source.shape[0] if source.shape else 1)
        return
    row = math.prod(source.shape[1:]) * source.dtype.itemsize
    step = max(1, BLOCK // row)
    for start in range(0, source.shape[0], step):
        yield source.rows(start, min(start + step, source.shape[0]))


def whole(source: Source) -> torch.Tensor:
    """All of a tensor in memory, a copy."""
    found = torch.empty(source.shape, dtype=source.dtype)
    flat, filled = found.view(-1), 0
    for block in blocks(source):
        flat[filled : filled + block.numel()] = block.reshape(-1)
        filled += block.numel()
    return found


def not_finite(tensor: torch.Tensor) -> str:
    """ "NaN" or "Inf" where there is one, else ""."""
    if not tensor.is_floating_point() or not tensor.numel():
        return ""
    low, high = torch.aminmax(tensor)  # NaN comes through; 20 times as fast as isfinite
    if torch.isnan(low) or torch.isnan(high):
        return "NaN"
    return "Inf" if torch.isinf(low) or torch.isinf(high) else ""


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Of finite numbers: 0 and -0 are the same here."""
    return one.dtype == other.dtype and torch.equal(one, other)


def read_all(files: ShardFiles) -> dict[str, Sharded]:
    """The tensors of a checkpoint by their names, in the order of the first file. Raises DataError where the files do
    not fit together."""
    shards = [read_shard(file, rank, files.world) for rank, file in enumerate(files.files)]
    first = shards[0]
    for shard in shards[1:]:
        if different := sorted(first.parts.keys() ^ shard.parts.keys()):
            name = different[0]
            where, not_where = (first, shard) if name in first.parts else (shard, first)
            raise DataError(
                f"{not_where.file}: lacks tensor {name!r}, which is in {where.file.name} ({len(different)} such); the "
                "files are of different checkpoints: copy them again"
            )
    return {name: _put_together(name, shards) for name in first.parts}


def _put_together(name: str, shards: Sequence[Shard]) -> Sharded:
    pieces = [Piece(shard.file, shard.parts[name], shard.forget) for shard in shards]
    first = pieces[0].part
    for piece in pieces[1:]:
        part = piece.part
        if (part.shape, part.whole) != (first.shape, first.whole):
            raise DataError(
                f"{piece.file}: tensor {name!r}: is of shape {list(part.shape)}, and of {list(first.shape)} in "
                f"{pieces[0].file.name}; the files are of different models: copy them again"
            )
        if part.dtype != first.dtype:
            raise DataError(
                f"{piece.file}: tensor {name!r}: is {_short(part.dtype)}, and {_short(first.dtype)} in "
                f"{pieces[0].file.name}; the files are of different checkpoints: copy them again"
            )
    if first.whole:
        return Sharded(name, first.shape, first.dtype, (pieces[0],), tuple(pieces[1:]))
    once = {piece.part.box: piece for piece in reversed(pieces)}  # replicas hold the same: the first one is read
    kept = tuple(piece for piece in pieces if once[piece.part.box] is piece)
    if not covers(first.shape, [piece.part.box for piece in kept]):
        raise DataError(
            f"{pieces[0].file.parent}: tensor {name!r}: the shards of all {len(pieces)} processes do not make it; they "
            "are of different runs: copy them again"
        )
    return Sharded(name, first.shape, first.dtype, kept, ())


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
