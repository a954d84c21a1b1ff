"""LoRA: a checkpoint of base weights and low-rank adapters, as PEFT names them in a training.

The adapted weight is W + (alpha / r) * B A. Merged, the sum is formed in float32, block by block of its rows, and
rounded once; apart, the adapters are written as a folder that PEFT and vLLM load.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vilasr.merging.sources import Source, not_finite, whole
from vilasr.tasks import DataError

META = "lora_train_meta.json"
_LARGEST_ALPHA = 1e9
PREFIX = "base_model.model."
_ADAPTER = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.default\.weight")
_OTHER = re.compile(r"\.lora_|\.modules_to_save\.|\.original_module\.|\.adapter_")


@dataclass(frozen=True, slots=True)
class Pair:
    """`down` (r, in) and `up` (out, r): A and B of the paper."""

    down: Source
    up: Source


@dataclass(frozen=True, slots=True)
class Parted:
    """`base`: weights by the names of the model without adapters. `pairs`: adapters by their module's name."""

    base: dict[str, Source]
    pairs: dict[str, Pair]


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """`scale` is alpha / r."""

    rank: int
    alpha: float
    task_type: str | None

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


def part(tensors: Mapping[str, Source], where: Path) -> Parted:
    """Tell adapters from base weights. Raises DataError for adapters of other kinds than LoRA on linear layers."""
    base: dict[str, Source] = {}
    sides: dict[str, dict[str, Source]] = {}
    for stored, tensor in tensors.items():
        name = stored.removeprefix(PREFIX)
        if match := _ADAPTER.fullmatch(name):
            sides.setdefault(match["module"], {})[match["side"]] = tensor
        elif _OTHER.search(name):
            raise DataError(
                f"{where}: tensor {stored!r}: only LoRA of linear layers under the name 'default' can be merged"
            )
        else:
            name = re.sub(r"\.base_layer\.(weight|bias)$", r".\1", name)
            if name in base:
                raise DataError(f"{where}: tensor {stored!r}: is there twice, with and without an adapter's name")
            base[name] = tensor
    pairs: dict[str, Pair] = {}
    for module, found in sides.items():
        if found.keys() != {"A", "B"}:
            (side,) = {"A", "B"} - found.keys()
            raise DataError(f"{where}: tensor '{module}.lora_{side}.default.weight': is missing; copy the files again")
        down, up = found["A"], found["B"]
        if len(down.shape) != 2 or len(up.shape) != 2 or down.shape[0] != up.shape[1]:
            raise DataError(
                f"{where}: tensor {down.name!r}: {list(down.shape)} does not fit {list(up.shape)}, its other half"
            )
        pairs[module] = Pair(down, up)
    return Parted(base, pairs)


def read_settings(folder: Path, pairs: Mapping[str, Pair], alpha: float | None) -> LoraSettings:
    """Rank and alpha as verl noted them, or `alpha` if given. Raises DataError."""
    ranks = {pair.down.shape[0] for pair in pairs.values()}
    if len(ranks) != 1:
        raise DataError(f"{folder}: adapters of several ranks {sorted(ranks)} cannot be merged here; merge with PEFT")
    (rank,) = ranks
    path = folder / META
    meta: dict[str, Any] = {}
    if path.exists():
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
            stated = int(meta["r"])
        except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError) as exc:
            raise DataError(f"{path}: cannot be read ({exc}); copy it again or give --lora-alpha") from exc
        if stated != rank:
            raise DataError(f"{path}: says rank {stated}, and the adapters are of rank {rank}; it is another run's")
    found = alpha if alpha is not None else meta.get("lora_alpha")
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 < found < _LARGEST_ALPHA:
        raise DataError(f"{path}: names no lora_alpha above 0; give the one of the training by --lora-alpha")
    task = meta.get("task_type")
    return LoraSettings(rank, float(found), task if isinstance(task, str) else None)


@dataclass(frozen=True)
class Merged:
    """A weight with its adapter, a `Source`. The small half `down` is kept in memory while it is read."""

    base: Source
    pair: Pair
    scale: float
    where: Path

    def __post_init__(self) -> None:
        if self.base.shape != (self.pair.up.shape[0], self.pair.down.shape[1]):
            raise DataError(
                f"{self.where}: tensor {self.pair.up.name!r}: an adapter for [{self.pair.up.shape[0]}, "
                f"{self.pair.down.shape[1]}] on a weight of {list(self.base.shape)}"
            )

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.base.dtype

    def rows(self, start: int, stop: int) -> torch.Tensor:
        up = self.pair.up.rows(start, stop).float()
        merged = torch.addmm(self.base.rows(start, stop).float(), up, whole(self.pair.down).float(), alpha=self.scale)
        if problem := not_finite(merged):
            raise DataError(f"{self.where}: tensor {self.name!r}: with its adapter it holds {problem}")
        return merged


def merge(parted: Parted, settings: LoraSettings, where: Path) -> dict[str, Source]:
    """The base weights, those with an adapter as `Merged`. Raises DataError for an adapter of no weight."""
    weights = dict(parted.base)
    for module, pair in parted.pairs.items():
        name = f"{module}.weight"
        if name not in weights:
            raise DataError(f"{where}: tensor {pair.down.name!r}: an adapter of {name!r}, which is not there")
        weights[name] = Merged(weights[name], pair, settings.scale, where)
    return weights


def apart(parted: Parted) -> dict[str, Source]:
    """The adapters by the names PEFT gives them in a folder."""
    found: dict[str, Source] = {}
    for module, pair in parted.pairs.items():
        found[f"{PREFIX}{module}.lora_A.weight"] = pair.down
        found[f"{PREFIX}{module}.lora_B.weight"] = pair.up
    return found


def adapter_config(parted: Parted, settings: LoraSettings) -> str:
    """`adapter_config.json`. Modules go by their last names where all modules of these names have an adapter."""
    last = {module.rpartition(".")[2] for module in parted.pairs}
    linear = {
        name.removesuffix(".weight")
        for name, weight in parted.base.items()
        if name.endswith(".weight") and len(weight.shape) == 2
    }
    others = {module for module in linear - parted.pairs.keys() if module.rpartition(".")[2] in last}
    content = {
        "peft_type": "LORA",
        "task_type": settings.task_type,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": settings.rank,
        "lora_alpha": int(settings.alpha) if settings.alpha.is_integer() else settings.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(parted.pairs if others or not linear else last),
        "fan_in_fan_out": False,
        "bias": "none",
        "modules_to_save": None,
    }
    return json.dumps(content, indent=2) + "\n"
