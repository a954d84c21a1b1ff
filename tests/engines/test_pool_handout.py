"""Which engine gets which episode, and how many engines there are: no engine runs here."""

from __future__ import annotations

from pathlib import Path

import pytest

from vilasr.engines.pool_actor import one_line
from vilasr.engines.pool_handout import Handout
from vilasr.engines.pool_ray import variables_for
from vilasr.engines.pool_size import PoolSize, pool_size
from vilasr.tasks import DataError


def given(handout: Handout[str]) -> list[tuple[int, str]]:
    """All that can be handed out now."""
    found = []
    while (one := handout.next()) is not None:
        found.append((one[0], one[1].work))
    return found


def test_the_least_loaded_engine_gets_the_next_and_none_more_than_its_share():
    handout: Handout[str] = Handout(share=2, expected=2)
    tickets = {name: handout.add(name) for name in "abcdef"}
    assert handout.next() is None, "no engine is up yet"
    handout.join(7)
    handout.join(3)
    assert given(handout) == [(7, "a"), (3, "b"), (7, "c"), (3, "d")]
    handout.finish(tickets["b"])
    assert given(handout) == [(3, "e")]
    handout.finish(tickets["a"])
    handout.finish(tickets["c"])
    assert given(handout) == [(7, "f")]


def test_the_first_engine_leaves_the_others_their_part():
    handout: Handout[str] = Handout(share=64, expected=3)
    tickets = {name: handout.add(name) for name in "abcdefg"}
    handout.join(0)
    assert given(handout) == [(0, "a"), (0, "b"), (0, "c")], "a third of 7"
    handout.join(1)
    handout.join(2)
    assert [engine for engine, _ in given(handout)] == [1, 2, 1, 2]
    for ticket in tickets.values():
        handout.finish(ticket)


def test_engines_that_never_come_leave_nothing_undone():
    handout: Handout[str] = Handout(share=64, expected=8)
    tickets = {str(number): handout.add(str(number)) for number in range(20)}
    handout.join(0)
    order: list[str] = []
    while found := given(handout):
        for _, name in found:
            order.append(name)
            handout.finish(tickets[name])
    assert order == [str(number) for number in range(20)]


def test_what_ran_on_a_dead_engine_comes_first_then_alone_and_then_no_more():
    handout: Handout[str] = Handout(share=4, expected=2)
    for name in "abcdef":
        handout.add(name)
    handout.join(0)
    assert given(handout) == [(0, "a"), (0, "b"), (0, "c")]
    handout.leave(0)
    handout.join(1)
    assert given(handout) == [(1, "a"), (1, "b"), (1, "c")], "a first death may be anyone's"
    handout.leave(1)
    handout.join(2)
    assert given(handout) == [(2, "a")], "alone: neither b and c, nor the ones that never died"
    handout.leave(2)
    assert handout.verdicts() == [], "nothing has ever been finished: perhaps it is the engines"
    handout.join(3)
    engine, ticket = handout.next()
    assert (engine, ticket.work) == (3, "c"), "not the neighbour"
    handout.finish(ticket)
    assert [ticket.work for ticket in handout.verdicts()] == ["a"]
    assert handout.verdicts() == []
    assert given(handout) == [(3, "b")]


def test_the_only_one_left_is_condemned_though_nothing_was_finished():
    handout: Handout[str] = Handout(share=4, expected=1)
    handout.add("a")
    for death in range(3):
        assert handout.verdicts() == []
        handout.join(death)
        assert given(handout) == [(death, "a")]
        handout.leave(death)
    assert [ticket.work for ticket in handout.verdicts()] == ["a"]


def test_while_suspects_wait_one_engine_gets_empty_and_the_others_go_on():
    handout: Handout[str] = Handout(share=2, expected=2)
    tickets = {name: handout.add(name) for name in "abcdefgh"}
    for engine in (0, 1):  # a and b, twice
        handout.join(engine)
        assert given(handout)[:2] == [(engine, "a"), (engine, "b")]
        handout.leave(engine)
    handout.join(0)
    assert given(handout) == [(0, "a")]
    handout.join(1)
    assert given(handout) == [(1, "b")], "idle engines take suspects first"
    handout.finish(tickets["b"])
    assert given(handout) == [(1, "c"), (1, "d")]
    handout.finish(tickets["c"])
    assert given(handout) == [(1, "e")], "engine 0 is alone with a"
    handout.finish(tickets["a"])
    assert given(handout) == [(0, "f"), (0, "g")]


# ---- sizes


@pytest.mark.parametrize(
    ("wanted", "parallel", "gpus", "found"),
    [
        (None, 1, 0, None),
        (None, 1, 1, None),
        (None, 4, 4, None),
        (1, 1, 8, None),
        (None, 1, 8, (8, 1)),
        (None, 2, 8, (4, 2)),
        (None, 3, 8, (2, 3)),
        (3, 2, 8, (3, 2)),
        (2, 1, 0, (2, 0)),
    ],
)
def test_sizes_on_this_machine(monkeypatch, wanted, parallel, gpus, found):
    monkeypatch.setattr("vilasr.training.processes.visible_gpus", lambda: gpus)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    size = pool_size(wanted, parallel, {})
    assert size == (found and PoolSize(*found, threads=16 // found[0]))
    assert pool_size(wanted, parallel, {"RAY_ADDRESS": "local"}) == size


@pytest.mark.parametrize(
    ("wanted", "parallel", "nodes", "found"),
    [
        (None, 1, [(0, 8), (8, 64), (8, 128)], (16, 1, 8)),
        (None, 4, [(8, 64), (6, 64)], (3, 4, 32)),
        (2, 4, [(8, 64), (6, 64)], (2, 4, 32)),
        (None, 1, [(1, 8)], (1, 1, 8)),
        (None, 1, [(0, 8), (0, 8)], (1, 0, 16)),
        (4, 1, [(0, 8), (0, 8)], (4, 0, 4)),
    ],
)
def test_sizes_in_a_cluster(monkeypatch, wanted, parallel, nodes, found):
    monkeypatch.setattr("vilasr.training.grpo.nodes.ask_cluster", lambda address, environment: nodes)
    assert pool_size(wanted, parallel, {"RAY_ADDRESS": "10.0.0.1:6379"}) == PoolSize(*found, "10.0.0.1:6379")


@pytest.mark.parametrize(
    ("wanted", "parallel", "message"),
    [
        (9, 1, "--engines 9: this machine shows 8 GPUs, enough for 8 engines; lower it"),
        (3, 4, "--engines 3: this machine shows 8 GPUs, enough for 2 engines of 4 GPUs each; lower it"),
        (None, 16, "--tensor-parallel-size 16: this machine shows 8 GPUs; lower it"),
    ],
)
def test_sizes_that_cannot_be(monkeypatch, wanted, parallel, message):
    monkeypatch.setattr("vilasr.training.processes.visible_gpus", lambda: 8)
    with pytest.raises(DataError) as caught:
        pool_size(wanted, parallel, {})
    assert str(caught.value) == message


def test_what_engines_get_of_the_environment():
    user = {"PYTHONPATH": "mine", "VLLM_X": "1", "VLLM_API_KEY": "s", "HF_ENDPOINT": "http://me:pw@host", "HOME": "/h"}
    found = variables_for({**user, "OMP_NUM_THREADS": "3"}, PoolSize(2, 1, 8))
    root = str(Path(__file__).resolve().parents[2])
    assert found == {
        "PYTHONPATH": f"{root}:mine",
        "VLLM_X": "1",
        "OMP_NUM_THREADS": "3",
        "OMP_WAIT_POLICY": "passive",
    }
    assert variables_for({}, PoolSize(2, 1, 8))["OMP_NUM_THREADS"] == "8"


def test_one_line():
    assert one_line("a\n  b\tc") == "a b c"
    assert len(one_line("x " * 1000)) < 420
