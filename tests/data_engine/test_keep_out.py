"""Benchmark questions are neither sampled nor written, and the report says so, whoever left them out."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import run_tool
from tests.data_engine.sampled import COUNT, questions, write_results
from vilasr.data_engine.benchmarks import read_benchmarks
from vilasr.data_engine.build import judge
from vilasr.data_engine.filters import parsed
from vilasr.data_engine.keep_out import KeepOut
from vilasr.data_engine.leaks import Match
from vilasr.data_engine.reading import find_results
from vilasr.question_file import QuestionFile
from vilasr.selection import Selection
from vilasr.tasks import DataError, read_examples


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Questions in rl/, their results in results/q/, and the first two as a benchmark, in other words."""
    data = questions(tmp_path)
    write_results(data, tmp_path / "results/q")
    rows = [json.loads(line) for line in data.read_text().splitlines()][:2]
    for number, row in enumerate(rows):
        row["problem_type"] = row.pop("question_type")
        row |= {"id": f"test-{number}", "question": f"Where does it end ({number})?"}
        for image in row["image_path"]:
            (tmp_path / "benchmark" / image).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data.parent / image, tmp_path / "benchmark" / image)
    (tmp_path / "benchmark/maze.json").write_text(json.dumps(rows))
    return tmp_path


def keep_out(place: Path) -> KeepOut:
    return KeepOut(read_benchmarks(place / "benchmark"))


def test_they_are_not_sampled(place, caplog):
    data = questions(place)
    items = read_examples(data)
    one = keep_out(place)
    assert list(one.items(QuestionFile.read(data, Selection()))) == items[2:]
    assert f"2 of {COUNT} questions are in a benchmark" in caplog.text
    assert [(leak.id, leak.test_id, leak.match) for leak in one.found.values()] == [
        (items[0].id, "test-0", Match.PICTURE), (items[1].id, "test-1", Match.PICTURE),
    ]  # fmt: skip


def test_they_are_not_written(place):
    episodes = judge(find_results([place / "results"]), [parsed()]).passed
    names = {item.id for item in read_examples(questions(place))[:2]}
    one = keep_out(place)
    kept = one.judged(episodes)
    assert len(episodes) == 4 * COUNT
    assert kept == [item for item in episodes if item.id not in names]
    assert len(kept) == 4 * (COUNT - 2)
    assert one.report()["dropped"] == 2
    assert one.report()["compared_with"] == {"maze": {"questions": 2, "by_words_alone": 0}}


@pytest.mark.parametrize("turned", [False, True], ids=["clean first", "test item first"])
def test_two_questions_of_one_id_are_told_apart(place, turned):
    """As after an edit of the file of questions, or in two files."""
    file = place / "results/q/results.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    clean, leak = rows[4 * (COUNT - 1)], rows[0]
    leak["id"] = clean["id"]
    file.write_text("".join(json.dumps(row) + "\n" for row in ((leak, clean) if turned else (clean, leak))))
    kept = keep_out(place).judged(judge([file], [parsed()]).passed)
    assert [(item.id, item.digest) for item in kept] == [(clean["id"], clean["digest"])]


def test_what_shards_left_out_stands_in_the_report(place):
    data = questions(place)
    first = keep_out(place)
    first.items(QuestionFile.read(data, Selection(limit=1)))
    first.save(place / "results/q/left_out.json")
    out = place / "out"
    words = ("--preset", "reflective", "--results", place / "results", "--dataset-dir", out)
    done = run_tool("tools/sample_traces.py", *words, "--benchmark-dir", place / "benchmark")
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report_reflective/funnel.json").read_text())
    assert report["test_items"]["dropped"] == 2
    assert {item["match"] for item in report["test_items"]["items"]} == {"same picture"}
    counts = {row["stage"]: row["episodes"] for row in report["overall"]}
    assert (counts["reflective"], counts["no test item"], counts["kept"]) == (COUNT, COUNT - 2, COUNT - 2)


def test_pictures_are_found_in_the_data_root_as_for_evaluation(place):
    shutil.move(place / "benchmark/images", place / "root_images")
    root = place / "root"
    root.mkdir()
    shutil.move(place / "root_images", root / "images")
    words = ("--preset", "reflective", "--results", place / "results", "--benchmark-dir", place / "benchmark")
    done = run_tool("tools/sample_traces.py", *words, "--dataset-dir", place / "out", "--data-root", root)
    assert done.returncode == 0, done.stderr
    report = json.loads((place / "out/report_reflective/funnel.json").read_text())
    assert report["test_items"]["dropped"] == 2


def test_a_folder_without_benchmarks_is_no_check(place):
    (place / "empty").mkdir()
    words = ("--preset", "reflective", "--results", place / "results", "--dataset-dir", place / "out")
    done = run_tool("tools/sample_traces.py", *words, "--benchmark-dir", place / "empty")
    assert done.returncode == 2
    assert "--no-benchmark-check" in done.stderr
    assert not (place / "out").exists()


def test_a_damaged_note_of_a_shard_is_told(place):
    (place / "results/q/left_out.json").write_text("[{}]")
    with pytest.raises(DataError, match=r"left_out\.json: cannot be read"):
        keep_out(place).load(place / "results/q/left_out.json")
