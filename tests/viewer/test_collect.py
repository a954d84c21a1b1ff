import json

import pytest

from tests.conftest import run_tool
from tests.golden import Golden, answer, boxes, lines, make_example
from tests.viewer.cases import ATTACKS, failed_rows, golden_rows, hostile_row, write_rows
from vilasr.tasks import DataError
from vilasr.viewer import Choice, Frames, collect, find_folders
from vilasr.viewer.details import detail


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
