"""Model folders and shards of a trainer: configuration, index, safetensors headers, pickles, notes of a merge."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path

from tests.fuzz.contract import Target, Violation
from tests.fuzz.mutation import bytes_mutator, json_mutator
from vilasr.checkpoints import inspect_checkpoint
from vilasr.data_check.limits import limits_of
from vilasr.merging import manifest
from vilasr.merging.adapters import Pair, read_settings
from vilasr.merging.companions import configuration
from vilasr.merging.reading import read_shard
from vilasr.merging.shard_files import find
from vilasr.tasks import DataError

_CONFIG = {
    "model_type": "qwen2_5_vl", "max_position_embeddings": 4096, "hidden_size": 64, "num_attention_heads": 4,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 16, "torch_dtype": "bfloat16",
    "text_config": {"max_position_embeddings": 2048, "num_attention_heads": 4, "hidden_size": 64,
    "num_hidden_layers": 2},
    "vision_config": {"depth": 2, "hidden_size": 32},
}  # fmt: skip
_INDEX = {"metadata": {"total_size": 8}, "weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors"}}


@cache
def _weights() -> bytes:
    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}}
    ).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


def _lay_out(folder: Path) -> Path:
    home = folder / "model"
    if not home.is_dir():
        home.mkdir(parents=True)
        (home / "tokenizer.json").write_text("{}")
        (home / "model-1.safetensors").write_bytes(_weights())
    (home / "config.json").write_text(json.dumps(_CONFIG))
    (home / "model.safetensors.index.json").write_text(json.dumps(_INDEX))
    return home


def config(data: bytes, folder: Path) -> object:
    home = _lay_out(folder)
    (home / "config.json").write_bytes(data)
    configuration(home / "config.json")
    return _told(home)


def _told(home: Path) -> object:
    found = inspect_checkpoint(home)
    if found.context < 1 or found.kv_bytes < 0 or found.default_context > 32768:
        raise Violation(f"a checkpoint of {found}")
    return found


def index(data: bytes, folder: Path) -> object:
    home = _lay_out(folder)
    (home / "model.safetensors.index.json").write_bytes(data)
    return _told(home)


def weights(data: bytes, folder: Path) -> object:
    home = _lay_out(folder)
    (home / "model-1.safetensors").write_bytes(data)
    return _told(home)


def processor(data: bytes, folder: Path) -> object:
    (folder / "preprocessor_config.json").write_bytes(data)
    return limits_of({"model_name_or_path": str(folder)}).processor.final_size(640, 480)


@cache
def _shards() -> tuple[bytes, ...]:
    import torch

    file = io.BytesIO()
    torch.save({"model.a.weight": torch.zeros(2, 3), "model.b.bias": torch.ones(4, dtype=torch.bfloat16)}, file)
    return (file.getvalue(),)


def shard(data: bytes, folder: Path) -> object:
    path = folder / "model_world_size_1_rank_0.pt"
    path.unlink(missing_ok=True)  # a mapped file must not change under its reader
    path.write_bytes(data)
    found = read_shard(path, 0, 1)
    return {name: (part.shape, str(part.dtype)) for name, part in found.parts.items()}


def world(data: bytes, folder: Path) -> object:
    (folder / "fsdp_config.json").write_bytes(data)
    if not (folder / "huggingface").is_dir():
        (folder / "huggingface").mkdir()
        (folder / "model_world_size_1_rank_0.pt").write_bytes(_shards()[0])
    return find(folder).world


class _Adapter:
    """Half of one, as far as its rank is asked for."""

    shape = (8, 16)


def lora(data: bytes, folder: Path) -> object:
    (folder / "lora_train_meta.json").write_bytes(data)
    pair = Pair(_Adapter(), _Adapter())  # type: ignore[arg-type]
    return read_settings(folder, {"a": pair}, None).scale


def notes(data: bytes, folder: Path) -> object:
    """A damaged list of what was merged is none."""
    (folder / "merge_manifest.json").write_bytes(data)
    return manifest.read(folder / "merge_manifest.json")


def _json(*values: object) -> tuple[bytes, ...]:
    return tuple(json.dumps(value).encode() for value in values)


_MANIFEST = {"version": 1, "fingerprint": "x", "files": {"model.safetensors": {"bytes": 3, "sha256": "ab"}}}
_PROCESSOR = {"min_pixels": 3136, "max_pixels": 351232, "patch_size": 14, "merge_size": 2, "size": {"longest_edge": 9}}

TARGETS = (
    Target("config", lambda: _json(_CONFIG, _CONFIG["text_config"]), config, json_mutator, (DataError,), often=1.5),
    Target("weight-index", lambda: _json(_INDEX), index, json_mutator, (DataError,), often=1),
    Target("safetensors", lambda: (_weights(),), weights, bytes_mutator, (DataError,), often=1.5),
    Target("processor", lambda: _json(_PROCESSOR), processor, json_mutator, (DataError,), often=2, named=False),
    Target("shard", _shards, shard, bytes_mutator, (DataError,), often=0.3),
    Target("fsdp-config", lambda: _json({"FSDP_version": 2, "world_size": 1}), world, json_mutator,
        (DataError,), often=2),
    Target("lora-meta", lambda: _json({"r": 8, "lora_alpha": 16, "task_type": "CAUSAL_LM"}), lora, json_mutator,
           (DataError,), often=2),
    Target("merge-manifest", lambda: _json(_MANIFEST), notes, json_mutator, often=2),
)  # fmt: skip
