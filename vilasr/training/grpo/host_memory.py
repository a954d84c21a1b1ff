"""An estimate of the RAM that a node of a GRPO run takes.

- When it starts, FSDP's first process holds the whole model in `model_dtype`; with tied embeddings every process does.
- Later, the images of a step (or of a validation's batch) as pixel values, which TransferQueue keeps until the step
  ends, shared by the nodes; with adapters also vLLM's weights in bfloat16, once for each engine, while it sleeps
  (without, it lets them go); and what is offloaded.
- The programs themselves, for each GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from vilasr.prompts import Profile
from vilasr.training.grpo.config import value_of, whole_number
from vilasr.training.grpo.memory import lora_rank, trained, weight_bytes
from vilasr.training.grpo.nodes import Nodes
from vilasr.training.memory import GIB, Shape

_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
_UNITS = "transfer_queue.backend.SimpleStorage.num_data_storage_units"
_PROGRAMS = 6 * GIB  # of a GPU: the actor's process and vLLM's
_PATCH = 14 * 14  # pixels
_VALUES = 2 * 3 * _PATCH * 4  # bytes of a patch: two frames of three colours in float32


@dataclass(frozen=True, slots=True)
class Asked:
    """Of the data: how many questions one `validation` has, and how many images a question on average."""

    validation: int
    images: float


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Bytes on each node."""

    loading: int
    images: int
    resting: int  # vLLM's weights and what is offloaded
    programs: int

    @property
    def total(self) -> int:
        return self.programs + max(self.loading, self.images + self.resting)


def host_memory(
    shape: Shape, config: DictConfig, profile: Profile, nodes: Nodes, questions: Asked, tied: bool = False
) -> HostMemory:
    """`tied` are a model's embeddings."""
    size = weight_bytes(config) * shape.total
    engines = max(1, nodes.gpus // whole_number(config, f"{_ROLLOUT}.tensor_model_parallel_size"))
    sleeps = lora_rank(config) and value_of(config, f"{_ROLLOUT}.free_cache_engine", True)
    resting = 2 * shape.total * engines if sleeps else 0
    share = nodes.gpus / nodes.world
    if value_of(config, f"{_ACTOR}.fsdp_config.param_offload", False):
        resting += int(size * share)
    if value_of(config, f"{_ACTOR}.fsdp_config.optimizer_offload", False):
        resting += int(2 * weight_bytes(config) * trained(shape, config) * share)
    keepers = max(1, min(nodes.count, int(value_of(config, _UNITS, 1))))
    pixels = int(_episodes(config, questions) * images_an_episode(profile, questions) * image_bytes(profile))
    return HostMemory(size * (nodes.gpus if tied else 1), pixels // keepers, resting, _PROGRAMS * nodes.gpus)


def image_bytes(profile: Profile) -> int:
    """The pixel values of one image."""
    return profile.image.max_pixels // _PATCH * _VALUES


def images_an_episode(profile: Profile, questions: Asked) -> float:
    """Those that are asked about, and one drawn with each call; more are the exception."""
    return min(profile.budget.images, questions.images + profile.budget.calls)


def _episodes(config: DictConfig, questions: Asked) -> int:
    """The most that are kept at one time."""
    training = whole_number(config, "data.train_batch_size") * whole_number(config, f"{_ROLLOUT}.n")
    if value_of(config, "trainer.test_freq", -1) <= 0 and not value_of(config, "trainer.val_before_train", True):
        return training
    batch = value_of(config, "data.val_batch_size") or questions.validation
    return max(training, int(batch) * int(value_of(config, f"{_ROLLOUT}.val_kwargs.n", 1)))
