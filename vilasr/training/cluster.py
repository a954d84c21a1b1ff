"""Which processes train: nodes and GPUs a node from the environment, checked before anything starts.

The variables are torchrun's own: NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT, NPROC_PER_NODE.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from vilasr.tasks import DataError

DEFAULT_PORT = 29500


@dataclass(frozen=True, slots=True)
class Cluster:
    """`nodes` machines of `processes` each; this one is number `rank`, from 0. One process drives one GPU."""

    nodes: int = 1
    rank: int = 0
    processes: int = 1
    address: str = "127.0.0.1"
    port: int = DEFAULT_PORT

    @property
    def world(self) -> int:
        return self.nodes * self.processes


def read_cluster(environment: Mapping[str, str], gpus: int) -> Cluster:
    """The cluster the environment describes; `gpus` are those this machine has, 0 for a run on the CPU.

    Raises DataError naming the variable and what it should be.
    """
    nodes = whole_number(environment, "NNODES", 1, 1, 100_000)
    processes = whole_number(environment, "NPROC_PER_NODE", max(gpus, 1), 1, 1024)
    if gpus and processes > gpus:
        raise DataError(f"NPROC_PER_NODE is {processes}, but this machine shows {gpus} GPUs; lower it")
    if nodes == 1:
        port = whole_number(environment, "MASTER_PORT", 0, 0, 65535) or _free_port()
        return Cluster(1, whole_number(environment, "NODE_RANK", 0, 0, 0), processes, "127.0.0.1", port)
    if not environment.get("NODE_RANK"):
        also = f" (RANK is {environment['RANK']}: NODE_RANK=$RANK?)" if environment.get("RANK") else ""
        raise DataError(f"NODE_RANK is not set: with NNODES={nodes} give each node its number, 0 to {nodes - 1}{also}")
    rank = whole_number(environment, "NODE_RANK", 0, 0, nodes - 1)
    address = environment.get("MASTER_ADDR", "")
    if not address:
        raise DataError(f"MASTER_ADDR is not set: with NNODES={nodes} give every node the address of node 0")
    port = whole_number(environment, "MASTER_PORT", DEFAULT_PORT, 1, 65535)
    if rank == 0:
        _check_port(port)
    else:
        _check_address(address, port)
    return Cluster(nodes, rank, processes, address, port)


def whole_number(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """A variable's value, or the default where it is unset or empty. Raises DataError naming it."""
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise DataError(f"{name} is {text!r}; it must be a whole number from {least} to {most}")
    return int(text)


def _free_port() -> int:
    """One that nobody uses now: several runs on one machine must not meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as exc:
            raise DataError(
                f"MASTER_PORT {port} cannot be used on this node ({exc.strerror}); choose another on all"
            ) from exc


def _check_address(address: str, port: int) -> None:
    try:
        socket.getaddrinfo(address, port)
    except OSError as exc:
        raise DataError(f"MASTER_ADDR {address!r} is no address this node can resolve ({exc})") from exc


def accumulation_steps(target: int, per_device: int, world: int) -> int:
    """Gradient accumulation steps with which `world` processes of `per_device` samples make batches of `target`.

    Raises DataError where no whole number does, naming what would.
    """
    together = per_device * world
    if target % together == 0:
        return target // together
    fitting = [count for count in range(1, target + 1) if target % (per_device * count) == 0]
    numbers = ", ".join(map(str, fitting))
    processes = f"on {numbers} processes in all" if fitting else "on no number of processes"
    raise DataError(
        f"a batch of {target} cannot be shared by {world} processes of per_device_train_batch_size={per_device}: it "
        f"can {processes}. Use one of these (NPROC_PER_NODE, NNODES), another per_device_train_batch_size, or another "
        f"batch, as in GLOBAL_BATCH={max(1, round(target / together)) * together}"
    )
