"""Our section of an EasyR1 run's configuration, as it reaches the processes that Ray starts: in one variable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from vilasr.tasks import DataError

VARIABLE = "VILASR_EASYR1"
ATTENTIONS = ("flash_attention_2", "sdpa")


@dataclass(frozen=True)
class RunSettings:
    """`profile` is a YAML's path, or null for that beside the model; `max_pixels` replaces its image limit;
    `turn_tokens` its length of a reply. `rollouts` is the folder of the traces, or null. `attention` is that of the
    actor: flash_attention_2 needs flash-attn."""

    profile: str | None = None
    max_pixels: int | None = None
    turn_tokens: int | None = None
    beta: float = 0.0
    data_root: str | None = None
    held_out: int = 0
    rollouts: str | None = None
    attention: str = "flash_attention_2"

    def __post_init__(self) -> None:
        for name in ("max_pixels", "turn_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"vilasr.{name}: {value} must be at least 1, or null")
        if self.held_out < 0:
            raise DataError(f"vilasr.held_out: {self.held_out} must not be negative")
        if self.attention not in ATTENTIONS:
            raise DataError(f"vilasr.attention: {self.attention!r} must be one of {', '.join(ATTENTIONS)}")

    def to_variable(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}

    @staticmethod
    def from_environment(environment: Mapping[str, str]) -> RunSettings:
        """Raises KeyError where the launcher did not start this process."""
        return RunSettings(**json.loads(environment[VARIABLE]))
