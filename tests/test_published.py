import json
import math
import random

import pytest

from tests.golden import answer, boxes, lines
from tests.published_averages import published_overall
from vilasr.published import (
    ANSWER_ONLY,
    PublishedResult,
    find_published,
    read_published,
    read_published_folder,
)
from vilasr.published_rules import float32_accuracy, published_score
from vilasr.scoring import find_benchmark
from vilasr.scoring.reading import PUBLISHED, read_all
from vilasr.scoring.summary import summarise
from vilasr.tasks import DataError, read_examples
from vilasr.traces import EventKind, StopReason

VISION = "<|vision_start|><|image_pad|><|vision_end|>"


def row(replies=(answer("A"),), **fields) -> dict:
    conversations = [
        {"role": "system", "content": "system\nDraw."},
        {"role": "user", "content": [{"type": "image", "image": "x"}, {"type": "text", "text": f"{VISION}Which?\n"}]},
    ]
    for number, reply in enumerate(replies):
        if number:
            conversations.append({"role": "user", "content": [{"type": "text", "text": f"{VISION}\nGo on.\n"}]})
        conversations.append({"role": "assistant", "content": reply})
    base = {
        "question": "Which?",
        "options": ["A. left", "B. right"],
        "answer": "A",
        "image_path": ["a.png"],
        "problem_type": "multiple choice",
        "original_question_type": "object_rel_distance",
        "data_type": "single_view",
        "conversations": conversations,
        "model_output": replies[-1],
        "model_id": "m",
        "sample_dir": None,
    }
    return base | fields


def written(folder, *rows, end="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + end)
    return path


def read(tmp_path, *rows, **kwargs) -> list:
    return list(read_published(written(tmp_path, *rows, **kwargs), "maze"))


def test_a_row_becomes_an_example_a_trace_and_a_score(tmp_path):
    replies = (boxes((1, [1, 2, 30, 40], "door")), lines((2, [1, 1], [9, 9], "way")), "?", answer("B"))
    (result,) = read(tmp_path, row(replies))
    assert isinstance(result, PublishedResult)
    assert (result.example.question, result.example.source) == ("Which?", "maze")
    trace = result.trace
    assert [step.action for step in trace.steps] == ["Object Mapper", "Path Tracer", None, "Answer"]
    assert (trace.boxes, trace.lines, trace.tool_errors) == (1, 1, 1)
    assert [(e.step, e.kind, e.detail) for e in trace.events] == [(3, EventKind.REPLY_ERROR, "no_action")]
    assert (trace.answer, trace.stop_reason, result.model_output) == ("B", StopReason.ANSWERED, replies[-1])
    assert (result.published, result.crash) == (0.0, "")
    assert trace.conversation[0] == {"role": "system", "content": "Draw.", "images": []}
    users = [message for message in trace.conversation if message["role"] == "user"]
    assert [message["content"] for message in users] == ["<image>Which?\n"] + ["<image>\nGo on.\n"] * 3
    assert [message["images"] for message in users] == [[1], [2], [3], [4]]


def test_ids_are_those_of_the_benchmark_file(tmp_path):
    rows = [row(), row(id="mine"), row()]
    (tmp_path / "maze.json").write_text(json.dumps(rows))
    ids = [result.example.id for result in read(tmp_path / "results", *rows)]
    assert ids == [item.id for item in read_examples(tmp_path / "maze.json")]
    assert ids == ["maze-000000", "mine", "maze-000002"]


def test_an_answer_in_no_legal_form_is_taken_and_listed(tmp_path):
    both = boxes((1, [1, 2, 30, 40], "door")) + "\n<answer> A </answer>"
    (result,) = read(tmp_path, row((both,)))
    assert (result.trace.answer, result.published) == ("A", 1.0)
    (step,) = result.trace.steps
    assert (step.error, step.departures) == ("call_and_answer", (ANSWER_ONLY,))
    assert not result.trace.well_formed
    assert (1, EventKind.DEPARTURE, ANSWER_ONLY) in [(e.step, e.kind, e.detail) for e in result.trace.events]


def test_without_an_answer(tmp_path):
    drawn = boxes((1, [1, 2, 30, 40], "door"))
    last_draws, unclosed, empty = read(
        tmp_path, row((drawn,)), row(("<think> x </think> <answer> A",)), row((drawn, ""))
    )
    for result in (last_draws, unclosed, empty):
        assert (result.trace.answer, result.trace.stop_reason) == (None, StopReason.NO_ANSWER)
    assert last_draws.published == 0.0  # "<" is the first character
    assert len(empty.trace.steps) == 1
    assert empty.trace.detail == "the last reply is empty"
    assert empty.published is None
    assert empty.crash.startswith("IndexError")


@pytest.mark.parametrize(
    ("output", "truth", "kind", "score"),
    [
        ("<answer> Because </answer>", "B", "multiple choice", 1.0),
        ("<answer>(B)</answer>", "B", "multiple choice", 0.0),
        ("<answer>b</answer><answer>C</answer>", "<answer> B. x </answer>", "multiple choice", 1.0),
        ("</answer><answer> C </answer>", "C", "multiple choice", 1.0),
        ("the answer is B", "B", "multiple choice", 0.0),
        ("<answer>3</answer>", "3.0", "numerical", 0.0),
        ("<answer>3.001</answer>", "3.0", "numerical", 1.0),
        ("<answer>1,200</answer>", "1200", "numerical", 0.0),
        ("<answer>3.2 meters</answer>", "3.2", "regression", 0.0),
        ("<answer>1,200</answer>", "1200", "regression", 1.0),
        ("<answer>nan</answer>", "3", "regression", 0.0),
        ("<answer>1e300</answer>", "3", "regression", 0.0),
        ("<answer>4</answer>", "4", "free-form", 0.0),
        ("<answer>4</answer>", "4", "Regression", 0.0),
        ("<answer>move_right:1,rotate_up:2</answer>", "move_right:1,rotate_up:2", "vci", 1.0),
        ("<answer>move_left:1</answer>", "move_right:1", "vci", 0.8),
        ("<answer>move_right:1,</answer>", "move_right:1", "vci", 0.0),
        ("<answer>move_right: 1, move_up:9</answer>", "move_right:1", "vci", 1.0),  # " move_up" is another name
        ("<answer>move_up:0.04</answer>", "move_right:0", "vci", 0.8),
    ],
)
def test_the_published_rule(output, truth, kind, score):
    assert published_score(output, truth, kind) == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(("number", "target", "score"), [(14, 10, 0.2), (11, 20, 0.2), (10, 10, 1.0), (0, 10, 0.0)])
def test_the_published_accuracy_is_in_float32(number, target, score):
    """At the first two float64 gives 0.3 and 0.1, as VSI-Bench has it."""
    assert float32_accuracy(number, target) == pytest.approx(score, abs=1e-6)
    assert math.isclose(float32_accuracy(9, 10), 0.9, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("fields", "crash"),
    [({"model_output": "<answer></answer>"}, "IndexError"), ({"answer": 3}, "TypeError")],
)
def test_what_stops_the_published_program_is_named(tmp_path, fields, crash):
    (result,) = read(tmp_path, row(**fields))
    assert result.published is None
    assert result.crash.startswith(crash)


def results(tmp_path, benchmark: str, *scores: tuple[str, float]) -> list:
    rows = [row((answer("A" if s else "B"),), original_question_type=task) for task, s in scores]
    return list(read_published(written(tmp_path, *rows), benchmark))


def test_vsi_bench_pools_difficulties_and_averages_tasks(tmp_path):
    easy, hard = "object_rel_direction_easy", "object_rel_direction_hard"
    found = results(tmp_path, "vsi_bench", (easy, 1), (hard, 0), (hard, 0), ("route_planning", 1), ("other", 1))
    overall = published_overall(found, "vsi_bench")
    assert overall["object_rel_direction"] == pytest.approx(1 / 3)  # the mean of the levels' means would be 1/2
    assert overall["overall"] == pytest.approx((1 / 3 + 1) / 2)
    assert overall["mean"] == pytest.approx(3 / 5)
    assert "other" not in overall


def test_spar_bench_pools_groups_and_averages_tasks(tmp_path):
    depth, match = "depth_prediction_oc", "position_matching"
    found = results(
        tmp_path, "spar_bench", (depth, 1), (depth, 1), ("depth_prediction_oo", 0), (match, 1), ("other", 0)
    )
    overall = published_overall(found, "spar_bench")
    assert overall["Low"] == pytest.approx(2 / 3)
    assert overall["Medium"] == 1.0
    assert "High" not in overall
    assert overall["overall"] == pytest.approx((1 + 0 + 1) / 3)
    assert overall["mean"] == pytest.approx(3 / 5)


def test_other_benchmarks_have_the_plain_mean(tmp_path):
    found = results(tmp_path, "maze", ("a", 1), ("a", 1), ("b", 0))
    assert published_overall(found, "maze") == {"overall": pytest.approx(2 / 3), "mean": pytest.approx(2 / 3)}
    assert published_overall([], "maze") == {}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("benchmark", ["vsi_bench", "spar_bench", "maze"])
def test_the_evaluation_reports_the_averages_that_it_prints(tmp_path, benchmark, seed):
    """Over random results of unlike task sizes, some tasks missing."""
    chance = random.Random(seed)
    tasks = [task for task in find_benchmark(benchmark).tasks or "abcdef" if chance.random() < 0.8]
    scores = [(chance.choice(tasks), float(chance.random() < 0.6)) for _ in range(80)]
    printed = published_overall(results(tmp_path, benchmark, *scores), benchmark)
    summary, _ = summarise(read_all(tmp_path, benchmark), find_benchmark(benchmark))
    shown = {group.name.replace("Middle", "Medium"): group.mean for group in summary.scores[PUBLISHED]}
    assert len(printed) > 1
    for name, mean in printed.items():
        if name != "mean":
            assert shown[name] == pytest.approx(mean), name


def test_a_crash_counts_nothing(tmp_path):
    found = read(tmp_path, row(), row(model_output="<answer></answer>"))
    assert published_overall(found, "maze")["mean"] == 0.5


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: not JSON"),
        ("[" * 50_000, "line 2: not JSON"),
        ("7", "line 2: must be an object"),
        (json.dumps(row(question=None)), "line 2: question: is missing"),
        (json.dumps(row(model_output=3)), "line 2: model_output: must be a text"),
        (json.dumps(row(conversations="x")), "line 2: conversations: must be a list"),
        (json.dumps(row(conversations=[{"role": "bot"}])), "line 2: conversations[0]: must be an object with a role"),
        (
            json.dumps(row(conversations=[{"role": "user", "content": [3]}])),
            "line 2: conversations[0].content: must be a list of objects",
        ),
        (
            json.dumps(row(conversations=[{"role": "user", "content": [{"type": "text"}]}])),
            "line 2: conversations[0].content: a text part without text",
        ),
        (
            json.dumps(row(conversations=[{"role": "user", "content": 3}])),
            "line 2: conversations[0].content: must be a text or a list",
        ),
    ],
)
def test_broken_lines_are_named_and_the_others_read(tmp_path, line, told):
    first, broken, last = read(tmp_path, row(), line, row())
    assert isinstance(broken, DataError)
    assert told in str(broken)
    assert str(broken).startswith(str(tmp_path / "results.jsonl"))
    assert (first.example.id, last.example.id) == ("maze-000000", "maze-000002")


def test_a_half_written_last_line_is_reported(tmp_path):
    _, half = read(tmp_path, row(), json.dumps(row())[:-20], end="")
    assert isinstance(half, DataError)
    assert "line 2: half-written" in str(half)
    (whole,) = read(tmp_path, row(), end="")
    assert isinstance(whole, PublishedResult)


def test_shards_are_read_in_order(tmp_path):
    for shard in (1, 0, 2):
        written(tmp_path / f"{shard}_3", *[row(question=f"{shard}.{i}") for i in range(2)])
    assert [path.parent.name for path in find_published(tmp_path)] == ["0_3", "1_3", "2_3"]
    found = list(read_published_folder(tmp_path, "maze"))
    assert [r.example.question for r in found] == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]
    assert [r.example.id for r in found] == [f"maze-{i:06d}" for i in range(6)]


def test_missing_and_mixed_shards(tmp_path, caplog):
    with pytest.raises(DataError, match=r"neither results.jsonl nor folders of shards"):
        find_published(tmp_path / "none")
    written(tmp_path / "1_3", row())
    (tmp_path / "2_3").mkdir()
    with pytest.raises(DataError, match=r"2 of 3 shards are missing: .*0_3/results.jsonl, .*2_3/results.jsonl"):
        find_published(tmp_path)
    written(tmp_path / "0_2", row())
    with pytest.raises(DataError, match="shards of several runs, of 2, 3 shards each"):
        find_published(tmp_path)
    whole = written(tmp_path, row())
    assert find_published(tmp_path) == [whole]
    assert "the shards beside it are not" in caplog.text
