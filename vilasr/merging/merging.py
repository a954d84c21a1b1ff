"""A checkpoint's shards become a model folder. Everything is checked before the first byte is written."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from vilasr.archives.files import explain
from vilasr.merging import adapters, companions, model_names, planning
from vilasr.merging.integrity import Checksums, DamagedError
from vilasr.merging.manifest import Manifest, Target
from vilasr.merging.planning import ADAPTER_CONFIG, ADAPTER_FOLDER, Dtype, Plan
from vilasr.merging.shard_files import ShardFiles, find
from vilasr.merging.sources import Sharded, Source, blocks, read_all, same_bits
from vilasr.tasks import DataError

log = logging.getLogger(__name__)


class Lora(StrEnum):
    """MERGE: into the weights. APART: as a PEFT folder `lora_adapter` beside the weights without it."""

    MERGE = "merge"
    APART = "apart"


@dataclass(frozen=True, slots=True)
class Options:
    """`local_dir`: `.../global_step_N` or its `actor`. `target_dir`: None for `actor/huggingface`. `max_shard_size` in
    bytes of tensors a file. `lora_alpha` where the checkpoint does not name it."""

    local_dir: Path
    target_dir: Path | None = None
    dtype: Dtype = Dtype.BFLOAT16
    max_shard_size: int = 5 * 10**9
    lora: Lora = Lora.MERGE
    lora_alpha: float | None = None
    profile: Path | None = None


@dataclass(frozen=True, slots=True)
class Merged:
    """`weights` are those of the folder by their names in memory, for `loading.verify`; without the base of a LoRA
    checkpoint there are none. `again`: all of it was there already."""

    folder: Path
    manifest: Manifest
    weights: dict[str, Source]
    bytes: int
    again: bool


def merge(options: Options) -> Merged:
    """Raises DataError for a checkpoint that cannot be merged and OutputError for a folder that cannot be written, each
    with one line that says what and where. What is written by then stays, and another run goes on with it."""
    files = find(options.local_dir)
    fingerprint = files.fingerprint()
    names = model_names.of_config(files.config_folder)
    weights, lora, lora_config = _sources(read_all(files), files, names, options)
    dtype = _dtype(weights or lora, options.dtype, files.folder)
    plan = planning.make({names.on_disk[name]: source for name, source in weights.items()}, lora, options.dtype,
                         options.max_shard_size)  # fmt: skip
    small = companions.collect(files.config_folder, options.profile, dtype)
    if lora_config:
        small[f"{ADAPTER_FOLDER}/{ADAPTER_CONFIG}"] = lora_config.encode()
    fingerprint = _fingerprint(fingerprint, plan, options, lora_config)
    session = f"{fingerprint} {[file.stat().st_mtime_ns for file in files.files]}"
    target = Target(options.target_dir or files.config_folder, fingerprint, session)
    _make_folder(target.folder)
    target.check_free()
    if earlier := target.complete(plan):
        log.info("%s: holds all of it already, compared by checksums", target.folder)
        target.update(small)
        manifest = _manifest(target, earlier.files, names, files, dtype, options)
        return Merged(target.folder, manifest, weights, plan.bytes, again=True)
    with target.opened():
        done = target.whole(plan)
        left = [file for file in plan.files if file.name not in done]
        target.check_space(left)
        if done:
            log.info("%s: goes on with %d of %d files that are whole", target.folder, len(done), len(plan.files))
        _write(target, plan, done, files)
        manifest = _manifest(target, done, names, files, dtype, options)
        target.commit(plan, manifest, small)
    return Merged(target.folder, manifest, weights, plan.bytes, again=False)


def _write(target: Target, plan: Plan, done: dict[str, Any], files: ShardFiles) -> None:
    """The files that are missing, while the checksums of the shards are compared."""
    checksums = Checksums(files, sum(file.source_bytes for file in plan.files))
    checksums.start()
    try:
        for file in plan.files:
            if file.name in done:
                checksums.advance(file.source_bytes)
                continue
            target.add(file, done, checksums.advance)
            log.info("%s: %.2f GB written", file.name, file.bytes / 1e9)
        checksums.finish()
    except DamagedError:
        target.discard()  # made of the damaged file, or it may be
        raise
    finally:
        checksums.stop()


def _sources(
    tensors: Mapping[str, Sharded], files: ShardFiles, names: model_names.ModelNames, options: Options
) -> tuple[dict[str, Source], dict[str, Source], str]:
    """Weights by their names in memory in the model's order, adapters by their names in a folder, and the adapters'
    configuration. Raises DataError where they are not the model's."""
    parted = adapters.part(tensors, files.folder)
    renamed = model_names.in_memory(parted.base, names)
    if len(set(renamed.values())) != len(renamed):
        raise DataError(f"{files.folder}: holds a tensor under two names, of older and newer versions of transformers")
    base = {renamed[name]: source for name, source in parted.base.items()}
    if base or not parted.pairs:
        model_names.check({name: source.shape for name, source in base.items()}, names, files.folder)
    elif options.lora is Lora.MERGE:
        raise DataError(
            f"{files.folder}: holds adapters alone, and no weights to merge them into; write them with --lora apart"
        )
    if not parted.pairs:
        return _untied(base, names, files), {}, ""
    settings = adapters.read_settings(files.folder, parted.pairs, options.lora_alpha)
    modules = {}
    for module, pair in parted.pairs.items():
        weight = f"{module}.weight"
        modules[model_names.in_memory([weight], names)[weight].removesuffix(".weight")] = pair
    parted = adapters.Parted(base, modules)
    if options.lora is Lora.MERGE:
        return _untied(adapters.merge(parted, settings, files.folder), names, files), {}, ""
    return _untied(base, names, files), adapters.apart(parted), adapters.adapter_config(parted, settings)


def _untied(weights: Mapping[str, Source], names: model_names.ModelNames, files: ShardFiles) -> dict[str, Source]:
    """Each tied weight once, under its first name. Raises DataError where two that must be the same differ."""
    found = {name: weights[name] for name in names.shapes if name in weights}
    for alias, main in names.tied.items():
        if alias not in weights:
            continue
        if main not in found:
            found[main] = weights[alias]
        elif not _same(found[main], weights[alias]):
            raise DataError(
                f"{files.folder}: tensors {main!r} and {alias!r} differ, and huggingface/config.json says that they "
                "are the same (tie_word_embeddings); set that to false to keep both"
            )
    return {name: found[name] for name in names.shapes if name in found}


def _same(one: Source, other: Source) -> bool:
    return all(same_bits(a, b) for a, b in zip(blocks(one), blocks(other), strict=True))


def _dtype(tensors: Mapping[str, Source], dtype: Dtype, where: Path) -> torch.dtype:
    """What the configuration says of the result."""
    if dtype is not Dtype.KEEP:
        return getattr(torch, dtype.value)
    return planning.kept_dtype(tensors, where)


def _fingerprint(shards: str, plan: Plan, options: Options, lora_config: str) -> str:
    digest = hashlib.sha256()
    layout = [(file.name, file.header.decode("latin-1")) for file in plan.files]
    digest.update(json.dumps([shards, layout, options.lora, options.lora_alpha, lora_config]).encode())
    return digest.hexdigest()


def _manifest(
    target: Target, done: Mapping[str, Any], names: model_names.ModelNames, files: ShardFiles, dtype: torch.dtype,
    options: Options,
) -> Manifest:  # fmt: skip
    step = next((part for part in reversed(files.folder.resolve().parts) if part.startswith("global_step_")), None)
    about = {
        "architecture": names.architecture,
        "checkpoint": step,
        "processes": files.world,
        "dtype": str(dtype).removeprefix("torch."),
        "lora": str(options.lora) if any(name.startswith(ADAPTER_FOLDER) for name in done) else None,
    }
    return Manifest(target.fingerprint, dict(done), {key: value for key, value in about.items() if value is not None})


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise explain(exc, folder) from exc
