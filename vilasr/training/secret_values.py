"""What of the environment goes to other nodes, and what does not, as it would stand in Ray's logs."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

# Of these the user's own go to the other nodes too; what looks like a secret does not.
_PASSED_ON = ("CUBLAS_", "GLOO_", "HF_", "NCCL_", "OMP_", "PYTORCH_", "RAY_DEDUP", "SWANLAB_", "TENSORBOARD_", "TORCH")
_PASSED_ON += ("VERL_", "VLLM_", "WANDB_")
_WORDS = ("KEY", "PASSWORD", "SECRET", "TOKEN")
_CREDENTIALS = re.compile(r"://[^/\s@]*@")  # of a URL, as in ://user:password@


def secret_name(name: str) -> bool:
    """Whether a variable of this name looks like a secret."""
    return any(word in name for word in _WORDS)


def has_credentials(value: str) -> bool:
    """Whether a URL with a user or password stands in it."""
    return _CREDENTIALS.search(value) is not None


def passed_on(environment: Mapping[str, str], wanted: Container[str]) -> dict[str, str]:
    """What processes on other nodes need of it: what is `wanted`, and the user's own settings of libraries."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if (name in wanted or (name.startswith(_PASSED_ON) and not secret_name(name))) and not has_credentials(value)
    }
