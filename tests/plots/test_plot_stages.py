"""tools/plot_stages.py: its numbers against those of eval/evaluate.py and by hand, its pictures, and bad input."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")

from tests.conftest import run_tool
from tests.plots.staged import ERROR, box, line, random_rows, row, staged
from tests.viewer.cases import failed_rows, write_rows
from vilasr.plots.stage_figures import _wrapped
from vilasr.plots.stage_numbers import numbers, paired_tests, question_types
from vilasr.plots.stages import read_stages, rule_of
from vilasr.scoring.spar_bench import SPAR_BENCH
from vilasr.scoring.vsi_bench import CHOICES, DIRECTION, DIRECTIONS, NUMBERS
from vilasr.traces import StopReason

SHARES = (
    "drew at least one mark", "every step well-formed", "at least one unusable step", "reflection (Eq. 5)",
    "reflection, strict",
)  # fmt: skip
PICTURES = ("accuracy", "behaviour", "endings", "steps")


def plotted(out: Path, *words: object, status: int = 0):
    done = run_tool("tools/plot_stages.py", *words, "-o", out)
    assert done.returncode == status, done.stderr
    return done


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def by_key(out: Path) -> dict[tuple[str, str, str, str], dict[str, str]]:
    rows = read(out / "numbers.csv")
    found = {(one["benchmark"], one["type"], one["stage"], one["quantity"]): one for one in rows}
    assert len(found) == len(rows)
    return found


def values(one: dict[str, str]) -> list[float]:
    return [float(one[name]) for name in ("items", "mean", "low", "high")]


def group(one: dict) -> list[float]:
    return [one["count"], one["mean"], one["low"], one["high"]]


def evaluated(results: Path, *names: str) -> dict:
    file = results.parent / f"{results.name}.json"
    done = run_tool("eval/evaluate.py", "--results", results, "--benchmarks", *names, "--json", file)
    assert done.returncode < 2, done.stderr
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, Path, list[str]]:
    """Two stages on two benchmarks, the second with two samples an item and one that failed: folder, plots, words."""
    folder = tmp_path_factory.mktemp("two")
    words = staged(
        folder,
        cold_start={"vsi_bench": random_rows("vsi_bench", 0.3, 1), "maze": random_rows("maze", 0.2, 1)},
        RL={
            "vsi_bench": random_rows("vsi_bench", 0.8, 2, samples=2),
            "maze": [*random_rows("maze", 0.9, 2), *failed_rows()],
        },
    )
    plotted(folder / "plots", *words)
    return folder, folder / "plots", words


def test_numbers_are_those_of_evaluate(two):
    folder, out, _ = two
    found = by_key(out)
    compared = 0
    for stage in ("cold start", "RL"):
        for name, summary in evaluated(folder / stage.replace(" ", "_"), "vsi_bench", "maze").items():
            scores = {one["name"]: one for one in summary["scores"]["corrected"]}
            for kind in {kind for benchmark, kind, *_ in found if benchmark == name}:
                assert values(found[name, kind, stage, "accuracy"]) == group(scores[kind])
                compared += 1
            for one in summary["drawing"]["shares"]:
                assert values(found[name, "overall", stage, one["name"]]) == group(one)
            for quantity in ("steps", "boxes", "lines"):
                number = found[name, "overall", stage, quantity]
                assert float(number["mean"]) == summary["drawing"][quantity]
                assert float(number["low"]) < float(number["mean"]) < float(number["high"])
            for reason in StopReason:
                share = float(found[name, "overall", stage, f"ends: {reason}"]["mean"])
                total = sum(summary["stop_reasons"].values())
                assert share == pytest.approx(summary["stop_reasons"].get(reason, 0) / total)
    assert compared == 2 * (1 + 8 + 1)
    best = [one for one in read(out / "numbers.csv") if one["quantity"] == "accuracy, best of 2"]
    assert {(one["benchmark"], one["stage"]) for one in best} == {("vsi_bench", "RL")}


def test_a_question_type_is_as_its_items_alone(two):
    folder, out, _ = two
    rows = [json.loads(text) for text in (folder / "cold_start/vsi_bench/results.jsonl").read_text().splitlines()]
    found = by_key(out)
    for kind, tasks in (("object_counting", {"object_counting"}), (DIRECTION, {*DIRECTIONS, DIRECTION})):
        write_rows(folder / "alone" / "some", [one for one in rows if one["task"] in tasks])
        drawing = evaluated(folder / "alone", "some")["some"]["drawing"]
        for one in drawing["shares"]:
            assert values(found["vsi_bench", kind, "cold start", one["name"]]) == group(one)
        for quantity in ("steps", "boxes", "lines"):
            assert float(found["vsi_bench", kind, "cold start", quantity]["mean"]) == drawing[quantity]


def test_tests_are_those_of_evaluate(two):
    folder, out, _ = two
    file = folder / "compared.json"
    done = run_tool(
        "eval/evaluate.py", "--results", folder / "RL", "--compare", folder / "cold_start", "--benchmarks",
        "vsi_bench", "maze", "--json", file,
    )  # fmt: skip
    assert done.returncode < 2
    found = {(one["benchmark"], one["type"]): one for one in read(out / "tests.csv")}
    count = 0
    for name, summary in json.loads(file.read_text()).items():
        for one in summary["comparison"]["rows"]:
            row = found[name, one["name"]]
            assert (row["first"], row["second"]) == ("cold start", "RL")
            for ours, theirs in (("difference",) * 2, ("p_value",) * 2, ("low",) * 2, ("mean_first", "first")):
                assert float(row[ours]) == one[theirs]
            count += 1
    assert count == len(found) > 10
    assert float(found["maze", "overall"]["mcnemar_all_items"]) < 0.001


def test_by_hand(tmp_path):
    """Four mazes: two of them right; one revises a box, one moves it beyond overlap in the same step."""
    rows = [
        row("a", "B", tokens=10),
        row("b", "B", [box("x")], [box("x", 9)], tokens=20),  # reflection, strict too
        row("c", "C", [box("x"), box("x", 9), line("y")], tokens=30),  # in one step: none
        row("d", None, ERROR, [line("y")], stop=StopReason.NO_ANSWER),  # no tokens counted
    ]
    words = staged(tmp_path, only={"maze": rows})
    told = plotted(tmp_path / "out", *words).stdout
    found = by_key(tmp_path / "out")
    wanted = {
        "accuracy": 2 / 4,
        "reflection (Eq. 5)": 1 / 4,
        "reflection, strict": 1 / 4,
        "drew at least one mark": 3 / 4,
        "every step well-formed": 3 / 4,
        "at least one unusable step": 1 / 4,
        "steps": (1 + 3 + 2 + 3) / 4,
        "boxes": (0 + 2 + 2 + 0) / 4,
        "lines": (0 + 0 + 1 + 1) / 4,
        "unusable steps": 1 / 4,
        "sampled tokens": 60 / 3,
        "ends: answered": 3 / 4,
        "ends: no_answer": 1 / 4,
        "ends: engine_error": 0,
        "steps = 1": 1 / 4,
        "steps = 2": 1 / 4,
        "steps = 3": 2 / 4,
    }
    for quantity, mean in wanted.items():
        assert float(found["maze", "overall", "only", quantity]["mean"]) == mean, quantity
    wilson = values(found["maze", "overall", "only", "reflection (Eq. 5)"])
    assert wilson == pytest.approx([4, 0.25, 0.04559, 0.69936], abs=1e-5)
    highest = {"steps": 3, "boxes": 2, "lines": 1}  # of four, all may be drawn alike
    assert {name: float(found["maze", "overall", "only", name]["high"]) for name in highest} == highest
    tokens = found["maze", "overall", "only", "sampled tokens"]
    assert (tokens["items"], float(tokens["low"]), float(tokens["high"])) == ("3", 10.0, 30.0)
    counts = found["maze", "overall", "only", "unusable steps"]  # zeros and ones, but no share
    assert counts["method"] == "bootstrap"
    assert not read(tmp_path / "out" / "tests.csv")
    assert re.search(r"accuracy \(corrected\) +50\.0 \[15\.0, 85\.0\]", told)
    assert re.search(r"steps +2\.25 \[", told)
    assert "ends: no_answer" in told
    assert "engine_error" not in told
    assert "steps = 1" not in told


def test_pictures_are_well_formed_and_say_what_they_show(two):
    _, out, _ = two
    names = {path.name for path in out.iterdir()}
    wanted = {f"{name}.{kind}" for name in (*PICTURES, "types_vsi_bench") for kind in ("png", "svg")}
    assert names == wanted | {"numbers.csv", "tests.csv"}
    texts = {}
    for path in out.glob("*.svg"):
        found = ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")
        texts[path.stem] = "\n".join("".join(text.itertext()) for text in found)
        assert (out / f"{path.stem}.png").read_bytes().startswith(b"\x89PNG")
        assert "RL" in texts[path.stem].splitlines()
    found = by_key(out)
    for (name, kind, _, quantity), one in found.items():
        if quantity == "accuracy" and kind == "overall":
            assert f"{100 * float(one['mean']):.1f}" in texts["accuracy"]
            assert name in texts["accuracy"]
    assert "reflection, Eq. 5 (% of episodes)" in texts["behaviour"]
    assert "response length (tokens)" in texts["behaviour"]
    assert "context overflow" in texts["endings"]
    assert f"mean {float(found['maze', 'overall', 'RL', 'steps']['mean']):.2f}" in texts["steps"]
    assert {"object_counting", "route_planning"} <= set(texts["types_vsi_bench"].splitlines())


def test_the_same_results_give_the_same_bytes(two, tmp_path):
    _, out, words = two
    plotted(tmp_path / "again", *words)
    for path in out.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(("right", "star"), [(0.9, True), (0.2, False)])
def test_a_difference_from_the_stage_before_is_marked(tmp_path, right, star):
    words = staged(tmp_path, a={"maze": random_rows("maze", 0.2, 1)}, b={"maze": random_rows("maze", right, 1)})
    plotted(tmp_path / "out", *words)
    svg = (tmp_path / "out/accuracy.svg").read_text()
    assert bool(re.search(r">\d+\.\d\*<", svg)) is star
    assert ("paired permutation test" in svg) is star


def test_a_stage_without_a_benchmark_is_told(tmp_path):
    maze, mmsi = random_rows("maze", 0.5, 1, 20), random_rows("mmsi_bench", 0.5, 1, 20)
    words = staged(tmp_path, a={"maze": maze, "mmsi_bench": mmsi}, b={"maze": maze}, c={"mmsi_bench": mmsi})
    done = plotted(tmp_path / "out", *words)
    assert "stage b: has no results of mmsi_bench; drawn without" in done.stderr
    assert "stage c: has no results of maze; drawn without" in done.stderr
    assert {(one["benchmark"], one["stage"]) for one in read(tmp_path / "out/numbers.csv")} == {
        ("maze", "a"), ("maze", "b"), ("mmsi_bench", "a"), ("mmsi_bench", "c"),
    }  # fmt: skip
    compared = {(one["benchmark"], one["first"], one["second"]) for one in read(tmp_path / "out/tests.csv")}
    assert compared == {("maze", "a", "b"), ("mmsi_bench", "a", "c")}, "with the stage before that has it"
    assert "no results" in done.stdout
    assert "no results" in (tmp_path / "out/endings.svg").read_text()
    assert "no results" in (tmp_path / "out/steps.svg").read_text()


def test_stages_of_other_items_are_told(tmp_path):
    rows = random_rows("maze", 0.5, 1, 30)
    words = staged(tmp_path, a={"maze": rows[:20]}, b={"maze": rows[10:]}, c={"maze": rows[:10]})
    told = plotted(tmp_path / "out", *words).stderr
    assert "maze: 10 items only in a and 10 only in b; their accuracies are of other items" in told
    assert "maze: b and c are not compared: the two runs have no item in common" in told


def test_an_official_rule_where_there_is_one(tmp_path):
    """`Because` is B by the rule of SPAR-Bench; mazes have no rule of their own."""
    task = "position_matching"
    words = staged(tmp_path, a={"spar_bench": [row("s", "Because", task=task)], "maze": [row("m", "B")]})
    for rule, spar in (("corrected", 0.0), ("official", 1.0)):
        done = plotted(tmp_path / rule, *words, "--rule", rule)
        found = by_key(tmp_path / rule)
        one = found["spar_bench", "overall", "a", "accuracy"]
        assert (one["rule"], float(one["mean"])) == (rule, spar)
        assert found["maze", "overall", "a", "accuracy"]["rule"] == "corrected"
        assert ("maze: not all results have official scores; corrected ones are drawn" in done.stderr) is (spar == 1)
    assert "corrected or official" in (tmp_path / "official/accuracy.svg").read_text()


def test_a_rule_that_only_some_stages_have_is_not_drawn(tmp_path):
    """As with results of the published project beside ours."""
    staged(tmp_path, a={"maze": [row("m", "B")]}, b={"maze": [row("m", "B")]})
    ours, other = read_stages([("a", tmp_path / "a"), ("b", tmp_path / "b")])
    part = other.parts["maze"]
    scores = {**part.summary.scores, "published": part.summary.scores["corrected"]}
    theirs = replace(other, parts={"maze": replace(part, summary=replace(part.summary, scores=scores))})
    assert rule_of([theirs], "maze", "published") == "published"
    for both in ([ours, theirs], [theirs, ours]):
        assert rule_of(both, "maze", "published") == "corrected"


@pytest.mark.parametrize(
    ("benchmark", "tasks", "kinds"),
    [
        ("vsi_bench", (*NUMBERS, *CHOICES), (*NUMBERS, "object_rel_distance", DIRECTION, *CHOICES[-2:])),
        ("vsi_bench", ("room_size_estimation", DIRECTIONS[0]), ("room_size_estimation", DIRECTION)),
        ("spar_bench", SPAR_BENCH.tasks, ("Low", "Middle", "High")),
        ("mmsi_bench", ("one", "other"), ("one", "other")),
        ("maze", ("destination",), ()),
    ],
)
def test_question_types(tmp_path, benchmark, tasks, kinds):
    rows = [row(f"{task}-1", "B", task=task) for task in tasks]
    if benchmark == "spar_bench":
        rows = [one | {"question_type": "free-form"} for one in rows]
    words = staged(tmp_path, a={benchmark: [*rows, *failed_rows()]})
    stages = read_stages([("a", Path(words[0][2:]))])
    assert tuple(question_types(stages, benchmark, "corrected")) == kinds


def test_too_many_types_are_told_not_drawn(tmp_path, caplog):
    rows = [row(f"q{number}", "B", task=f"type {number}") for number in range(13)]
    staged(tmp_path, a={"mmsi_bench": rows})
    found = numbers(read_stages([("a", tmp_path / "a")]), "corrected")
    assert {one.type for one in found} == {"overall"}
    assert "mmsi_bench: 13 question types are too many" in caplog.text


def test_rows_that_cannot_be_read_are_counted(tmp_path):
    (words,) = staged(tmp_path, a={"maze": random_rows("maze", 0.5, 1, 5)})
    with (tmp_path / "a/maze/results.jsonl").open("a") as file:
        file.write('no json\n{"id": 1}\n')
    done = plotted(tmp_path / "out", words, status=1)
    assert "2 unreadable" in done.stdout
    assert "line 6: not JSON" in done.stderr
    assert float(by_key(tmp_path / "out")["maze", "overall", "a", "accuracy"]["items"]) == 5


def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    (words,) = staged(tmp_path, a={"maze": random_rows("maze", 0.5, 1, 5), "vsi_bench": []})
    done = plotted(tmp_path / "out", words, status=1)
    assert "left out: " in done.stderr
    assert "vsi_bench/results.jsonl: holds no results" in done.stderr


def test_no_episode_was_played(tmp_path):
    words = staged(tmp_path, a={"maze": failed_rows()[:1]})
    plotted(tmp_path / "out", *words)
    assert not (tmp_path / "out/steps.svg").exists()
    assert {one["quantity"].split(":")[0] for one in read(tmp_path / "out/numbers.csv")} == {"accuracy", "ends"}


def test_hostile_names(tmp_path):
    name = "_<script>&\x1b[31m $x$ " + "w" * 300
    rows = [row(f"q{number}", "B", task=task) for number, task in enumerate(("<b>&", "$\\frac{", "_hidden"))]
    write_rows(tmp_path / "a/some", rows)
    plotted(tmp_path / "out", f"{name}={tmp_path / 'a'}")
    for path in (tmp_path / "out").glob("*.svg"):
        ElementTree.parse(path)
        assert "<script>" not in path.read_text()
    assert {one["stage"] for one in read(tmp_path / "out/numbers.csv")} == {name}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a={}/a", "a={}/b"), "the stage name 'a' stands 2 times"),
        (("={}/a",), "the stage has no name; write NAME="),
        (("a={}/a", "b={}/none"), "none: holds no results.jsonl; run eval/infer.sh first"),
        (("a={}/empty",), "empty: holds no results.jsonl"),
        (("a={}",), "stage a: holds several results of maze ("),
        (("a={}/a", "-o", "{}/a/maze/results.jsonl"), "results.jsonl"),
        (tuple(f"s{number}={{}}/a" for number in range(13)), "13 stages are too many for one picture"),
        (("a={}/many",), "13 benchmarks (b0, b1, b10, ...) are too many for one picture"),
    ],
)
def test_bad_arguments(tmp_path, words, message):
    rows = [row("q", "B")]
    staged(tmp_path, a={"maze": rows}, b={"maze": rows}, many={f"b{number}": rows for number in range(13)})
    (tmp_path / "empty").mkdir()
    before = (tmp_path / "a/maze/results.jsonl").read_bytes()
    done = run_tool("tools/plot_stages.py", "-o", tmp_path / "out", *(word.format(tmp_path) for word in words))
    assert done.returncode == 2
    (error,) = [text for text in done.stderr.splitlines() if text.startswith("plot_stages: ")]
    assert message in error
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "a/maze/results.jsonl").read_bytes() == before


def test_failures_are_logged_once(tmp_path, caplog):
    failed = row("f", None, task="object_counting", stop=StopReason.ENGINE_ERROR)
    rows = [*random_rows("vsi_bench", 0.5, 1), failed | {"detail": "refused"}]
    staged(tmp_path, a={"vsi_bench": rows})
    stages = read_stages([("a", tmp_path / "a")])
    numbers(stages, "corrected")
    paired_tests(stages, "corrected")
    assert caplog.text.count("item f: refused") == 1


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("maze", ["maze"]),
        ("SpatialEval_spatialreal", ["SpatialEval_", "spatialreal"]),
        ("Positional Relationship (Cam.)", ["Positional", "Relationship", "(Cam.)"]),
        ("x" * 45, ["x" * 20, "x" * 20, "x" * 5]),
    ],
)
def test_wrapped(name, lines):
    assert _wrapped(name).splitlines() == lines
