import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.golden import BOX, ONE, Golden, answer, boxes, golden_traces, make_example
from vilasr.episode import Episode, Limits
from vilasr.prompts import default_profile
from vilasr.results import ResultsWriter, broken_row, result_row
from vilasr.scoring import find_benchmark
from vilasr.scoring.intervals import wilson_interval
from vilasr.scoring.reading import read_all
from vilasr.scoring.summary import Summary
from vilasr.scoring.summary import summarise as summarise_results
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


def summarise(path: Path, name: str, expected=None) -> Summary:
    """The summary of the results in the folder of `path`."""
    return summarise_results(read_all(path.parent, name, expected), find_benchmark(name), expected)[0]


def overall(summary: Summary, rule: str = "corrected"):
    return summary.scores[rule][0]


@pytest.fixture
def path(tmp_path) -> Path:
    return write(tmp_path, [make_row(golden) for golden in GOLDEN])


def test_a_complete_run_has_no_problems(path):
    summary = summarise(path, "maze", keys())
    assert not summary.problems.any()
    assert summary.items == len(GOLDEN)
    assert "PROBLEMS" not in summary_table(summary)


def test_accuracy_and_interval(path):
    """Every golden answer is right but that of `revised`; those without one are wrong."""
    right = sum(golden.run().trace().answer == "B" for golden in GOLDEN)
    without = [golden.name for golden in GOLDEN if golden.run().trace().answer is None]
    assert right == len(GOLDEN) - len(without) - 1
    assert without
    [total, task] = summarise(path, "maze").scores["corrected"]
    assert (total.name, total.count, total.mean) == ("overall", len(GOLDEN), pytest.approx(right / len(GOLDEN)))
    assert (total.low, total.high) == wilson_interval(right, len(GOLDEN))
    assert 0 < total.low < total.mean < total.high < 1
    assert (task.count, task.mean) == (total.count, total.mean)
    assert summarise(path, "maze").scores.keys() == {"corrected"}


def test_tasks_are_scored_apart(tmp_path):
    right = replace(GOLDEN[0], example=replace(GOLDEN[0].example, id="r", task="route"))
    wrong = [replace(right, example=replace(right.example, id=f"w{n}", task="count", answer="A")) for n in range(3)]
    groups = summarise(write(tmp_path, [make_row(golden) for golden in (right, *wrong)]), "maze").scores["corrected"]
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
    assert [share.mean for share in drawing.shares] == [3 / 5, 4 / 5, 1 / 5, 1 / 5, 1 / 5]
    assert all((share.low, share.high) == wilson_interval(share.mean * 5, 5) for share in drawing.shares)


def test_the_reward_is_a_mean_over_all_items(tmp_path):
    """Right and well-formed: 1; wrong: 0; not run: 0."""
    right, wrong = GOLDEN[0], revised()
    path = write(tmp_path, [make_row(right), make_row(wrong), broken_row("x", "", "maze", "c", "gone")])
    assert summarise(path, "maze").reward == pytest.approx(1 / 3)


def test_missing_items(path):
    summary = summarise(path, "maze", keys() | {("one_more", "0"), ("two_more", "")})
    assert (summary.problems.missing, summary.problems.any()) == (2, True)
    assert "PROBLEMS: 2 missing, 0 unknown" in summary_table(summary)
    assert summarise(path, "maze").problems.missing == 0, "nothing is known to be missing"


def test_unknown_items_and_items_of_other_wording(path):
    changed = {(name, "another digest" if name == "one_box" else digest) for name, digest in keys()}
    problems = summarise(path, "maze", changed - {("one_line", dict(keys())["one_line"])}).problems
    assert (problems.unknown, problems.missing) == (2, 1)
    assert problems.any()


def test_rows_of_other_items_are_not_scored(tmp_path):
    """A stale row (the question was changed since) and a foreign one stand beside the right answer of the only item."""
    right = make_row(GOLDEN[0])
    stale = {**make_row(revised()), "id": right["id"], "digest": "older"}
    path = write(tmp_path, [right, stale, make_row(revised()), broken_row("gone", "", "maze", "c", "was repaired")])
    summary = summarise(path, "maze", keys(GOLDEN[:1]))
    assert (summary.items, overall(summary).mean, summary.reward) == (1, 1.0, 1.0)
    assert (summary.problems.unknown, summary.problems.failed, summary.problems.missing) == (3, 0, 0)


def test_an_item_whose_own_answer_is_wrong_does_not_take_the_others_along(tmp_path, caplog):
    bad = {**make_row(revised()), "truth": "Q"}
    summary = summarise(write(tmp_path, [make_row(GOLDEN[0]), bad]), "maze")
    assert (summary.items, overall(summary).mean, summary.problems.failed) == (2, 0.5, 1)
    assert "item revised: answer: 'Q' is none of its 4 options" in caplog.text


def test_the_first_of_duplicates_counts(tmp_path):
    row = make_row(GOLDEN[0])
    wrong = {**make_row(revised()), "id": row["id"], "digest": row["digest"]}
    summary = summarise(write(tmp_path, [row, wrong, wrong]), "maze")
    assert (summary.items, summary.problems.duplicates, overall(summary).mean) == (1, 2, 1.0)
    assert summary.problems.any()


def test_failed_items_count_as_wrong(tmp_path):
    rows = [make_row(GOLDEN[0]), broken_row("gone", "", "maze", "c", "no image"), engine_error_row()]
    summary = summarise(write(tmp_path, rows), "maze")
    assert (summary.items, summary.problems.failed, summary.problems.any()) == (3, 2, True)
    assert (overall(summary).count, overall(summary).mean) == (3, 1 / 3)
    assert summary.stop_reasons == {"answered": 1, "input_error": 1, "engine_error": 1}
    assert "2 failed" in summary_table(summary)


def test_only_failed_items(tmp_path):
    summary = summarise(write(tmp_path, [broken_row("gone", "", "maze", "c", "no image")]), "maze")
    assert (summary.items, overall(summary).mean, summary.reward) == (1, 0.0, 0.0)
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
    assert summarise(path, "maze").problems.any(), "for that alone"


def test_a_half_line_at_the_end_is_missing_not_unreadable(path, caplog):
    path.write_bytes(path.read_bytes()[:-30])
    problems = summarise(path, "maze", keys()).problems
    assert (problems.unreadable, problems.missing) == (0, 1)
    assert "half-written" in caplog.text


def test_mixed_configurations_are_a_problem(tmp_path):
    summary = summarise(write(tmp_path, [make_row(GOLDEN[0], "a"), make_row(GOLDEN[1], "b")]), "maze")
    assert (summary.problems.configurations, summary.problems.any()) == (2, True)


def test_the_summary_is_json(path):
    record = json.loads(json.dumps(summarise(path, "maze", keys()).to_json(), allow_nan=False))
    assert record["items"] == len(GOLDEN)
    assert record["problems"]["missing"] == 0
    assert record["scores"]["corrected"][0]["name"] == "overall"


def test_any_file_of_questions_can_be_scored(path):
    summary = summarise(path, "my_questions")
    assert overall(summary).mean == overall(summarise(path, "maze")).mean
    assert "no benchmark of that name" in summary_table(summary)


def unparsed_rows() -> list[dict]:
    """Two right answers and one that names no option."""
    vague = Golden("vague", make_example("vague", ONE), (answer("somewhere"),))
    return [make_row(golden) for golden in (GOLDEN[0], GOLDEN[1], vague)]


def test_answers_that_cannot_be_parsed_are_counted(tmp_path):
    summary = summarise(write(tmp_path, unparsed_rows()), "maze")
    assert (summary.problems.unparsed, overall(summary).mean) == (1, pytest.approx(2 / 3))
    assert summary.problems.any()
    assert not summary.problems.any(unparsed_allowed=1)
    assert "1 unparsed answer(s)" in summary_table(summary)


def test_samples_of_an_item_are_clustered_and_all_expected(tmp_path):
    """Three samples each of two items: one always right, one right once."""
    wrong = replace(GOLDEN[1], replies=(answer("A"),), example=GOLDEN[1].example)
    rows = [{**make_row(GOLDEN[0]), "sample": sample} for sample in range(3)]
    rows += [{**make_row(GOLDEN[1] if sample == 2 else wrong), "sample": sample} for sample in range(3)]
    path = write(tmp_path, rows)
    summary = summarise(path, "maze", keys(GOLDEN[:2]))
    assert (summary.items, summary.samples, summary.problems.any()) == (2, 3, False)
    assert (overall(summary).count, overall(summary).mean) == (2, pytest.approx(2 / 3))
    assert overall(summary).method == "bootstrap"
    assert overall(summary, "corrected, best of 3").mean == 1.0
    assert "2 items, 3 samples each" in summary_table(summary)
    lacking = write(tmp_path / "lacking", rows[:-1])
    assert summarise(lacking, "maze", keys(GOLDEN[:2])).problems.missing == 1
    assert summarise(lacking, "maze").problems.missing == 1, "known without the benchmark's file too"


def test_official_and_corrected_stand_side_by_side(tmp_path):
    """Of "(B)" and "table" for B the official rule of VSI-Bench takes none; without an answer it gets the raw reply."""
    task = {"task": "route_planning"}
    texts = ("B", "(B)", "table")
    goldens = [Golden(text, make_example(text, ONE, **task), (answer(text),)) for text in texts]
    raw = Golden("raw", make_example("raw", ONE, **task), ("B", "B", "B"), Limits(calls=3))
    path = write(tmp_path, [make_row(golden) for golden in (*goldens, raw)])
    summary = summarise(path, "vsi_bench")
    assert overall(summary, "corrected").mean == 0.75
    assert overall(summary, "official").mean == 0.5
    line = next(line for line in summary_table(summary).splitlines() if "route_planning" in line)
    assert "75.0" in line
    assert "50.0" in line


def test_a_task_that_the_benchmark_lacks_is_an_error_of_the_item(tmp_path, caplog):
    rows = [make_row(Golden(t, make_example(t, ONE, task=t), (answer(),))) for t in ("route_planning", "cooking")]
    summary = summarise(write(tmp_path, rows), "vsi_bench")
    assert summary.problems.failed == 1
    assert "original_question_type: 'cooking' is no task of vsi_bench" in caplog.text
    assert overall(summary).count == 1


def test_an_engine_error_is_no_empty_answer(tmp_path):
    """SPAR-Bench's own rule takes an empty answer for right; what the server refused was no answer at all."""
    row = {**engine_error_row(), "task": "position_matching"}
    summary = summarise(write(tmp_path, [row]), "spar_bench")
    assert (overall(summary, "official").mean, summary.problems.failed) == (0.0, 1)


def test_what_has_no_task_is_shown_though_no_mean_has_a_place_for_it(tmp_path):
    right = make_row(Golden("r", make_example("r", ONE, task="route_planning"), (answer(),)))
    rows = [right, broken_row("lost", "", "vsi_bench", "c", "no json")]
    table = summary_table(summarise(write(tmp_path, rows), "vsi_bench"))
    assert "(not read, in no mean)" in table
    assert "   failed: lost" in table


def test_an_item_that_was_not_run_counts_as_wrong_in_its_task(tmp_path):
    lost = broken_row("lost", "", "vsi_bench", "c", "no image", task="route_planning")
    right = make_row(Golden("r", make_example("r", ONE, task="route_planning"), (answer(),)))
    assert overall(summarise(write(tmp_path, [right, lost]), "vsi_bench")).mean == 0.5


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
    assert f"   missing: {', '.join(golden.example.id for golden in GOLDEN[-2:])}" in missing.stdout
    assert "not complete and clean" in missing.stderr
    assert json.loads((benchmark / "scores.json").read_text())["maze"]["problems"]["missing"] == 2
    assert evaluate(*base, *files, "--allow-problems").returncode == 0
    limited = evaluate(*base, *files, "--limit", len(GOLDEN) - 2)
    assert (limited.returncode, limited.stderr) == (0, "")
    assert f"maze: {len(GOLDEN) - 2} items" in limited.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmarks", "chess"], "chess/results.jsonl: no results there"),
        (["--compare", "nowhere"], "nowhere/maze/results.jsonl: no results there"),
        (["--max-unparsed", "2"], "--max-unparsed is a share"),
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


def test_two_runs_are_compared_item_by_item(benchmark):
    results = benchmark / "results" / "maze" / "results.jsonl"
    other = benchmark / "other" / "maze"
    other.mkdir(parents=True)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    for row in rows[:4]:
        row |= {"answer": "A", "config": "d"}
    (other / "results.jsonl").write_text("".join(json.dumps({**row, "config": "d"}) + "\n" for row in rows))
    out = benchmark / "scores.json"
    done = evaluate(
        *("--results", benchmark / "results", "--compare", benchmark / "other", "--benchmarks", "maze", "--json", out)
    )
    assert done.returncode == 0, done.stderr
    assert "4 better, 0 worse" in done.stdout
    comparison = json.loads(out.read_text())["maze"]["comparison"]
    assert comparison["mcnemar"] == 2 / 16
    assert comparison["rows"][0]["difference"] == pytest.approx(4 / len(rows))


def test_items_and_unparsed_answers(tmp_path):
    write(tmp_path, unparsed_rows())
    items = tmp_path / "items.jsonl"
    arguments = ("--results", tmp_path, "--benchmarks", "maze", "--items", items)
    assert evaluate(*arguments).returncode == 1
    assert evaluate(*arguments, "--max-unparsed", "0.3").returncode == 1
    assert evaluate(*arguments, "--max-unparsed", "0.34").returncode == 0
    rows = [json.loads(line) for line in items.read_text().splitlines()]
    assert [row["scores"]["corrected"] for row in rows] == [1.0, 1.0, 0.0]
    assert [row["unreadable"] for row in rows] == [False, False, True]


def test_a_rule_that_a_benchmark_lacks(benchmark):
    results = benchmark / "results"
    done = evaluate("--results", results, "--compare", results, "--rule", "official", "--benchmarks", "maze")
    assert done.returncode == 2
    assert "has no 'official' scores; it has corrected" in done.stderr


def test_a_broken_benchmark_file_is_named(benchmark):
    path = benchmark / "benchmark" / "maze.json"
    arguments = ("--results", benchmark / "results", "--benchmarks", "maze", "--benchmark-dir", path.parent)
    path.write_text(json.dumps([{"question": "Where?"}]))
    done = evaluate(*arguments)
    assert done.returncode == 2
    assert f"{path}: item 0: problem_type / question_type" in done.stderr
    assert f"none of its {len(GOLDEN) - 2} items, such as 'answer_at_once', is in the benchmark's file" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_benchmark_that_cannot_be_used_leaves_the_others(benchmark):
    done = evaluate("--results", benchmark / "results", "--benchmarks", "mazze", "maze", "--json", "no/where.json")
    assert done.returncode == 2
    assert "mazze/results.jsonl: no results there" in done.stderr
    assert "(there are results of maze)" in done.stderr
    assert "no/where.json" in done.stderr
    assert f"maze: {len(GOLDEN) - 2} items" in done.stdout


def test_problems_of_the_run_compared_with_are_told(benchmark):
    first = benchmark / "first" / "maze"
    first.mkdir(parents=True)
    lines = (benchmark / "results" / "maze" / "results.jsonl").read_text().splitlines(keepends=True)
    (first / "results.jsonl").write_text("".join(lines[:-1]))
    arguments = ("--results", benchmark / "results", "--compare", benchmark / "first", "--benchmarks", "maze")
    done = evaluate(*arguments, "--benchmark-dir", benchmark / "benchmark", "--limit", len(lines))
    assert done.returncode == 1
    assert "first: PROBLEMS: 1 missing" in done.stdout
    assert f" first: {first}" in done.stdout


@pytest.mark.parametrize("arguments", [("--limit", "3"), ("--ids", "a")])
def test_what_is_expected_needs_the_benchmarks_file(benchmark, arguments):
    done = evaluate("--results", benchmark / "results", "--benchmarks", "maze", *arguments)
    assert done.returncode == 2
    assert "name --benchmark-dir as well" in done.stderr
