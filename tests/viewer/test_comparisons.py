import json
import random

import pytest

from tests.conftest import run_tool
from tests.viewer.cases import answered_rows, write_report, write_rows
from tests.viewer.test_page import Page
from vilasr.scoring import find_benchmark
from vilasr.scoring.compare import compare
from vilasr.scoring.items import Scored
from vilasr.scoring.table import comparison_table
from vilasr.tasks import DataError
from vilasr.viewer import Choice, collect
from vilasr.viewer.comparisons import Against, Change, compare_runs


def run(scores, task="x"):
    """Results by "id" or "id/digest", a score for each sample."""
    found = []
    for name, values in scores.items():
        item, _, digest = name.partition("/")
        samples = values if isinstance(values, tuple) else (values,)
        found += [Scored((item, digest), number, task, {"corrected": v}) for number, v in enumerate(samples)]
    return found


def letters(comparisons, number, against=Against.FIRST):
    (pair,) = [pair for pair in comparisons.pairs if pair.second == number and against in pair.against]
    return {"/".join(item).rstrip("/"): str(change) for item, change in pair.changes.items()}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0.0, 1.0, "f"),
        (1.0, 0.0, "b"),
        (1.0, 1.0, "r"),
        (0.0, 0.0, "w"),
        (0.5, 0.5, "p"),
        (0.3, 0.6, "f"),
        (0.6, 0.3, "b"),
        (0.9, 1.0, "f"),
        ((0.0, 1.0), (1.0, 1.0), "f"),
        ((0.0, 1.0), (1.0, 0.0), "p"),
        ((1.0, 1.0, 1.0), (1.0,), "r"),
        ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1), "p"),
        ((0.1,) * 10, (0.1,), "p"),
        ((0.0, 1.0), (0.0, 0.0), "b"),
    ],
)
def test_what_changed_by_hand(first, second, expected):
    assert letters(compare_runs(["m", "m"], [run({"a": first}), run({"a": second})]), 1) == {"a": expected}


def test_items_of_one_run_and_questions_that_changed_are_no_pairs():
    first = run({"a": 1.0, "gone": 1.0, "same/1": 0.0})
    second = run({"same/2": 1.0, "a": 1.0, "new": 0.0})
    comparisons = compare_runs(["m", "m"], [first, second])
    assert letters(comparisons, 1) == {"same/2": "o", "a": "r", "new": "o"}
    record = comparisons.pairs[0].record()
    assert (record["items"], record["only_first"], record["only_second"]) == (1, 2, 2)
    assert record["changes"] == {"f": 0, "b": 0, "r": 1, "p": 0, "w": 0}
    assert comparisons.changed == frozenset()


def test_counts_are_those_of_the_scorer():
    draw = random.Random(1)
    values = [0.0, 1.0, 1 / 3, 0.7]
    runs = [
        run({f"i{n}": tuple(draw.choice(values) for _ in range(3)) for n in draw.sample(range(120), 100)})
        for _ in range(2)
    ]
    (pair,) = compare_runs(["m", "m"], runs).pairs
    told = compare(*runs, find_benchmark("m"), "corrected")
    assert pair.comparison == told
    counts = pair.record()["changes"]
    assert (counts["f"], counts["b"], counts["r"] + counts["p"] + counts["w"]) == (told.better, told.worse, told.same)
    assert list(pair.changes.values()).count(Change.ONLY) == told.only_second > 0
    assert min(counts[change] for change in "fbp") > 0


def test_figures_are_those_evaluate_prints():
    """Of a graded benchmark with tasks, where a half is rounded as Python does."""
    first = run({"a": 0.0, "b": 0.25, "c": 1.0, "d": 0.0}, "near") + run({f"e{n}": 0.0 for n in range(4)}, "far")
    second = run({"a": 1.0, "b": 0.255, "c": 1.0, "d": 0.0}, "near") + run({f"e{n}": 1.0 for n in range(4)}, "far")
    (pair,) = compare_runs(["m", "m"], [first, second]).pairs
    record = pair.record()
    lines = comparison_table(pair.comparison, "x", "y").splitlines()
    printed = [" ".join(line.split()) for line in lines[4 : 4 + len(record["rows"])]]
    assert [" ".join(map(str, row)) for row in record["rows"]] == printed
    assert [row[0] for row in record["rows"]] == ["overall", "far", "near"]
    assert record["rows"][1] == ["far", 4, "0.0", "100.0", "+100.0", "[+100.0, +100.0]", record["rows"][1][6]]
    assert record["mcnemar"] is None, "scores are graded"
    (binary,) = compare_runs(["m", "m"], [run({"a": 0.0, "b": 1.0}), run({"a": 1.0, "b": 1.0})]).pairs
    assert f"p {binary.record()['mcnemar']}" in comparison_table(binary.comparison, "x", "y")


def test_three_runs_are_compared_with_the_first_and_with_the_one_before():
    runs = [run({"a": 0.0, "b": 1.0}), run({"a": 1.0, "b": 1.0}), run({"a": 1.0, "b": 0.0})]
    comparisons = compare_runs(["m", "m", "m"], runs)
    found = [(pair.first, pair.second, pair.against) for pair in comparisons.pairs]
    assert found == [
        (0, 1, (Against.FIRST, Against.BEFORE)),
        (0, 2, (Against.FIRST,)),
        (1, 2, (Against.BEFORE,)),
    ]
    assert letters(comparisons, 1) == {"a": "f", "b": "r"}
    assert letters(comparisons, 2) == {"a": "f", "b": "b"}
    assert letters(comparisons, 2, Against.BEFORE) == {"a": "r", "b": "b"}
    assert comparisons.change(Against.FIRST, 0, ("a", "")) is Change.NONE


def test_only_runs_of_one_benchmark_with_common_items_are_compared():
    same = run({"a": 0.0})
    assert not compare_runs(["m", "n"], [same, same]).pairs
    apart = compare_runs(["m", "n", "m"], [same, same, run({"b": 1.0})])
    assert (apart.pairs, apart.apart, apart.runs) == ((), ((0, 2),), frozenset())
    mixed = compare_runs(["n", "m", "n", "m"], [same, run({"b": 0.0}), same, run({"b": 1.0})])
    assert [(pair.comparison.benchmark, pair.first, pair.second) for pair in mixed.pairs] == [("n", 0, 2), ("m", 1, 3)]
    assert mixed.changed == {("m", ("b", ""))}


@pytest.fixture
def runs(tmp_path):
    """Two runs of 5 items each, one of them sampled twice; `own` is of one run alone."""
    first = {"fixed": "AA", "broken": "BB", "right": "BB", "wrong": "AA", "gone": "BB"}
    second = {"new": "BB", "fixed": "AB", "broken": "AA", "right": "BB", "wrong": "CC"}
    folders = [tmp_path / "cold" / "maze", tmp_path / "rl" / "maze", tmp_path / "rl" / "own"]
    for folder, answers in zip(folders, (first, second, {"fixed": "AB", "x": "B"}), strict=True):
        write_rows(folder, answered_rows(folder, answers))
    return folders


def chosen(runs, **choice):
    report = collect(runs, Choice(**choice))
    return [f"{entry.run}{entry.result.id}{entry.result.sample}" for entry in report.entries]


def test_traces_of_an_item_have_its_number_in_all_runs(runs):
    columns = collect(runs).columns()
    told = {}
    for n, item in enumerate(columns["id"]):
        told.setdefault((columns["run"][n], item), set()).add((columns["item"][n], columns["against_first"][n]))
    numbers = {key: next(iter(found))[0] for key, found in told.items()}
    assert all(len(found) == 1 for found in told.values()), "samples are of one item"
    assert numbers[0, "fixed"] == numbers[1, "fixed"] != numbers[0, "gone"]
    assert numbers[2, "fixed"] == numbers[2, "x"] == -1
    changes = {item: next(iter(told[1, item]))[1] for item in ("new", "fixed", "broken", "right", "wrong")}
    assert changes == {"new": "o", "fixed": "f", "broken": "b", "right": "r", "wrong": "w"}
    assert {next(iter(told[run, "fixed"]))[1] for run in (0, 2)} == {"-"}
    assert columns["against_first"] == columns["against_before"]


def test_of_runs_compared_a_choice_takes_whole_items(runs):
    both = ["0fixed0", "0fixed1", "0broken0", "0broken1", "1fixed0", "1fixed1", "1broken0", "1broken1"]
    assert chosen(runs, only_changed=True) == both
    assert chosen(runs, only_changed=True, limit=1) == both[:2] + both[4:6]
    assert chosen(runs[:2], limit=1) == both[:2] + both[4:6]
    assert chosen(runs, ids=("fixed",)) == [*both[:2], *both[4:6], "2fixed0", "2fixed1"]
    assert chosen(runs, only_wrong=True) == [
        *("0fixed0", "0fixed1", "0broken0", "0broken1", "0wrong0", "0wrong1"),
        *("1fixed0", "1fixed1", "1broken0", "1broken1", "1wrong0", "1wrong1", "2fixed0"),
    ]
    assert chosen(runs, ids=("broken",), only_wrong=True) == ["0broken0", "0broken1", "1broken0", "1broken1"]


def test_a_report_without_a_pair_chooses_traces_as_ever(runs):
    assert chosen(runs[2:], limit=1) == ["0fixed0"]
    assert chosen(runs[2:], only_wrong=True) == ["0fixed0"]
    assert chosen([runs[0], runs[2]], limit=3) == ["0fixed0", "0fixed1", "0broken0"]
    report = collect(runs[2:])
    assert not {"item", "against_first", "against_before"} & report.columns().keys()


@pytest.mark.parametrize(
    ("folders", "choice", "message"),
    [
        ((0, 1), Choice(only_changed=True, ids=("right",)), "no such item that is changed: right"),
        ((0, 2), Choice(only_changed=True), "needs two runs of one benchmark"),
        ((0,), Choice(only_changed=True), "needs two runs of one benchmark"),
    ],
)
def test_a_choice_of_nothing_is_told(runs, folders, choice, message):
    with pytest.raises(DataError, match=message):
        collect([runs[number] for number in folders], choice)


def test_equal_runs_have_no_change(tmp_path):
    folders = [tmp_path / name / "maze" for name in "ab"]
    for folder in folders:
        write_rows(folder, answered_rows(folder, {"a": "A", "b": "B"}))
    with pytest.raises(DataError, match="every item scores the same"):
        collect(folders, Choice(only_changed=True))


def test_the_page_holds_the_comparison_and_the_tool_chooses_by_it(runs, tmp_path):
    page = Page(write_report(tmp_path / "r.html", runs).read_text(encoding="utf-8"))
    index = json.loads(page.scripts["index"])
    (told,) = index["comparisons"]
    assert (told["benchmark"], told["first"], told["second"], told["items"]) == ("maze", 0, 1, 4)
    assert told["changes"] == {"f": 1, "b": 1, "r": 1, "p": 0, "w": 1}
    assert told["rows"][0][1:5] == [4, "50.0", "37.5", "-12.5"]
    single = Page(write_report(tmp_path / "s.html", runs[2:]).read_text(encoding="utf-8"))
    assert json.loads(single.scripts["index"])["comparisons"] == []
    done = run_tool("tools/view_traces.py", *runs[:2], "-o", tmp_path / "t.html", "--only-changed")
    assert (done.returncode, "8 of 20 traces" in done.stdout) == (0, True), done.stdout + done.stderr
    done = run_tool("tools/view_traces.py", runs[0], "-o", tmp_path / "u.html", "--only-changed")
    assert done.returncode == 2
    assert "--only-changed needs two runs" in done.stderr
    assert not (tmp_path / "u.html").exists()
