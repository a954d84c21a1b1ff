"""One safetensors file, written from its beginning to its end: 8 bytes with the length of the header, the header (JSON,
padded with spaces to a multiple of 8), then the tensors without gaps. All offsets are known before the first byte."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from vilasr.archives.files import explain

PIECE = 1 << 20  # bytes of one write; measured: 8 MB at a time took twice as long
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of the file; `bytes` is its size there."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def can_hold(dtype: torch.dtype) -> bool:
    return dtype in _NAMES


def header(entries: Sequence[Entry], metadata: Mapping[str, str]) -> bytes:
    """The bytes before the first tensor. Entries of wider dtypes must come first, so that all are aligned."""
    content: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for entry in entries:
        assert not offset % entry.dtype.itemsize, entry.name
        content[entry.name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, offset + entry.bytes],
        }
        offset += entry.bytes
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is whole: its size in bytes and its SHA-256."""

    bytes: int
    sha256: str


def write(path: Path, head: bytes, tensors: Iterable[torch.Tensor]) -> Written:
    """Write header and tensors and flush them to the disk. Raises OutputError, and what `tensors` raises."""
    digest, size = hashlib.sha256(), 0
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as exc:
        raise explain(exc, path) from exc
    try:
        with ThreadPoolExecutor(1) as hasher:
            for data in _ahead(_contents(head, tensors)):
                hashed = hasher.submit(digest.update, data)  # while the system copies it to its cache
                try:
                    _write_all(handle, data)
                except OSError as exc:
                    raise explain(exc, path) from exc
                finally:
                    hashed.result()
                size += len(data)
        try:
            os.fsync(handle)
        except OSError as exc:
            raise explain(exc, path) from exc
    finally:
        os.close(handle)
    return Written(size, digest.hexdigest())


def _ahead(contents: Iterator[memoryview]) -> Iterator[memoryview]:
    """The same; the next one is read and checked by a thread while this one is used."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, contents, None)
        while (data := following.result()) is not None:
            following = reader.submit(next, contents, None)
            yield data


def _contents(head: bytes, tensors: Iterable[torch.Tensor]) -> Iterator[memoryview]:
    yield memoryview(head)
    for tensor in tensors:
        if tensor.numel():
            yield memoryview(tensor.contiguous().view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


def _write_all(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data[:PIECE]) :]


def file_digest(path: Path) -> Written:
    """Of a file as it is on the disk. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(PIECE)
        size = 0
        while read := file.readinto(buffer):
            digest.update(memoryview(buffer)[:read])
            size += read
    return Written(size, digest.hexdigest())
