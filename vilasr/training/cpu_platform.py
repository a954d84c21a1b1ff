"""verl on a machine without an accelerator: for tests and for trying a recipe, not for training a real model.

`VERL_PLATFORM=cpu` with `VERL_USE_EXTERNAL_MODULES=vilasr.training.compat,vilasr.training.cpu_platform` makes verl
use it in every process. verl still asks Ray for a GPU for each worker, so Ray is told of a pretended one
(`+ray_kwargs.ray_init.num_gpus=1`), and its engines are registered for CUDA (`VERL_ENGINE_DEVICE=cuda`).
"""

from __future__ import annotations

import platform
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def _now(*_: Any) -> int:
    """Bytes of memory this process holds now, libraries and all: no allocator tells apart what tensors take."""
    return psutil.Process().memory_info().rss


def _peak(*_: Any) -> int:
    """The most bytes this process held since its start or the last reset."""
    with suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # may be the parent's, from before this program


def _reset_peak(*_: Any) -> None:
    with suppress(OSError):  # where the system cannot, the peak is that of the whole process
        _RESET.write_text("5")


def _free_and_total(*_: Any) -> tuple[int, int]:
    """Of the machine: what can be had without swapping, and all there is. Other processes share it."""
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def _nothing(*_: Any) -> None:
    """torch hands freed memory back to the system by itself, and there are no handles of another process to drop."""


class CPUDevice(ModuleType):
    """`torch.cpu`, and what verl takes to be in `torch.cuda` beside it."""

    memory_allocated = memory_reserved = staticmethod(_now)  # nothing is reserved beyond what is held
    max_memory_allocated = max_memory_reserved = staticmethod(_peak)
    reset_peak_memory_stats = staticmethod(_reset_peak)
    mem_get_info = staticmethod(_free_and_total)
    empty_cache = ipc_collect = staticmethod(_nothing)
    manual_seed = manual_seed_all = staticmethod(torch.manual_seed)

    @staticmethod
    def get_device_name(*_: Any) -> str:
        return platform.processor() or platform.machine()

    @staticmethod
    def get_rng_state(*_: Any) -> torch.Tensor:
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state: torch.Tensor, *_: Any) -> None:
        torch.set_rng_state(state)  # a resumed run comes here

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)


@PlatformRegistry.register(platform="cpu")
class CPUPlatform(PlatformBase):
    """What verl asks of a kind of device."""

    device_name = "cpu"  # type: ignore[assignment]  # verl declares these three as properties
    vendor_name = "cpu"  # type: ignore[assignment]
    device_module = CPUDevice("vilasr_cpu_device")  # type: ignore[assignment]

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False  # chosen by VERL_PLATFORM, never by looking around: a machine with a GPU has a CPU too

    def current_device(self) -> str:  # type: ignore[override]  # verl calls tensor.to(): an int would mean a GPU
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None: ...

    def synchronize(self, device_index: int | None = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None: ...  # they are CUDA's

    def empty_cache(self) -> None: ...

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"  # Ray sets it for the GPU it believes in

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:  # type: ignore[override]  # verl's lacks the decorator's type
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False  # weights go to vLLM through shared memory

    def cudart(self) -> None:
        return None
