import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.golden import BOX, ONE, Golden, answer, boxes, golden_traces, make_example
from vilasr.episode import Episode
from vilasr.prompts import default_profile
from vilasr.results import ResultsWriter, broken_row, result_row
from vilasr.scoring.metrics import wilson_interval
from vilasr.scoring.summary import summarise
from vilasr.scoring.table import summary_table
from vilasr.tasks import DataError, read_examples
from vilasr.traces import StopReason


def revised() -> Golden:
    """The same label drawn elsewhere in a later step: reflection, in both forms."""
    steps = (boxes((1, BOX, "a")), boxes((2, [25, 35, 95, 105], "a")), answer("A"))
    return Golden("revised", make_example("revised", ONE), steps)


GOLDEN = [golden for golden in golden_traces() if golden.example.options] + [revised()]


def make_row(golden: Golden, config: str = "c") -> dict:
    return result_row(golden.example, golden.run().trace(), config)


def engine_error_row(config: str = "c") -> dict:
    example = make_example("engine_error", ONE)
    episode = Episode(example, default_profile())
    episode.close(StopReason.ENGINE_ERROR, "refused")
    return result_row(example, episode.trace(), config)


def keys(goldens=GOLDEN) -> set[tuple[str, str]]:
    return {(golden.example.id, golden.example.digest()) for golden in goldens}


def write(folder: Path, rows: list[dict]) -> Path:
    """A results file of these rows."""
    with ResultsWriter(folder / "maze", {}) as writer:
        for row in rows:
            writer.append(row)
    return writer.path


@pytest.fixture
def path(tmp_path) -> Path:
    return write(tmp_path, [make_row(golden) for golden in GOLDEN])


def test_a_complete_run_has_no_problems(path):
    summary = summarise(path, "maze", keys())
    assert not summary.problems.any
    assert summary.items == len(GOLDEN)
    assert "PROBLEMS" not in summary_table(summary)


def test_accuracy_and_interval(path):
    """Every golden answer is right but that of `revised`; those without one are wrong."""
    right = sum(golden.run().trace().answer == "B" for golden in GOLDEN)
    without = [golden.name for golden in GOLDEN if golden.run().trace().answer is None]
    assert right == len(GOLDEN) - len(without) - 1
    assert without
    [overall, task] = summarise(path, "maze").corrected
    assert (overall.name, overall.count, overall.mean) == ("overall", len(GOLDEN), right / len(GOLDEN))
    assert (overall.low, overall.high) == wilson_interval(right, len(GOLDEN))
    assert 0 < overall.low < overall.mean < overall.high < 1
    assert (task.count, task.mean) == (overall.count, overall.mean)
    assert summarise(path, "maze").official is None


def test_tasks_are_scored_apart(tmp_path):
    right = replace(GOLDEN[0], example=replace(GOLDEN[0].example, id="r", task="route"))
    wrong = [replace(right, example=replace(right.example, id=f"w{n}", task="count", answer="A")) for n in range(3)]
    groups = summarise(write(tmp_path, [make_row(golden) for golden in (right, *wrong)]), "maze").corrected
    assert [(g.name, g.count, g.mean) for g in groups] == [("overall", 4, 0.25), ("count", 3, 0.0), ("route", 1, 1.0)]


def test_stop_reasons_and_errors(path):
    summary = summarise(path, "maze")
    traces = [golden.run().trace() for golden in GOLDEN]
    assert summary.stop_reasons == Counter(trace.stop_reason for trace in traces)
    assert summary.stop_reasons.keys() == {"answered", "no_answer"}
    assert summary.errors == Counter(step.error for trace in traces for step in trace.steps if step.error)
    assert {"truncated", "bad_json"} <= summary.errors.keys()


def test_drawing_statistics(tmp_path):
    """Counted by hand on four traces: none, one box, one line, and a box drawn again elsewhere."""
    names = ("answer_at_once", "one_box", "one_line", "bad_json_then_right", "revised")
    chosen = [golden for golden in GOLDEN if golden.name in names]
    assert len(chosen) == 5
    drawing = summarise(write(tmp_path, [make_row(golden) for golden in chosen]), "maze").drawing
    assert (drawing.steps, drawing.boxes, drawing.lines) == (10 / 5, 3 / 5, 1 / 5)
    shares = (drawing.drew, drawing.well_formed, drawing.tool_error, drawing.reflection, drawing.reflection_strict)
    assert [share.mean for share in shares] == [3 / 5, 4 / 5, 1 / 5, 1 / 5, 1 / 5]
    assert all((share.low, share.high) == wilson_interval(share.mean * 5, 5) for share in shares)


def test_the_reward_is_a_mean_over_all_items(tmp_path):
    """Right and well-formed: 1; wrong: 0; not run: 0."""
    right, wrong = GOLDEN[0], revised()
    path = write(tmp_path, [make_row(right), make_row(wrong), broken_row("x", "", "maze", "c", "gone")])
    assert summarise(path, "maze").reward == pytest.approx(1 / 3)


def test_missing_items(path):
    summary = summarise(path, "maze", keys() | {("one_more", "0"), ("two_more", "")})
    assert (summary.problems.missing, summary.problems.any) == (2, True)
    assert "PROBLEMS: 2 missing, 0 unknown" in summary_table(summary)
    assert summarise(path, "maze").problems.missing == 0, "nothing is known to be missing"


def test_unknown_items_and_items_of_other_wording(path):
    changed = {(name, "another digest" if name == "one_box" else digest) for name, digest in keys()}
    problems = summarise(path, "maze", changed - {("one_line", dict(keys())["one_line"])}).problems
    assert (problems.unknown, problems.missing) == (2, 1)
    assert problems.any


def test_rows_of_other_items_are_not_scored(tmp_path):
    """A stale row (the question was changed since) and a foreign one stand beside the right answer of the only item."""
    right = make_row(GOLDEN[0])
    stale = {**make_row(revised()), "id": right["id"], "digest": "older"}
    path = write(tmp_path, [right, stale, make_row(revised()), broken_row("gone", "", "maze", "c", "was repaired")])
    summary = summarise(path, "maze", keys(GOLDEN[:1]))
    assert (summary.items, summary.corrected[0].mean, summary.reward) == (1, 1.0, 1.0)
    assert (summary.problems.unknown, summary.problems.failed, summary.problems.missing) == (3, 0, 0)


def test_an_item_whose_own_answer_is_wrong_does_not_take_the_others_along(tmp_path, caplog):
    bad = {**make_row(revised()), "truth": "Q"}
    summary = summarise(write(tmp_path, [make_row(GOLDEN[0]), bad]), "maze")
    assert (summary.items, summary.corrected[0].mean, summary.problems.failed) == (2, 0.5, 1)
    assert "item revised: answer: 'Q' is none of its 4 options" in caplog.text


def test_the_first_of_duplicates_counts(tmp_path):
    row = make_row(GOLDEN[0])
    wrong = {**make_row(revised()), "id": row["id"], "digest": row["digest"]}
    summary = summarise(write(tmp_path, [row, wrong, wrong]), "maze")
    assert (summary.items, summary.problems.duplicates, summary.corrected[0].mean) == (1, 2, 1.0)
    assert summary.problems.any


def test_failed_items_count_as_wrong(tmp_path):
    rows = [make_row(GOLDEN[0]), broken_row("gone", "", "maze", "c", "no image"), engine_error_row()]
    summary = summarise(write(tmp_path, rows), "maze")
    assert (summary.items, summary.problems.failed, summary.problems.any) == (3, 2, True)
    assert (summary.corrected[0].count, summary.corrected[0].mean) == (3, 1 / 3)
    assert summary.stop_reasons == {"answered": 1, "input_error": 1, "engine_error": 1}
    assert "2 failed" in summary_table(summary)


def test_only_failed_items(tmp_path):
    summary = summarise(write(tmp_path, [broken_row("gone", "", "maze", "c", "no image")]), "maze")
    assert (summary.items, summary.corrected[0].mean, summary.reward) == (1, 0.0, 0.0)
    assert summary_table(summary)


def test_unreadable_lines_are_counted_and_named(path, caplog):
    lines = path.read_text().splitlines(keepends=True)
    row = json.loads(lines[2])
    del row["question"]
    path.write_text("".join([lines[0], "{not json\n", json.dumps(row) + "\n", "[1]\n", *lines[3:]]))
    summary = summarise(path, "maze", keys())
    assert (summary.problems.unreadable, summary.problems.missing) == (3, 2)
    assert summary.items == len(GOLDEN) - 2
    assert "line 3: field 'question' is missing" in caplog.text
    assert summarise(path, "maze").problems.any, "for that alone"


def test_a_half_line_at_the_end_is_missing_not_unreadable(path, caplog):
    path.write_bytes(path.read_bytes()[:-30])
    problems = summarise(path, "maze", keys()).problems
    assert (problems.unreadable, problems.missing) == (0, 1)
    assert "half-written" in caplog.text


def test_mixed_configurations_are_a_problem(tmp_path):
    summary = summarise(write(tmp_path, [make_row(GOLDEN[0], "a"), make_row(GOLDEN[1], "b")]), "maze")
    assert (summary.problems.configurations, summary.problems.any) == (2, True)


def test_the_summary_is_json(path):
    record = json.loads(json.dumps(summarise(path, "maze", keys()).to_json(), allow_nan=False))
    assert record["items"] == len(GOLDEN)
    assert record["problems"]["missing"] == 0
    assert record["corrected"][0]["name"] == "overall"


def test_unknown_benchmark(path):
    with pytest.raises(DataError, match=r"no scorer for benchmark 'chess'; known: .*maze"):
        summarise(path, "chess")


@pytest.mark.parametrize("content", [None, "", "\n\n", "{torn"])
def test_no_results(tmp_path, content):
    if content is not None:
        (tmp_path / "results.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"no results.*run eval/infer\.sh first"):
        summarise(tmp_path / "results.jsonl", "maze")


# ---- the program


def evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "eval" / "evaluate.py"), *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, timeout=120)


@pytest.fixture
def benchmark(tmp_path) -> Path:
    """The golden questions as a benchmark file; results of all but the last two."""
    items = [
        {
            "id": golden.example.id,
            "question": golden.example.question,
            "options": list(golden.example.options),
            "answer": golden.example.answer,
            "image_path": list(golden.example.image_paths),
            "problem_type": golden.example.question_type,
            "data_type": golden.example.data_type,
        }
        for golden in GOLDEN
    ]
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "maze.json").write_text(json.dumps(items))
    examples = read_examples(tmp_path / "benchmark" / "maze.json")
    write(
        tmp_path / "results",
        [
            result_row(example, golden.run().trace(), "c")
            for golden, example in zip(GOLDEN[:-2], examples[:-2], strict=True)
        ],
    )
    return tmp_path


def test_exit_status_by_completeness(benchmark):
    base = ("--results", benchmark / "results", "--benchmarks", "maze")
    files = ("--benchmark-dir", benchmark / "benchmark", "--json", benchmark / "scores.json")
    missing = evaluate(*base, *files)
    assert missing.returncode == 1
    assert "PROBLEMS: 2 missing, 0 unknown" in missing.stdout
    assert "not complete and clean" in missing.stderr
    assert json.loads((benchmark / "scores.json").read_text())["maze"]["problems"]["missing"] == 2
    assert evaluate(*base, *files, "--allow-problems").returncode == 0
    limited = evaluate(*base, *files, "--limit", len(GOLDEN) - 2)
    assert (limited.returncode, limited.stderr) == (0, "")
    assert f"maze: {len(GOLDEN) - 2} items" in limited.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmarks", "chess"], "no scorer for benchmark 'chess'"),
        (["--results", "nowhere"], "run eval/infer.sh first"),
        (["--benchmark-dir", "nowhere"], "nowhere/maze.json: cannot be read"),
        (["--json", "nowhere/deep/scores.json"], "nowhere/deep/scores.json"),
        (["--limit", "0"], "--limit must be at least 1"),
    ],
)
def test_what_cannot_be_used_is_named(benchmark, arguments, message):
    done = evaluate("--results", benchmark / "results", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
