"""What is in a model folder, and merging into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from vilasr.checkpoints import inspect_checkpoint
from vilasr.merging.merging import Merged, Options, merge
from vilasr.tasks import DataError


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Of all safetensors files, read by the library itself."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (it cannot be iterated over)
                assert name not in found
                found[name] = file.get_tensor(name)
    return found


def assert_same(folder: Path, other: Path) -> None:
    """Names, dtypes, shapes and every bit."""
    one, two = tensors(folder), tensors(other)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert tensor.dtype == two[name].dtype, name
        assert tensor.shape == two[name].shape, name
        assert torch.equal(tensor.view(torch.uint8), two[name].view(torch.uint8)), name


def assert_no_model(folder: Path) -> None:
    """That nobody takes it for one."""
    with pytest.raises(DataError):
        inspect_checkpoint(folder)


def merged(local_dir: Path, target_dir: Path | None, **options: Any) -> Merged:
    return merge(Options(local_dir, target_dir, **options))
