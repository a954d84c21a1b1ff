import socket

import pytest

from vilasr.tasks import DataError
from vilasr.training.cluster import Cluster, accumulation_steps, read_cluster


def test_one_machine_takes_the_gpus_it_has_and_a_free_port():
    first, second = read_cluster({}, 8), read_cluster({"NPROC_PER_NODE": "2"}, 8)
    assert (first.nodes, first.rank, first.processes, first.world) == (1, 0, 8, 8)
    assert (second.processes, second.address) == (2, "127.0.0.1")
    assert first.port != 0
    assert read_cluster({}, 0).world == 1, "the CPU"
    assert read_cluster({"NPROC_PER_NODE": "2"}, 0).world == 2
    assert read_cluster({"MASTER_PORT": "12345", "NNODES": ""}, 1).port == 12345


def test_several_machines():
    node = {"NNODES": "4", "NODE_RANK": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    assert read_cluster(node, 8) == Cluster(4, 3, 8, "127.0.0.1", 29511)
    assert read_cluster(node, 8).world == 32
    del node["MASTER_PORT"]
    assert read_cluster(node, 8).port == 29500


FOUR = {"NNODES": "4", "NODE_RANK": "1", "MASTER_ADDR": "127.0.0.1"}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"NNODES": "four"}, "NNODES is 'four'; it must be a whole number"),
        ({"NNODES": "0"}, "NNODES is '0'"),
        ({"NNODES": "²"}, "NNODES is '²'"),
        ({"NODE_RANK": "1"}, "NODE_RANK is '1'; it must be a whole number from 0 to 0"),
        ({**FOUR, "NODE_RANK": "4"}, "from 0 to 3"),
        ({**FOUR, "NODE_RANK": "-1"}, "NODE_RANK is '-1'"),
        ({"NNODES": "4"}, "NODE_RANK is not set: with NNODES=4 give each node its number, 0 to 3$"),
        ({"NNODES": "4", "RANK": "2"}, r"RANK is 2: NODE_RANK=\$RANK"),
        ({"NNODES": "4", "NODE_RANK": "0"}, "MASTER_ADDR is not set"),
        ({**FOUR, "MASTER_ADDR": "no such host"}, "MASTER_ADDR 'no such host' is no address"),
        ({**FOUR, "MASTER_PORT": "70000"}, "MASTER_PORT is '70000'"),
        ({"NPROC_PER_NODE": "9"}, "NPROC_PER_NODE is 9, but this machine shows 8 GPUs"),
    ],
)
def test_what_is_wrong_is_named(environment, message):
    with pytest.raises(DataError, match=message):
        read_cluster(environment, 8)


def test_a_port_in_use_is_told_on_node_0():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(DataError, match=f"MASTER_PORT {port} cannot be used"):
            read_cluster({**FOUR, "NODE_RANK": "0", "MASTER_PORT": port}, 8)


@pytest.mark.parametrize(
    ("per_device", "world", "steps"), [(1, 1, 32), (1, 8, 4), (1, 32, 1), (2, 4, 4), (1, 16, 2), (4, 8, 1)]
)
def test_a_step_has_the_same_samples_on_any_number_of_gpus(per_device, world, steps):
    assert accumulation_steps(32, per_device, world) == steps


def test_where_no_accumulation_fits_the_message_says_what_would():
    with pytest.raises(DataError, match=r"by 6 processes.* on 1, 2, 4, 8, 16, 32 processes.*GLOBAL_BATCH=30"):
        accumulation_steps(32, 1, 6)
    with pytest.raises(DataError, match="GLOBAL_BATCH=64"):
        accumulation_steps(32, 1, 64)
    with pytest.raises(DataError, match="on no number of processes"):
        accumulation_steps(32, 5, 1)
