"""Hostile input in small: what once failed, and a seeded fuzz of every target.

The long run: python -m tests.bench_fuzz.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import contract
from tests.fuzz.contract import MESSAGE, Target, Violation, check_message
from tests.fuzz.mutation import bytes_mutator, json_mutator
from tests.fuzz.running import CORPUS, catch_signals, fuzz, kept, once
from tests.fuzz.table import targets
from vilasr.one_line import LONGEST, one_line
from vilasr.tasks import DataError

TARGETS = targets()
_SECONDS = 0.06  # for each target


@pytest.mark.parametrize("name", TARGETS)
def test_what_once_failed_and_a_few_hundred_more(name, tmp_path):
    catch_signals()
    target = TARGETS[name]
    for path in kept(target):
        failure = once(target, path.read_bytes(), tmp_path / "corpus")
        assert failure is None, f"{path}: {failure}"
    tally = fuzz(target, tmp_path, seed=0, count=300, seconds=_SECONDS)
    failures = {key: value for key, value in tally.failures.items() if value[0].kind != "ended"}  # pyarrow's own
    assert not failures, failures


def test_the_corpus_is_of_targets_that_exist():
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= set(TARGETS)


def _target(run, **more) -> Target:
    return Target("own", lambda: (b"[1]",), run, bytes_mutator, (DataError,), **more)


def test_the_contract_notices_each_breach(tmp_path, monkeypatch):
    catch_signals()
    calls = []

    def crash(data, folder):
        return 1 // 0

    def spin(data, folder):
        while True:
            pass

    def unsteady(data, folder):
        calls.append(1)
        return len(calls)

    def nameless(data, folder):
        raise DataError("something is wrong")

    def named(data, folder):
        raise DataError(f"{folder}: something is wrong")

    def wrong(data, folder):
        raise Violation("no")

    def kind(run, **more):
        failure = once(_target(run, **more), b"x", tmp_path)
        return failure and failure.kind

    assert kind(crash) == "crashed"
    assert kind(unsteady) == "unsteady"
    assert kind(nameless) == "wrong"
    assert kind(nameless, named=False) is None
    assert kind(named) is None
    assert kind(wrong) == "wrong"
    assert kind(crash, forked=True) == "crashed"
    monkeypatch.setattr(contract, "SECONDS", 0.1)
    assert kind(spin) == "slow"
    peaks = iter((0, contract.MEMORY + 1, contract.MEMORY + 1))
    monkeypatch.setattr(contract, "_peak", lambda: next(peaks))
    assert kind(lambda data, folder: 1) == "memory"


@pytest.mark.parametrize("text", ["", "a\nb", "x" * (MESSAGE + 1), "\x1b[2J", "\u202e"])
def test_messages_that_are_none(text):
    with pytest.raises(Violation):
        check_message(text, None)


def test_mutations_are_the_same_for_a_seed_and_differ():
    import random

    for mutate, seed in ((bytes_mutator, b"PK\5\6" * 9), (json_mutator, b'{"a": [1, {"b": "c"}]}')):
        first, again = random.Random(5), random.Random(5)
        made = [mutate(first, [seed]) for _ in range(300)]
        assert made == [mutate(again, [seed]) for _ in range(300)]
        assert len(set(made)) > 150


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=50) | st.text(alphabet="\n\t \x1b\u202e\ud800a", max_size=4000))
def test_one_line_is_one_line(text):
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= LONGEST
    assert one_line(line) == line
    assert str(DataError(text)) == line


def test_one_line_keeps_what_to_do():
    line = one_line("file.json: " + "x" * 9000 + "; copy it again")
    assert line.startswith("file.json: ")
    assert line.endswith("; copy it again")
    assert one_line("plain words, ä 門 👍") == "plain words, ä 門 👍"
