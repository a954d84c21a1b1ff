import json

import pytest
from PIL import Image

from tests.conftest import run_tool
from tests.golden import answer, boxes, golden_traces
from vilasr.results import parse_row, result_row
from vilasr.sheet import trace_sheet
from vilasr.tasks import DataError


@pytest.fixture
def results(tmp_path):
    """Results of the golden traces, with the questions' images on disk."""
    rows = []
    for golden in golden_traces():
        files = []
        for name, frame in zip(golden.example.image_paths, golden.example.frames, strict=True):
            frame.save(tmp_path / name)
            files.append(str(tmp_path / name))
        rows.append(result_row(golden.example, golden.run().trace(), "c", tuple(files)))
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path, rows


def test_every_golden_trace_becomes_a_sheet(results):
    _, rows = results
    for row in rows:
        result = parse_row(row)
        sheet = trace_sheet(result)
        assert sheet.width >= 336 * len(result.trace.images)


def test_the_sheet_shows_what_was_drawn(results):
    """The drawn image on the sheet has the mark's colour; the clean one has not."""
    _, rows = results
    row = next(r for r in rows if r["id"] == "one_box")
    sheet = trace_sheet(parse_row(row))
    from vilasr.drawing.canvas import label_color

    colour = label_color("chair")
    left, right = sheet.crop((0, 0, 360, sheet.height)), sheet.crop((360, 0, sheet.width, sheet.height))

    def count(image):
        return sum(n for n, value in image.getcolors(1 << 24) if value == colour)

    assert count(right) > 200 > count(left)


def test_the_tool_draws_the_busiest_traces_and_chosen_ids(results, tmp_path):
    path, _ = results
    done = run_tool("tools/draw_traces.py", path, "--out", tmp_path / "out", "--limit", 2)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 2
    done = run_tool("tools/draw_traces.py", path, "--out", tmp_path / "out", "--ids", "one_line")
    assert Image.open(tmp_path / "out" / "one_line.png").width > 0
    assert done.returncode == 0


def test_errors_name_the_item(results, tmp_path):
    path, rows = results
    for arguments, message in ((("--ids", "nobody"), "no item 'nobody'"),):
        done = run_tool("tools/draw_traces.py", path, "--out", tmp_path / "out", *arguments)
        assert done.returncode == 1
        assert message in done.stderr
    row = {**rows[0], "image_files": ["/none/there.png"]}
    with pytest.raises(DataError, match=r"item .*no such image file"):
        trace_sheet(parse_row(row))


def test_hostile_labels_and_long_texts(results):
    from tests.golden import Golden, make_example

    golden = Golden(
        "h",
        make_example("h", [(168, 168)]),
        (boxes((1, [1, 1, 50, 50], "\u202e门" * 20), thought="x " * 9000), answer("B" * 5000)),
    )
    _, rows = results
    row = result_row(golden.example, golden.run().trace(), "c", tuple(rows[1]["image_files"]))
    trace_sheet(parse_row(row))
