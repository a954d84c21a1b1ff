"""The checkpoints that are made by real FSDP processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """`strategy`: fsdp, fsdp2, or fsdp-flat for FSDP1 without a device mesh, which saves ShardedTensors and which
    verl's merger cannot read. `fsdp_size`: processes of a shard group, -1 for all; the groups are replicas. `lora`:
    rank of an adapter, 0 for none."""

    strategy: str
    world: int
    dtype: str = "float32"
    fsdp_size: int = -1
    lora: int = 0
    lora_only: bool = False

    @property
    def name(self) -> str:
        parts = [self.strategy, str(self.world)]
        parts += [f"by{self.fsdp_size}"] * (self.fsdp_size > 0)
        parts += [self.dtype] * (self.dtype != "float32")
        parts += ["lora-only" if self.lora_only else "lora"] * (self.lora > 0)
        return "-".join(parts)

    @property
    def verl_can_merge(self) -> bool:
        return self.strategy != "fsdp-flat" and not self.lora_only


JOBS = (
    *(Job(strategy, world) for world in (1, 2, 4) for strategy in ("fsdp", "fsdp2")),
    *(Job(strategy, 4, fsdp_size=2) for strategy in ("fsdp", "fsdp2")),
    Job("fsdp2", 2, dtype="bfloat16"),
    Job("fsdp-flat", 2),
    Job("fsdp", 2, lora=4),
    Job("fsdp2", 2, dtype="bfloat16", lora=4),
    Job("fsdp2", 2, lora=4, lora_only=True),
)
