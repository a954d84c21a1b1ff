"""`official` equals the official scorers: a slice of the triples that `python -m tests.bench_parity` runs in full.

With VILASR_OFFICIAL_PYTHON naming an interpreter that has lmms-eval, and VILASR_OFFICIAL_SOURCES a folder of clones,
the same is asked of the official code itself.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests import bench_parity
from tests.bench_parity import ORACLES, PORT_ORACLES, compare_reports, random_sets, same_report
from tests.scoring import official
from tests.scoring.oracles import maze, relative_accuracy, spar_bench, vsi_bench
from tests.scoring.parity import example_of, our_official, our_published, our_report, same
from tests.scoring.triples import BENCHMARKS, OPTIONS, QUESTIONS, every_form, triples
from vilasr.scoring import find_benchmark
from vilasr.scoring.answers import corrected_accuracy
from vilasr.scoring.metrics import MRA_LIMITS, share_within
from vilasr.tasks import letters_in_question

SLICE = 1500
PYTHON = os.environ.get("VILASR_OFFICIAL_PYTHON", "")
SOURCES = os.environ.get("VILASR_OFFICIAL_SOURCES", "")
needs_official = pytest.mark.skipif(not PYTHON, reason="VILASR_OFFICIAL_PYTHON names no interpreter with lmms-eval")


def outcomes(benchmark: str, count: int = SLICE, seed: int = 1):
    for triple in triples(benchmark, count, seed):
        yield triple, our_official(benchmark, triple), ORACLES[benchmark](triple.task, triple.answer, triple.truth)


@pytest.mark.parametrize("benchmark", ORACLES)
def test_official_equals_the_oracle(benchmark):
    assert [row for row in outcomes(benchmark) if not same(row[1], row[2])] == []


@pytest.mark.parametrize("benchmark", ORACLES)
def test_official_equals_the_oracle_on_every_form(benchmark):
    for triple in every_form(benchmark):
        assert same(our_official(benchmark, triple), ORACLES[benchmark](triple.task, triple.answer, triple.truth)), (
            triple
        )


@pytest.mark.parametrize("benchmark", ["spar_bench", "mmsi_bench"])
def test_official_equals_the_oracle_where_the_question_holds_the_options(benchmark):
    asked = [t for t in (*triples(benchmark, SLICE, 3), *every_form(benchmark)) if t.kind == "choice"]
    assert len(asked) > 500
    for triple in asked:
        theirs = ORACLES[benchmark](triple.task, triple.answer, triple.truth)
        assert same(our_official(benchmark, triple, in_question=True), theirs), triple


@pytest.mark.parametrize("benchmark", QUESTIONS)
def test_corrected_is_the_same_wherever_the_options_stand(benchmark):
    seen = Counter()
    for triple in (*triples(benchmark, SLICE, 4), *every_form(benchmark)):
        if triple.kind == "choice":
            field, text = (corrected_accuracy(example_of(triple, place), triple.answer) for place in (None, benchmark))
            assert field == text, triple
            seen[field] += 1
    assert min(seen[0.0], seen[1.0]) > 100


@pytest.mark.parametrize("benchmark", QUESTIONS)
def test_the_options_in_the_questions_are_those_of_the_field(benchmark):
    assert letters_in_question(QUESTIONS[benchmark]) == OPTIONS


@pytest.mark.parametrize("benchmark", ["maze", "SpatialEval_spatialreal"])
def test_those_without_an_official_scorer_by_the_published_rule(benchmark):
    assert find_benchmark(benchmark).official is None
    for triple in triples(benchmark, SLICE, 1):
        assert same(our_published(triple), maze.published(triple.answer, triple.truth)), triple


@pytest.mark.parametrize("benchmark", ORACLES)
def test_the_triples_reach_right_wrong_and_partial_scores_of_every_task(benchmark):
    """A generator that only makes wrong answers would agree with anything."""
    seen: dict[str, Counter] = {}
    for triple, ours, _ in outcomes(benchmark):
        seen.setdefault(triple.task, Counter())["right" if ours == 1 else "wrong" if ours == 0 else "partial"] += 1
    assert set(seen) == set(BENCHMARKS[benchmark])
    for task, counts in seen.items():
        assert counts["right"] > 0.02 * counts.total(), (task, counts)
        assert counts["wrong"] > 0.2 * counts.total(), (task, counts)
        graded = task in vsi_bench.NUMBERS or task in spar_bench.LEVELS["Low"] or task == spar_bench.VIEW_CHANGE
        assert bool(counts["partial"]) == graded, (task, counts)


def test_the_triples_stop_the_code_of_vsi_bench_and_we_say_zero():
    stops = [(triple, ours) for triple, ours, theirs in outcomes("vsi_bench") if theirs == "ZeroDivisionError"]
    assert {ours for _, ours in stops} == {0.0}
    assert {float(triple.truth) for triple, _ in stops} == {0.0}


def test_triples_are_the_same_for_the_same_seed_and_others_for_another():
    first, again, other = (list(triples("spar_bench", 100, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_the_thresholds_to_the_last_bit():
    """Written down apart from numpy's linspace, equal to it, and to ours."""
    code = 1 - np.linspace(0.5, 0.95, int((0.95 - 0.5) / 0.05 + 2))
    assert tuple(relative_accuracy.LIMITS) == tuple(code.tolist()) == MRA_LIMITS


@pytest.mark.parametrize("most", [20, 60])
def test_relative_accuracy_of_all_small_whole_numbers(most):
    for truth in range(1, most):
        for said in range(most):
            error = abs(said - truth) / truth
            assert share_within(error) == relative_accuracy.met(error), (said, truth)


@pytest.mark.parametrize("benchmark", ["vsi_bench", "spar_bench"])
def test_reports_equal_the_oracles(benchmark):
    oracle = vsi_bench.report if benchmark == "vsi_bench" else spar_bench.report
    sets = random_sets(benchmark, 25, seed=1)
    told = [oracle([(t.task, our_official(benchmark, t)) for t in rows]) for rows in sets]
    assert compare_reports(benchmark, "oracle", sets, told, True).differ == []


def test_a_report_that_lacks_a_number_or_has_another_is_no_equal():
    ours = {"overall": 0.5, "route_planning": 0.5}
    assert same_report(ours, dict(ours))
    assert not same_report(ours, {"overall": 0.5})
    assert not same_report(ours, {"overall": 0.5, "route_planning": 0.5 + 1e-9})
    assert not same_report(ours, {"route_planning": 0.5}, port=True)
    assert not same_report(ours, "KeyError")


def test_directions_without_a_level():
    """Where a level has no items the code stops, or takes the others for types; we take the mean of what is there."""
    easy, hard = vsi_bench.LEVELS[0], vsi_bench.LEVELS[2]
    rows = [(easy, 1.0), (hard, 0.0), ("route_planning", 1.0)]
    assert vsi_bench.report(rows) == "KeyError"
    assert our_report("vsi_bench", rows)["overall"] == pytest.approx((0.5 + 1.0) / 2)
    rows = [(vsi_bench.LEVELS[1], 1.0), (hard, 0.0), ("route_planning", 1.0)]
    told = vsi_bench.report(rows)
    assert not isinstance(told, str)
    assert told["overall"] == pytest.approx(2 / 3)
    assert our_report("vsi_bench", rows)["overall"] == pytest.approx((0.5 + 1.0) / 2)


def places() -> list[tuple[str, str, Path | None]]:
    """(benchmark, code, where) of all that can be asked here."""
    found: list[tuple[str, str, Path | None]] = []
    for benchmark in BENCHMARKS:
        clone = Path(SOURCES or "-") / official.OFFICIAL[benchmark]
        if SOURCES and clone.is_dir():
            found.append((benchmark, official.OFFICIAL[benchmark], clone))
        if f"lmms-eval:{benchmark}" in official.PORTS:
            found.append((benchmark, f"lmms-eval:{benchmark}", None))
    return found


@needs_official
@pytest.mark.parametrize(("benchmark", "name", "place"), places())
def test_the_official_code_itself(benchmark, name, place):
    asked = list(triples(benchmark, 300, 2))
    _, theirs = official.scores(PYTHON, name, place, asked)
    for triple, outcome in zip(asked, theirs, strict=True):
        if name in PORT_ORACLES:
            assert PORT_ORACLES[name](triple.task, triple.answer, triple.truth) == pytest.approx(outcome), triple
        elif benchmark == "maze":
            assert same(our_published(triple), outcome), triple
        elif benchmark in ORACLES:
            assert same(our_official(benchmark, triple), outcome), triple
        else:
            assert outcome == "UnboundLocalError"


def test_an_official_code_that_does_not_start_is_an_error(tmp_path):
    with pytest.raises(official.OfficialError, match="SPAR: 0 lines for 2"):
        official.ask("python3", "SPAR", tmp_path / "nowhere", [{"task": "", "answer": "", "truth": ""}])


def test_the_bench_tells_a_difference(monkeypatch, capsys):
    """Exit status 1 and a line that says so where one rule is another."""
    assert bench_parity.main(["--triples", "120", "--sets", "2"]) == 0
    told = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in told[::2]] == ["vsi_bench", "spar_bench", "mmsi_bench", "maze"]
    assert all(line.split()[-2] == "0" for line in told)
    rule = vsi_bench.score
    monkeypatch.setitem(ORACLES, "vsi_bench", lambda task, answer, truth: rule(task, answer.strip(), truth))
    assert bench_parity.main(["--triples", "2000", "--sets", "2", "--examples", "1"]) == 1
    out = capsys.readouterr().out
    assert out.count("DIFFERS") == 1
    assert "Triple(task=" in out
    assert bench_parity.main(["--triples", "10", "--package-python", "no-such-python", "--sources", "."]) == 2
