"""Which tensor goes into which file, known to the byte before anything is written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch

from vilasr.merging.safetensors import Entry, can_hold, header
from vilasr.merging.sources import Source, blocks, not_finite
from vilasr.tasks import DataError

INDEX = "model.safetensors.index.json"
ADAPTER_FOLDER = "lora_adapter"
ADAPTER_CONFIG = "adapter_config.json"
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Dtype(StrEnum):
    """KEEP: as in the checkpoint. Otherwise all numbers with a fraction become this; whole numbers never change."""

    KEEP = "keep"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"

    def of(self, dtype: torch.dtype) -> torch.dtype:
        if self is Dtype.KEEP or not dtype.is_floating_point:
            return dtype
        return getattr(torch, self.value)


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor and what it becomes."""

    entry: Entry
    source: Source


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """`name` is relative to the target folder."""

    name: str
    outputs: tuple[Output, ...]

    @property
    def header(self) -> bytes:
        return header([output.entry for output in self.outputs], {"format": "pt"})

    @property
    def bytes(self) -> int:
        return len(self.header) + sum(output.entry.bytes for output in self.outputs)

    @property
    def source_bytes(self) -> int:
        return sum(math.prod(one.source.shape) * one.source.dtype.itemsize for one in self.outputs)

    def tensors(self, used: Callable[[int], None]) -> Iterator[torch.Tensor]:
        """Blocks of all tensors in the order of the file; `used` is told how many bytes of the sources were.

        Raises DataError that names file and tensor.
        """
        for output in self.outputs:
            for block in blocks(output.source):
                made = block.to(output.entry.dtype)
                if made is not block and (problem := not_finite(made)):
                    raise DataError(
                        f"{self.name}: tensor {output.entry.name!r}: holds {problem} as "
                        f"{str(output.entry.dtype).removeprefix('torch.')}, which its numbers do not fit; choose "
                        "another --dtype"
                    )
                yield made
                used(block.numel() * output.source.dtype.itemsize)


@dataclass(frozen=True, slots=True)
class Plan:
    """`index` is the text of the index file, None where there is one file or none."""

    files: tuple[PlannedFile, ...]
    index: str | None

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def parse_size(text: str) -> int:
    """ "5GB" (10^9), "2GiB", "500MB" or a number of bytes. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"{text!r} is no size; write 5GB, 500MB or a number of bytes")
    size = int(float(match[1]) * _UNITS[match[2].upper()])
    if size < 1:
        raise ValueError(f"{text!r} is too small")
    return size


def make(weights: Mapping[str, Source], adapters: Mapping[str, Source], dtype: Dtype, largest: int) -> Plan:
    """`weights` and `adapters` by the names they get. Files of at most `largest` bytes of tensors, in the order of
    `weights`; a larger tensor gets a file of its own. Raises DataError for a dtype that cannot be written."""
    groups: list[list[Output]] = []
    room = 0
    for output in _outputs(weights, dtype):
        if not groups or output.entry.bytes > room:
            groups.append([])
            room = largest
        groups[-1].append(output)
        room -= output.entry.bytes
    names = ["model.safetensors"]
    if len(groups) > 1:
        names = [f"model-{n:05d}-of-{len(groups):05d}.safetensors" for n in range(1, len(groups) + 1)]
    files = [PlannedFile(name, _aligned(group)) for name, group in zip(names, groups, strict=False)]
    index = _index(files) if len(files) > 1 else None
    if adapters:
        kept = [*_outputs(adapters, dtype)]
        files.append(PlannedFile(f"{ADAPTER_FOLDER}/adapter_model.safetensors", _aligned(kept)))
    return Plan(tuple(files), index)


def _outputs(tensors: Mapping[str, Source], dtype: Dtype) -> Iterator[Output]:
    for name, source in tensors.items():
        entry = Entry(name, source.shape, dtype.of(source.dtype))
        if not can_hold(entry.dtype):
            raise DataError(f"tensor {source.name!r}: {source.dtype} has no place in safetensors; choose a --dtype")
        yield Output(entry, source)


def _aligned(outputs: Sequence[Output]) -> tuple[Output, ...]:
    return tuple(sorted(outputs, key=lambda output: -output.entry.dtype.itemsize))


def _index(files: Sequence[PlannedFile]) -> str:
    entries = [(output.entry, file.name) for file in files for output in file.outputs]
    content = {
        "metadata": {
            "total_parameters": sum(entry.bytes // entry.dtype.itemsize for entry, _ in entries),
            "total_size": sum(entry.bytes for entry, _ in entries),
        },
        "weight_map": {entry.name: name for entry, name in sorted(entries, key=lambda pair: pair[0].name)},
    }
    return json.dumps(content, indent=2) + "\n"


def kept_dtype(weights: Mapping[str, Source], where: Path) -> torch.dtype:
    """The one dtype of all weights with a fraction. Raises DataError where there are several."""
    found: dict[torch.dtype, str] = {}
    for source in weights.values():
        if source.dtype.is_floating_point:
            found.setdefault(source.dtype, source.name)
    if len(found) != 1:
        what = " and ".join(f"{str(dtype).removeprefix('torch.')} ({name!r})" for dtype, name in found.items())
        raise DataError(f"{where}: mixes {what or 'no numbers with a fraction'}; choose one with --dtype")
    return next(iter(found))
