import json
from pathlib import Path

import pytest

from tests.conftest import run_tool
from tests.golden import Golden, answer, boxes, lines, make_example
from tests.viewer.cases import ATTACKS, failed_rows, golden_rows, hostile_row, write_rows
from vilasr.tasks import DataError
from vilasr.viewer import Choice, Frames, collect, find_folders
from vilasr.viewer.details import detail
from vilasr.viewer.folders import labels


@pytest.fixture
def folder(tmp_path):
    """Results of a benchmark: golden traces, failures, an attack, a line that is no JSON and a half-written one."""
    path = tmp_path / "run" / "maze"
    path.mkdir(parents=True)
    write_rows(path, [*golden_rows(path), *failed_rows(), hostile_row(path)])
    with (path / "results.jsonl").open("a") as file:
        file.write("not json\n" + '{"id": "half')
    return path


def details_of(folder, *goldens):
    folder.mkdir(parents=True)
    report = collect([write_rows(folder, golden_rows(folder, goldens))])
    frames = Frames(report)
    return [detail(entry, frames.of(entry)) for entry in report.entries]


def test_the_overview_is_that_of_evaluate(folder, tmp_path):
    """Every number of `eval/evaluate.py --json` stands in the overview unchanged."""
    out = tmp_path / "summary.json"
    done = run_tool("eval/evaluate.py", "--results", folder.parent, "--json", out, "--allow-problems")
    assert done.returncode == 0, done.stderr
    (run,) = collect([folder]).runs
    told = json.loads(json.dumps(run.overview()))
    assert {key: told[key] for key in json.loads(out.read_text())["maze"]} == json.loads(out.read_text())["maze"]


def test_steps_and_tool_errors_are_counted(folder):
    report = collect([folder])
    (run,) = report.runs
    columns = report.columns()
    assert sum(count * traces for count, traces in run.steps.items()) == sum(columns["steps"])
    assert run.unusable_steps == sum(columns["errors"]) == sum(run.summary.errors.values()) > 0
    assert run.summary.problems.unreadable == 1


def test_the_list_says_what_each_trace_is(folder):
    columns = collect([folder]).columns()
    row = {name: values[columns["id"].index("revised_box")] for name, values in columns.items()}
    expected = {"score": 1.0, "answer": "B", "truth": "B", "stop": "answered", "steps": 3, "boxes": 2, "reflection": 2}
    assert {name: row[name] for name in expected} == expected
    stops = dict(zip(columns["id"], columns["stop"], strict=True))
    assert (stops["unread"], stops["engine_error"]) == ("input_error", "engine_error")


def test_a_choice_leaves_the_overview_alone(folder):
    whole, wrong = collect([folder]), collect([folder], Choice(only_wrong=True))
    assert wrong.runs[0].overview() == whole.runs[0].overview()
    assert 0 < len(wrong.entries) < len(whole.entries)
    assert all(score < 1 for score in wrong.columns()["score"])
    assert [entry.result.id for entry in collect([folder], Choice(ids=("one_box",))).entries] == ["one_box"]
    assert collect([folder], Choice(limit=3)).entries == whole.entries[:3]


@pytest.mark.parametrize(
    ("choice", "message"),
    [(Choice(ids=("nobody",)), "no such item: nobody"), (Choice(ids=("one_box",), only_wrong=True), "that is wrong")],
)
def test_an_id_that_is_not_there_is_told(folder, choice, message):
    with pytest.raises(DataError, match=message):
        collect([folder], choice)


def test_folders_are_found_behind_files_and_runs(folder, tmp_path):
    write_rows(folder.parent / "own", golden_rows(tmp_path)[:1])
    (folder.parent / "empty").mkdir()
    assert find_folders([folder.parent]) == [folder, folder.parent / "own"]
    assert find_folders([folder / "results.jsonl", folder]) == [folder]
    report = collect(find_folders([folder.parent]))
    assert [run.name for run in report.runs] == ["maze", "own"]
    assert report.entries[-1].run == 1


def test_steps_of_grpo_are_found_below_their_run(tmp_path):
    steps = [tmp_path / f"rollouts/train/step_{number:06d}" for number in (1, 2, 10)]
    for step in reversed(steps):
        step.mkdir(parents=True)
        write_rows(step, [])
    assert find_folders([tmp_path]) == steps


def test_a_path_without_results_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"run eval/infer\.sh first"):
        find_folders([tmp_path])
    write_rows(tmp_path / "maze/shard-0-of-2", [])
    with pytest.raises(DataError, match="merge_results"):
        find_folders([tmp_path])
    (tmp_path / "other.jsonl").touch()
    with pytest.raises(DataError, match=r"is no results\.jsonl"):
        find_folders([tmp_path / "other.jsonl"])


def test_a_view_tells_new_kept_and_revised_marks(tmp_path):
    golden = Golden(
        "g",
        make_example("g", [(168, 168)]),
        (
            boxes((1, [1, 1, 50, 50], "a"), (1, [60, 60, 90, 90], "b")),
            boxes((2, [3, 3, 52, 52], "a")),
            lines((3, [5, 5], [99, 99], "a")),
            "no call",
            answer(),
        ),
    )
    (trace,) = details_of(tmp_path / "maze", golden)

    def shown(step):
        (view,) = trace["steps"][step]["views"]
        return {key: [trace["marks"][n][2:7] for n in view[key]] for key in ("new", "kept", "gone")} | {
            "images": (view["of"], view["image"])
        }

    old, new, b = [1, 1, 50, 50, "a"], [3, 3, 52, 52, "a"], [60, 60, 90, 90, "b"]
    line = [5, 5, 99, 99, "a"]
    assert shown(0) == {"new": [old, b], "kept": [], "gone": [], "images": (1, 2)}
    assert shown(1) == {"new": [new], "kept": [b], "gone": [old], "images": (2, 3)}
    assert shown(2) == {"new": [line], "kept": [b, new], "gone": [], "images": (3, 4)}
    assert trace["steps"][3]["views"] == trace["steps"][4]["views"] == []
    assert trace["steps"][3]["error"] == "no_action"
    assert "neither draws nor answers" in trace["steps"][3]["told"]


def test_a_step_may_draw_on_several_images_and_branches(tmp_path):
    """Two images of one root, each with its own marks."""
    golden = Golden(
        "g",
        make_example("g", [(168, 168)]),
        (
            boxes((1, [1, 1, 50, 50], "a")),
            boxes((1, [9, 9, 60, 60], "b")),
            boxes((3, [2, 2, 8, 8], "c"), (2, [3, 3, 9, 9], "d")),
            answer(),
        ),
    )
    (trace,) = details_of(tmp_path / "maze", golden)
    views = trace["steps"][2]["views"]
    assert [(view["of"], view["image"]) for view in views] == [(3, 4), (2, 5)]
    labels = [[trace["marks"][n][6] for n in (*view["kept"], *view["new"])] for view in views]
    assert labels == [["b", "c"], ["a", "d"]]


def test_marks_told_in_words_stand_on_the_image_they_name(tmp_path):
    """Feedback `text` makes no image; the marks, and their revision, are shown all the same."""
    from vilasr.episode import Episode
    from vilasr.feedback import Feedback, FeedbackMode
    from vilasr.messages import FinishReason, Reply
    from vilasr.prompts import default_profile
    from vilasr.results import result_row

    example = make_example("told", [(168, 168)])
    episode = Episode(example, default_profile(), feedback=Feedback(FeedbackMode.TEXT))
    for text in (boxes((1, [1, 1, 50, 50], "a")), boxes((1, [3, 3, 52, 52], "a")), answer()):
        episode.advance(Reply(text, FinishReason.STOP))
    row = result_row(example, episode.trace(), "c", feedback="text")
    report = collect([write_rows(tmp_path / "maze", [row])])
    trace = detail(report.entries[0], Frames(report).of(report.entries[0]))
    assert trace["feedback"] == "text"
    first, second = (step["views"][0] for step in trace["steps"][:2])
    assert (first["image"], first["of"], first["new"]) == (1, 1, [0])
    assert (second["new"], second["gone"]) == ([1], [0])


@pytest.mark.parametrize(
    "change",
    [
        {"images": [{"index": 1, "root": 1, "parent": None, "width": "<b>", "height": 5, "marks": []}]},
        {"images": [{"index": 1, "root": 7, "parent": None, "width": 5, "height": 5, "marks": []}]},
        {"images": [{"index": 5, "root": 1, "parent": None, "width": 5, "height": 5, "marks": []}]},
        {"images": []},
        {"images": [{"index": 1, "root": "1", "parent": None, "width": 5, "height": 5, "marks": []}]},
    ],
)
def test_a_record_that_cannot_be_drawn_is_told_and_the_rest_shown(tmp_path, change):
    row = next(row for row in golden_rows(tmp_path) if row["id"] == "one_box") | change
    report = collect([write_rows(tmp_path / "maze", [row])])
    trace = detail(report.entries[0], Frames(report).of(report.entries[0]))
    assert trace["broken"]
    assert trace["question"] == row["question"]
    assert trace["steps"][0]["text"] == row["steps"][0]["text"]


def test_an_attack_stays_text(folder):
    report = collect([folder])
    entry = next(entry for entry in report.entries if entry.result.id.startswith(ATTACKS[1]))
    trace = detail(entry, Frames(report).of(entry))
    assert trace["options"] == list(ATTACKS)
    json.dumps(trace, allow_nan=False)


PUBLISHED_ROW = {
    "question": "Is it a chair?",
    "options": ["A. yes", "B. no"],
    "answer": "A",
    "image_path": ["a.png"],
    "problem_type": "multiple choice",
    "original_question_type": "counting",
    "conversations": [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": answer("A")}],
    "model_output": answer("A"),
}


def test_published_shards_are_one_folder(tmp_path):
    """Whether the run, the benchmark, or some of the shards are named."""
    maze = tmp_path / "run" / "maze"
    for number in range(2):
        write_rows(maze / f"{number}_2", [{**PUBLISHED_ROW, "question": f"Is it {number}{n}?"} for n in range(3)])
    for named in ([tmp_path], [maze], [maze / "0_2", maze / "1_2/results.jsonl"]):
        assert find_folders(named) == [maze]
    (run,) = collect([maze]).runs
    assert (run.name, run.results, run.label) == ("maze", 6, "run/maze")


def test_links_keep_their_name_and_end(folder, tmp_path):
    """By a link's name a scorer is found; a link to a folder above ends."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "maze").symlink_to(folder)
    (other / "up").symlink_to(other)
    (folder.parent / "back").symlink_to(other)
    assert find_folders([other]) == [other / "maze"]
    assert find_folders([other / "maze", folder, other / "maze/results.jsonl"]) == [other / "maze"]
    assert find_folders([folder.parent]) == [folder]
    (folder.parent / "again").symlink_to(folder)
    assert find_folders([folder.parent]) == [folder], "what is there by its own name keeps it"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x").symlink_to(folder)
    assert find_folders([tmp_path / "deep/x/../maze"]) == [folder], "behind a link, .. leads to the real parent"


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["/a/rl/maze"], ["rl/maze"]),
        (["/a/rl/maze", "/b/rl/maze", "/a/rl/own"], ["a/rl/maze", "b/rl/maze", "rl/own"]),
        (["/x/a/rl/maze", "/y/a/rl/maze", "/b/rl/maze"], ["x/a/rl/maze", "y/a/rl/maze", "b/rl/maze"]),
    ],
)
def test_runs_are_named_by_what_tells_them_apart(folders, expected):
    assert labels(list(map(Path, folders))) == expected


def test_folders_without_results_are_told_and_the_rest_read(folder, caplog):
    write_rows(folder.parent / "own", [])
    write_rows(folder.parent / "vsi_bench/shard-0-of-2", [])
    folders = find_folders([folder.parent])
    assert folders == [folder, folder.parent / "own"]
    assert "vsi_bench: left out; join its shards" in caplog.text
    report = collect(folders)
    assert [run.name for run in report.runs] == ["maze"]
    assert report.skipped == 1
    assert "own/results.jsonl: holds no results" in caplog.text
    with pytest.raises(DataError, match="holds no results"):
        collect([folder.parent / "own"])


def test_figures_are_those_evaluate_prints():
    """Halves too: a browser's toFixed makes 0.3 of 0.25, Python 0.2 (format rounds halves to even)."""
    from vilasr.scoring import Group
    from vilasr.viewer.collect import percent_texts

    assert percent_texts(Group("overall", 4, 0.0025, 0.00125, 0.9975)) == ["0.2", "0.1", "99.8"]
    assert f"{100 * 0.0025}" == "0.25", "a half"


def test_an_answer_that_is_no_text_is_shown_as_json(tmp_path):
    row = next(row for row in golden_rows(tmp_path) if row["id"] == "one_box")
    row["steps"][-1]["answer"] = {"a": 1}
    report = collect([write_rows(tmp_path / "maze", [row])])
    trace = detail(report.entries[0], Frames(report).of(report.entries[0]))
    assert trace["steps"][-1]["answer"] == '{"a": 1}'


def test_sums_without_end_are_told(tmp_path):
    rows = [{**row, "usage": {"tokens": 1e308, "turns": 2}} for row in golden_rows(tmp_path)[:3]]
    (run,) = collect([write_rows(tmp_path / "maze", rows)]).runs
    told = run.overview()
    json.dumps(told, allow_nan=False)
    assert told["usage"] == {"turns": 6}
    assert "usage: tokens is no number that can be summed" in told["problem_lines"]


def test_a_row_no_scorer_takes_is_counted_and_the_rest_shown(tmp_path, caplog):
    rows = golden_rows(tmp_path)[:3]
    rows[1]["steps"][0]["error"] = {"no": "text"}
    report = collect([write_rows(tmp_path / "maze", rows)])
    assert [entry.result.id for entry in report.entries] == [rows[0]["id"], rows[2]["id"]]
    assert report.runs[0].summary.problems.unreadable == 1
    assert f"item {rows[1]['id']}: cannot be scored" in caplog.text


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("root", None, "names image 'None'"),
        ("root", True, "names image 'True'"),
        ("parent", True, "names image 'True'"),
        ("index", True, "not numbered from 1"),
        ("width", True, "side 'True'"),
        ("height", 10**400, "side '1000"),
        ("width", 1.5, "side '1.5'"),
    ],
)
def test_numbers_of_an_image_are_whole(tmp_path, field, value, message):
    row = next(row for row in golden_rows(tmp_path) if row["id"] == "one_box")
    row["images"][0][field] = value
    report = collect([write_rows(tmp_path / "maze", [row])])
    trace = detail(report.entries[0], Frames(report).of(report.entries[0]))
    assert message in trace["broken"]
