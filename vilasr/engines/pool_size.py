"""How many engines a run gets, and from where: this machine's GPUs, or those of a running Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from vilasr.tasks import DataError


@dataclass(frozen=True, slots=True)
class PoolSize:
    """`engines` engines of `gpus` GPUs each, with `threads` threads for what an engine computes on CPUs. `address` is
    that of a running Ray cluster."""

    engines: int
    gpus: int
    threads: int
    address: str | None = None


def pool_size(wanted: int | None, tensor_parallel: int, environment: Mapping[str, str]) -> PoolSize | None:
    """One engine for each GPU, or each `tensor_parallel` GPUs of a node, or as many as `wanted`. None: one engine, in
    this process. A cluster is used where RAY_ADDRESS names one. Raises DataError."""
    if environment.get("RAY_ADDRESS", "") not in ("", "local"):
        return _of_cluster(wanted, tensor_parallel, environment)
    if wanted == 1:
        return None
    from vilasr.training.processes import visible_gpus

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded, which is what counts the GPUs
    cpus = os.cpu_count() or 1
    engines = _engines(wanted, tensor_parallel, [(visible_gpus(), cpus)], "this machine shows")
    if engines == 1:
        return None
    gpus = tensor_parallel if visible_gpus() else 0
    return PoolSize(engines, gpus, max(1, cpus // engines))


def _of_cluster(wanted: int | None, tensor_parallel: int, environment: Mapping[str, str]) -> PoolSize:
    from vilasr.training.grpo.nodes import ask_cluster, running_cluster

    address = running_cluster(environment)
    assert address is not None  # as RAY_ADDRESS is set
    nodes = ask_cluster(address, environment)
    engines = _engines(wanted, tensor_parallel, nodes, f"the nodes of the Ray cluster at {address} have")
    with_gpus = [(gpus // tensor_parallel, cpus) for gpus, cpus in nodes if gpus >= tensor_parallel]
    if with_gpus:
        return PoolSize(engines, tensor_parallel, max(1, min(cpus // fit for fit, cpus in with_gpus)), address)
    return PoolSize(engines, 0, max(1, sum(cpus for _, cpus in nodes) // engines), address)


def _engines(wanted: int | None, tensor_parallel: int, nodes: list[tuple[int, int]], have: str) -> int:
    """`nodes` are (GPUs, CPUs) of each; without any GPU there is no more than one engine unless it is asked for."""
    fit = sum(gpus // tensor_parallel for gpus, _ in nodes)
    found = ", ".join(str(gpus) for gpus, _ in nodes if gpus)
    if found and not fit:
        raise DataError(f"--tensor-parallel-size {tensor_parallel}: {have} {found} GPUs; lower it")
    if found and wanted is not None and wanted > fit:
        each = f" of {tensor_parallel} GPUs each" if tensor_parallel > 1 else ""
        raise DataError(f"--engines {wanted}: {have} {found} GPUs, enough for {fit} engines{each}; lower it")
    return wanted or max(1, fit)
