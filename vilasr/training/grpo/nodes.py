"""Which machines a GRPO run gets: those of a running Ray cluster, else this one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from vilasr.tasks import DataError
from vilasr.training.grpo.config import value_of, whole_number
from vilasr.training.processes import visible_gpus
from vilasr.training.ray_token import authentication

NODES, GPUS = "trainer.nnodes", "trainer.n_gpus_per_node"
_ASK = """import json, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
print(json.dumps([[int(node.get("GPU", 0)), int(node.get("CPU", 0))] for node in nodes]))
"""


@dataclass(frozen=True, slots=True)
class Nodes:
    """`count` machines of `gpus` each. Where `found` is 0 this machine has no GPU, and those are the recipe's. `slots`
    are the CPUs Ray counts on each machine; `address` is that of the cluster that is already running."""

    count: int
    gpus: int
    found: int
    slots: int
    address: str | None = None

    @property
    def world(self) -> int:
        return self.count * self.gpus


def find_nodes(
    config: DictConfig, given: Collection[str], environment: Mapping[str, str], own: Collection[str] = ()
) -> Nodes:
    """The machines for a configuration; `given` are the keys the user has set, which count if they can be had; `own`
    those of the recipe's file, whose number of GPUs is the most that are used of a machine. Raises DataError."""
    slots = value_of(config, "ray_kwargs.ray_init.num_cpus", os.cpu_count() or 1)
    if value_of(config, "trainer.device") == "cpu":
        return Nodes(1, 1, 1, slots)  # Ray is told of one GPU; verl runs one process
    wanted = whole_number(config, GPUS) if GPUS in given else None
    most = whole_number(config, GPUS) if GPUS in own else None
    address = running_cluster(environment)
    if address is not None:
        nodes = ask_cluster(address, environment)
        count = whole_number(config, NODES) if NODES in given else 0
        return _of_cluster(address, nodes, wanted or _within(nodes, most), count)
    if NODES in given and whole_number(config, NODES) > 1:
        raise DataError(
            f"{NODES}={value_of(config, NODES)}, but no Ray cluster is running; start one: bash train/rl/ray.sh head "
            "here, bash train/rl/ray.sh worker ADDRESS on the others"
        )
    found = visible_gpus()
    if not found:
        return Nodes(whole_number(config, NODES), whole_number(config, GPUS), 0, slots)
    if wanted is not None and wanted > found:
        raise DataError(f"{GPUS}={wanted}, but this machine shows {found} GPUs; lower it or leave it out")
    return Nodes(1, wanted or min(found, most or found), found, slots)


def _within(nodes: list[tuple[int, int]], most: int | None) -> int | None:
    """`most` where every node with GPUs has as many."""
    return most if most and all(gpus >= most for gpus, _ in nodes if gpus) else None


def _of_cluster(address: str, nodes: list[tuple[int, int]], wanted: int | None, count: int) -> Nodes:
    """`nodes` are (GPUs, CPUs) of each; those without a GPU do not train."""
    gpus = Counter(node[0] for node in nodes if node[0])
    if not gpus:
        raise DataError(f"the Ray cluster at {address} has no GPU; start it on machines that have: train/rl/ray.sh")
    if wanted is None and len(gpus) > 1:
        text = ", ".join(f"{times} with {number}" for number, times in sorted(gpus.items()))
        raise DataError(
            f"the nodes of the Ray cluster at {address} have different numbers of GPUs ({text}), and verl uses the "
            f"same on each; name one: {GPUS}={min(gpus)}, or take the others out of the cluster"
        )
    each = wanted or next(iter(gpus))
    fitting = [node for node in nodes if node[0] >= each]
    if len(fitting) < max(1, count):
        raise DataError(
            f"{NODES}={max(1, count)} {GPUS}={each}, but {len(fitting)} node(s) of the Ray cluster at {address} have "
            "as many GPUs; lower one, or let more nodes join: bash train/rl/ray.sh worker ADDRESS"
        )
    return Nodes(count or len(fitting), each, each, min(node[1] for node in fitting), address)


def running_cluster(environment: Mapping[str, str]) -> str | None:
    """The address of a Ray cluster: RAY_ADDRESS, or the one that `ray start` noted on this machine, if it answers."""
    given = environment.get("RAY_ADDRESS", "")
    if given == "local":
        return None
    if given and given != "auto":
        return given
    folder = Path(environment.get("RAY_TMPDIR") or "/tmp") / "ray"  # noqa: S108 (Ray's own place)
    try:
        address = (folder / "ray_current_cluster").read_text().strip()
        _knock(address)
    except (OSError, ValueError):
        if given:
            raise DataError("RAY_ADDRESS=auto, but no Ray cluster is running on this machine") from None
        return None
    return address


def ask_cluster(address: str, environment: Mapping[str, str]) -> list[tuple[int, int]]:
    """(GPUs, CPUs) of each node that is alive. Asked by a process of its own: Ray stays out of this one."""
    try:
        if "://" not in address:
            _knock(address)  # Ray would try for minutes
        command = [sys.executable, "-c", _ASK, address]
        settings = {**environment, **authentication(environment)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=settings)
    except (subprocess.TimeoutExpired, OSError, ValueError) as exc:
        raise DataError(
            f"RAY_ADDRESS: no Ray cluster answers at {address}; start it (bash train/rl/ray.sh head), or unset it"
        ) from exc
    try:
        return [(gpus, cpus) for gpus, cpus in json.loads(done.stdout.strip().splitlines()[-1])]
    except (IndexError, ValueError, TypeError) as exc:
        why = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise DataError(
            f"the Ray cluster at {address} cannot be asked ({why}). Is it running, and is ~/.ray/auth_token here "
            "the one of its head? To go on without it, unset RAY_ADDRESS or end it (bash train/rl/ray.sh stop)"
        ) from exc


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=5).close()
