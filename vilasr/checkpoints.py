"""A checkpoint folder, looked at before a model library is: is it whole, what is its context, what is its content."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from vilasr.tasks import DataError

_BLOCK = 1 << 20
_LONGEST_CONTEXT = 32768  # tokens; more than any episode here needs, and less than it takes to reserve 128k
_SAMPLES = 32  # pieces of a large file that its fingerprint reads


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`context` is the longest position the model was made for, in tokens; `kv_bytes` what one token takes in a
    16-bit key-value cache; `fingerprint` hashes the content."""

    path: Path
    context: int
    kv_bytes: int
    fingerprint: str

    @property
    def default_context(self) -> int:
        """The context a run gets where none is asked for: the model's own, at most 32768 tokens."""
        return min(self.context, _LONGEST_CONTEXT)


def inspect_checkpoint(path: Path) -> Checkpoint:
    """Raises DataError that names what is missing or damaged and says what to do."""
    if not path.is_dir():
        raise DataError(
            f"{path}: no such checkpoint folder; download or train one, and name it by CKPT or --checkpoint"
        )
    config = _read_json(path / "config.json")
    if not (path / "tokenizer.json").is_file() and not (path / "vocab.json").is_file():
        raise DataError(f"{path}: no tokenizer.json; copy the tokenizer and processor files of the base model here")
    index = path / "model.safetensors.index.json"
    if index.is_file():
        weights = _read_json(index).get("weight_map")
        if not isinstance(weights, dict) or not weights or not all(isinstance(v, str) for v in weights.values()):
            raise DataError(f"{index}: field 'weight_map' is missing or names no files; copy the file again")
        shards = sorted(set(weights.values()))
        if outside := [name for name in shards if not name or name in (".", "..") or "/" in name or "\\" in name]:
            raise DataError(f"{index}: field 'weight_map' names {outside[0]!r}, no file of this folder; do not use it")
    else:
        shards = ["model.safetensors"]
    for shard in shards:
        _check_safetensors(path / shard)
    text = config.get("text_config") or config
    context = text.get("max_position_embeddings") if isinstance(text, dict) else None
    if isinstance(context, bool) or not isinstance(context, int) or context < 1:
        raise DataError(
            f"{path / 'config.json'}: field 'max_position_embeddings' must be a whole number above 0; copy it again"
        )
    return Checkpoint(path, context, _kv_bytes(text), _fingerprint(path))


def _kv_bytes(text: dict) -> int:
    """Keys and values of all layers for one token, 2 bytes each; 0 where the configuration does not say."""
    try:
        heads = text["num_attention_heads"]
        head = text.get("head_dim") or text["hidden_size"] // heads
        counts = text["num_hidden_layers"], text.get("num_key_value_heads", heads), head
        if not all(isinstance(count, int) and 0 < count < 1 << 32 for count in counts):
            return 0
        return 2 * 2 * math.prod(counts)
    except (KeyError, TypeError, ArithmeticError):
        return 0


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise DataError(
            f"{path}: missing; is this a Hugging Face model folder? (sharded training checkpoints must be merged first)"
        ) from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise DataError(f"{path}: unreadable ({exc}); copy the file again") from exc
    if not isinstance(value, dict):
        raise DataError(f"{path}: must hold a JSON object; copy the file again")
    return value


def _check_safetensors(path: Path) -> None:
    """Header and length agree: finds truncated downloads without reading the weights."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= min(size, 100 * _BLOCK) else None
        if header is None:
            raise ValueError("header longer than the file")
        end = max((int(v["data_offsets"][1]) for k, v in header.items() if k != "__metadata__"), default=0)
    except FileNotFoundError as exc:
        raise DataError(f"{path}: missing; copy the checkpoint again") from exc
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as exc:
        raise DataError(f"{path}: not a safetensors file ({exc}); copy the file again") from exc
    if 8 + length + end != size:
        raise DataError(f"{path}: {size} bytes where its header says {8 + length + end}; copy the file again")


def _fingerprint(folder: Path) -> str:
    """A hash of the content that takes milliseconds: small files whole, of large ones size, first and last MiB, and
    pieces between them, as frozen parts stay the same. So a retrained checkpoint at the same path is noticed, and a
    moved one is the same."""
    kinds = (".json", ".safetensors", ".jinja", ".txt", ".yaml")
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in kinds and p.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            digest.update(file.read(_BLOCK))
            if size > 2 * _BLOCK:
                for number in range(1, _SAMPLES):
                    file.seek(_BLOCK + (size - 2 * _BLOCK) * number // _SAMPLES)
                    digest.update(file.read(_BLOCK // 16))
                file.seek(-_BLOCK, os.SEEK_END)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]
