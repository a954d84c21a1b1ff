import json
import multiprocessing
import random

import pytest

from tests.golden import golden_traces
from vilasr import seen
from vilasr.results import ResultsWriter, broken_row, parse_row, read_lines, result_row
from vilasr.tasks import DataError

GOLDEN = golden_traces()[:3]
CONFIG = {"checkpoint": "a", "seed": 0}


def rows(config: str = "c") -> list[dict]:
    return [result_row(g.example, g.run().trace(), config, usage={"turns": 1}) for g in GOLDEN]


def fill(folder, config=CONFIG, count=3) -> ResultsWriter:
    with ResultsWriter(folder, config) as writer:
        for row in rows(writer.config)[:count]:
            writer.append(row)
    return writer


def test_rows_read_back_equal(tmp_path):
    writer = fill(tmp_path)
    results = [parse_row(row) for _, row in read_lines(writer.path)]
    for golden, result in zip(GOLDEN, results, strict=True):
        assert result.trace == golden.run().trace()
        assert result.example.digest() == golden.example.digest() == result.digest


def test_resume_knows_what_is_done(tmp_path):
    fill(tmp_path, count=2)
    with ResultsWriter(tmp_path, CONFIG) as writer:
        assert [(g.example.id, g.example.digest(), 0) in writer.done for g in GOLDEN] == [True, True, False]
        assert (len(writer.done), len(writer.failed)) == (2, 0)


def test_numbers_of_other_programs_are_the_same_and_no_numbers_are_damage(tmp_path):
    writer = fill(tmp_path, count=1)
    row = json.loads(writer.path.read_text())
    for sample, known in ((0.0, 0), (2.0, 2), (1, 1)):
        writer.path.write_text(json.dumps({**row, "sample": sample}) + "\n")
        with ResultsWriter(tmp_path, CONFIG) as again:
            assert [(row["id"], row["digest"], number) in again.done for number in range(3)] == [
                number == known for number in range(3)
            ]
    for change in ({"sample": "1"}, {"sample": None}, {"id": ["a"]}, {"digest": {}}):
        writer.path.write_text(json.dumps(row) + "\n" + json.dumps({**row, **change}) + "\n")
        with pytest.raises(DataError, match="line 2 is damaged"):
            ResultsWriter(tmp_path, CONFIG)


def test_many_results_are_known_again(tmp_path, monkeypatch):
    """More than wait to be sorted in."""
    monkeypatch.setattr(seen, "_RECENT", 50)
    with ResultsWriter(tmp_path, CONFIG) as writer:
        for number in range(400):
            writer.append(broken_row(f"q{number // 2}", "", "maze", writer.config, "-", number % 2))
    with ResultsWriter(tmp_path, CONFIG) as writer:
        assert len(writer.done) == len(writer.failed) == 400
        assert all((f"q{number}", "", sample) in writer.done for number in range(200) for sample in (0, 1))
        assert not any((f"q{number}", "", sample) in writer.done for number in range(200) for sample in (2, 3))


def test_a_torn_tail_at_any_byte_is_cut_off(tmp_path):
    writer = fill(tmp_path)
    whole = writer.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in random.Random(0).sample(range(len(whole)), 25):
        writer.path.write_bytes(whole[:cut])
        with ResultsWriter(tmp_path, CONFIG) as again:
            kept = 0
            while kept < len(lines) and sum(map(len, lines[: kept + 1])) <= cut:
                kept += 1
            assert len(again.done) == kept
        assert writer.path.read_bytes() == b"".join(lines[:kept])


def test_other_settings_are_refused_and_named(tmp_path):
    fill(tmp_path)
    with pytest.raises(DataError, match=r"another configuration.*changed: seed.*--overwrite"):
        ResultsWriter(tmp_path, {**CONFIG, "seed": 1})


def test_a_damaged_line_is_named(tmp_path):
    writer = fill(tmp_path)
    lines = writer.path.read_text().splitlines()
    writer.path.write_text("\n".join([lines[0], "junk", lines[2]]) + "\n")
    with pytest.raises(DataError, match="line 2 is damaged"):
        ResultsWriter(tmp_path, CONFIG)


def test_nothing_of_before_is_lost_by_starting_anew_twice(tmp_path):
    for _ in range(3):
        fill(tmp_path, count=2)
        with ResultsWriter(tmp_path, CONFIG, overwrite=True) as writer:
            assert not writer.done
    names = sorted(path.name for path in tmp_path.glob("results.previous*"))
    assert names == ["results.previous-2.jsonl", "results.previous-3.jsonl", "results.previous.jsonl"]
    assert all(len((tmp_path / name).read_text().splitlines()) == 2 for name in names)


def test_a_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a file is in the way"):
        ResultsWriter(tmp_path / "file" / "maze", CONFIG)


def test_failed_items_stay_unless_asked(tmp_path):
    with ResultsWriter(tmp_path, CONFIG) as writer:
        writer.append(broken_row("bad", "", "maze", writer.config, "no image"))
        writer.append(rows(writer.config)[0])
    with ResultsWriter(tmp_path, CONFIG) as writer:
        assert ("bad", "", 0) in writer.done
        assert (len(writer.done), len(writer.failed), ("bad", "", 0) in writer.failed) == (2, 1, True)
    with ResultsWriter(tmp_path, CONFIG, retry_errors=True) as writer:
        assert (GOLDEN[0].example.id, GOLDEN[0].example.digest(), 0) in writer.done
        assert (len(writer.done), len(writer.failed)) == (1, 0)
    assert len(writer.path.read_text().splitlines()) == 1


def _open(folder, queue) -> None:
    try:
        ResultsWriter(folder, CONFIG)
        queue.put("opened")
    except DataError as exc:
        queue.put(str(exc))


def test_two_processes_do_not_write_one_file(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with ResultsWriter(tmp_path, CONFIG):
        process = context.Process(target=_open, args=(tmp_path, queue))
        process.start()
        assert "another run is writing it" in queue.get(timeout=60)
        process.join()


def test_bad_rows_name_the_field():
    row = rows()[0]
    for field in ("id", "question", "steps", "stop_reason"):
        with pytest.raises(DataError, match=f"'{field}' is missing"):
            parse_row({k: v for k, v in row.items() if k != field})
    with pytest.raises(DataError, match="wrong type or value"):
        parse_row({**row, "stop_reason": "tired"})
    with pytest.raises(DataError, match="must be an object"):
        parse_row([1])


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("id", [None, 3, ["a"]], "must be a text"),
        ("id", ["\ud83d"], r"'\\ud83d' holds half a character"),
        ("digest", [None, 3], "must be a text"),
        ("config", [None, 3], "must be a text"),
        ("question", [None, 5, ["a"]], "must be a text"),
        ("truth", [None, 3, float("nan")], "must be a text"),
        ("answer", [3, ["A"], True], "must be a text"),
        ("task", [None, 7], "must be a text"),
        ("task", ["\ud83d"], "half a character"),
        ("data_type", [None, 7], "must be a text"),
        ("data_type", ["a\udc00"], "half a character"),
        ("benchmark", [None, 7, {}], "must be a text"),
        ("benchmark", ["\ud83d"], "half a character"),
        ("detail", [None, 7], "must be a text"),
        ("feedback", [None, 7], "must be a text"),
        ("options", [None, "ABCD", {"A": "x"}, [1, 2]], "must be a list of texts"),
        ("image_files", [None, "abc", [None]], "must be a list of texts"),
        ("sample", [None, float("inf"), float("nan"), 1.5, "1", True], "is not a whole number"),
        ("grid_size", [float("inf"), float("nan"), 1.5, "6", [6, 6]], "is not a whole number"),
        ("usage", [None, 3, {"turns": "many"}, {"turns": None}, {"turns": 10**400}], "must be an object of numbers"),
        ("usage", [{"turns": float("inf")}, {"turns": float("nan")}], "must be an object of finite numbers"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(field, values, message):
    row = rows()[0]
    for value in values:
        with pytest.raises(DataError, match=f"^{field}: .*{message}"):
            parse_row({**row, field: value})


def test_a_huge_number_in_the_trace_is_an_error_of_the_row():
    row = rows()[0]
    step = {**row["steps"][0], "marks": [{"index": float("inf"), "label": "a", "bbox_2d": [1, 2, 3, 4]}]}
    with pytest.raises(DataError, match="wrong type or value"):
        parse_row({**row, "steps": [step]})


def test_what_older_files_hold_is_still_read():
    row = rows()[0]
    older = {k: v for k, v in row.items() if k not in ("sample", "grid_size", "usage", "feedback")}
    result = parse_row({**older, "question": "\ud800", "answer": None})
    assert (result.sample, result.feedback, result.usage, result.trace.answer) == (0, "real", {}, None)
    assert (result.example.question, result.example.grid_size) == ("\ud800", None)
    assert parse_row({**row, "sample": 2.0, "grid_size": 6.0}).example.grid_size == 6
    unread = broken_row("x", "", "maze", "c", "no image")
    oldest = parse_row({k: v for k, v in unread.items() if k not in ("sample", "task", "benchmark")})
    assert (oldest.sample, oldest.task, oldest.source, oldest.data_type) == (0, "", "", "")


def test_an_unread_item_keeps_what_is_known_of_it():
    plain = broken_row("x", "", "maze", "c", "no image")
    assert "data_type" not in plain
    assert (parse_row(plain).source, parse_row(plain).data_type) == ("maze", "")
    known = parse_row(broken_row("x", "d", "rl", "c", "no image", 3, "route", "spatial_r1"))
    assert (known.source, known.data_type, known.task, known.sample) == ("rl", "spatial_r1", "route", 3)
    assert (known.example, known.trace, known.detail) == (None, None, "no image")
    for field in ("id", "task", "benchmark", "data_type", "detail"):
        with pytest.raises(DataError, match=f"^{field}: must be a text, not int"):
            parse_row({**plain, field: 7})


def test_a_result_has_its_items_source():
    result = parse_row({**rows()[0], "benchmark": "rl", "data_type": "vqa"})
    assert (result.source, result.data_type) == ("rl", "vqa")
    assert (result.example.source, result.example.data_type) == ("rl", "vqa")


def test_hostile_text_survives(tmp_path):
    row = {**rows()[0], "question": "\ud800 \u2028 \n </script>"}
    with ResultsWriter(tmp_path, CONFIG) as writer:
        writer.append(row)
    [(_, read)] = read_lines(writer.path)
    assert read["question"] == row["question"]
    assert json.loads(writer.path.read_text())
