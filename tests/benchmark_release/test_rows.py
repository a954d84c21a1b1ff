"""Tables that are broken, lack something, or are made to do harm: one error that names file, row and field."""

from __future__ import annotations

import json
import re
import struct
import sys
import zlib
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.benchmark_release import releases
from tests.benchmark_release.jobs import RULE, error, examples, job
from vilasr.benchmark_release import convert
from vilasr.benchmark_release.mmsi import CATEGORIES
from vilasr.benchmark_release.spar import TASKS
from vilasr.tasks import DataError

# Values


def spoilt_vsi(folder: Path, change: dict) -> Path:
    rows = releases.vsi(folder)
    rows[4] = {key: value for key, value in {**rows[4], **change}.items() if value != "DROP"}
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"question": None}, "question: is missing"),
        ({"question": "DROP"}, "question: is missing; there are id, dataset"),
        ({"question": " \n"}, "question: is empty"),
        ({"ground_truth": ""}, "ground_truth: is empty"),
        ({"question": ["a"]}, "question: must be a text or a number, not list"),
        ({"question": "half \ud83d of it"}, "question: holds half a character"),
        ({"question_type": "route_planning", "options": ["A. \udc00", "B."]}, "options: holds half a character"),
        ({"ground_truth": True}, "ground_truth: must be a text or a number, not bool"),
        ({"ground_truth": float("nan")}, "ground_truth: nan is no number"),
        (
            {"question_type": "object_colour"},
            "question_type: 'object_colour' is unknown; VSI-Bench has object_counting",
        ),
        ({"options": ["A. one", "B. two"]}, "options: a question of the type object_size_estimation has none"),
        ({"question_type": "route_planning", "options": ["A. one"]}, "options: .* needs at least two"),
        ({"question_type": "route_planning", "options": [1, 2]}, "options: must be a list of texts"),
        ({"question_type": "route_planning", "options": "A. one"}, "options: must be a list of texts"),
        ({"scene_name": "../../etc/passwd"}, "scene_name: '../../etc/passwd' is no plain name"),
        ({"scene_name": "/etc/passwd"}, "scene_name: '/etc/passwd' is no plain name"),
        ({"dataset": ".."}, "dataset: '..' is no plain name"),
        ({"dataset": "a\\b"}, "dataset: .* is no plain name"),
        ({"scene_name": "scene9999_00"}, "scene_name: there is no video scannetpp/scene9999_00.mp4 below"),
    ],
)
def test_bad_values(change, said, tmp_path):
    source = spoilt_vsi(tmp_path / "in", change)
    message = error("vsi", source, tmp_path / "out")
    assert message.startswith(f"{source}/test.jsonl: row 4: ")
    assert re.search(said, message), message


def test_numbers_and_missing_ids_are_taken(tmp_path):
    rows = releases.vsi(tmp_path / "in")
    for row in rows:
        del row["id"]
    rows[0]["ground_truth"], rows[1]["ground_truth"] = 4, 2.5
    (tmp_path / "in/test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = examples(convert(job("vsi", tmp_path / "in", tmp_path)), "vsi")
    assert [item.id for item in found] == [str(number) for number in range(len(rows))]
    assert [item.answer for item in found[:2]] == ["4", "2.5"]


@pytest.mark.parametrize("text", ['{"id": 1', "[1]\n[2]", "\xff\xfe", "3", ""])
def test_broken_lines(text, tmp_path):
    releases.vsi(tmp_path / "in")
    (tmp_path / "in/test.jsonl").write_bytes(text.encode("latin-1"))
    assert str(tmp_path / "in") in error("vsi", tmp_path / "in", tmp_path / "out")


def test_unknown_tasks(tmp_path):
    releases.spar(tmp_path / "spar", rows=[{**releases.spar_rows(TASKS[:1])[0], "task": "size"}])
    assert "test-00001-of-00002.parquet: row 0: task: 'size' is unknown" in error("spar", tmp_path / "spar", tmp_path)
    releases.mmsi(tmp_path / "mmsi")
    table = pq.read_table(tmp_path / "mmsi/MMSI_Bench.parquet").to_pylist()
    table[5]["question_type"] = "Colour"
    releases.write_table(tmp_path / "mmsi/MMSI_Bench.parquet", table, releases.MMSI_TYPES)
    assert "row 5: question_type: 'Colour' is unknown" in error("mmsi", tmp_path / "mmsi", tmp_path)
    table[5]["question_type"] = CATEGORIES[0].replace("–", "-")
    releases.write_table(tmp_path / "mmsi/MMSI_Bench.parquet", table, releases.MMSI_TYPES)
    found = examples(convert(job("mmsi", tmp_path / "mmsi", tmp_path)), "mmsi")
    assert found[5].task == CATEGORIES[0].replace("–", "-"), "as the release spells it"


def test_a_choice_without_options(tmp_path):
    row = {**releases.spar_rows(["position_matching"])[0], "question": "Which?"}
    releases.spar(tmp_path / "in", rows=[row])
    message = error("spar", tmp_path / "in", tmp_path)
    assert "the options of 1 row cannot be read: " in message
    assert "row 0: options: a choice without any" in message


def test_questions_with_the_image_in_words_are_refused(tmp_path):
    releases.spatialeval(tmp_path / "in")
    source = tmp_path / "in/vtqa/test-00000-of-00001.parquet"
    assert "text: describes the image in this configuration" in error("spatialeval", source, tmp_path / "out")


# Tables


def test_a_missing_column(tmp_path):
    releases.mmsi(tmp_path / "in")
    path = tmp_path / "in/MMSI_Bench.parquet"
    for column in ("question", "images"):
        rows = pq.read_table(path).drop_columns([column])
        (tmp_path / column).mkdir()
        pq.write_table(rows, tmp_path / column / "MMSI_Bench.parquet")
        message = error("mmsi", tmp_path / column, tmp_path / "out")
        assert f"MMSI_Bench.parquet: column {column!r} is missing; there are id, " in message


def test_files_that_are_no_tables(tmp_path):
    releases.mmsi(tmp_path / "in")
    path = tmp_path / "in/MMSI_Bench.parquet"
    data = path.read_bytes()
    for content, said in [
        (b"", "cannot be read as parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "is a git-lfs pointer"),
        (data[:-100], "cannot be read as parquet"),
        (data[:4] + bytes(len(data) - 12) + data[-8:], "cannot be read as parquet"),
        (b"<html>log in</html>", "cannot be read as parquet"),
    ]:
        path.write_bytes(content)
        assert f"{path}: {said}" in error("mmsi", tmp_path / "in", tmp_path / "out")
    path.unlink()
    assert "holds none of MMSI_Bench.parquet, data/test-*.parquet" in error("mmsi", tmp_path / "in", tmp_path / "out")
    assert "is neither a file nor a folder" in error("mmsi", tmp_path / "nowhere", tmp_path / "out")


def test_hidden_tables_are_not_taken(tmp_path):
    releases.mmsi(tmp_path / "in")
    (tmp_path / "in/MMSI_Bench.parquet").rename(tmp_path / "in/other.parquet")
    (tmp_path / "in/.half.parquet").write_bytes(b"of a download")
    assert convert(job("mmsi", tmp_path / "in", tmp_path)).items == 11


def test_noise_in_a_table(tmp_path):
    """Whatever bytes are changed: a conversion, or one error that names the file."""
    releases.mmsi(tmp_path / "in", count=3)
    path = tmp_path / "in/MMSI_Bench.parquet"
    data, rng, refused, taken = path.read_bytes(), Random(1), 0, 0
    for number in range(60):
        spoilt = bytearray(data)
        for _ in range(rng.choice([1, 4, 50])):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        path.write_bytes(spoilt)
        try:
            convert(job("mmsi", tmp_path / "in", tmp_path / f"out{number}"))
        except DataError as exc:
            refused += str(path) in str(exc)
        else:
            taken += 1
    assert refused + taken == 60
    assert min(refused, taken) > 5


def test_a_bomb_of_a_table(tmp_path, monkeypatch):
    """Text that packs into nothing."""
    monkeypatch.setattr("vilasr.benchmark_release.rows._RATIO_FREE", 1 << 20)
    rows = [{"id": 0, "images": [b""], "question_type": "MSR", "question": "x" * (2 << 20), "answer": "A"}]
    table = pa.Table.from_pylist(rows, pa.schema([(k, t) for k, t in releases.MMSI_TYPES.items() if k != "thought"]))
    pq.write_table(table, tmp_path / "MMSI_Bench.parquet", compression="zstd", use_dictionary=False)
    assert (tmp_path / "MMSI_Bench.parquet").stat().st_size < 10_000
    assert "column 'question' would grow from" in error("mmsi", tmp_path, tmp_path / "out")


def test_without_pyarrow(tmp_path, monkeypatch):
    releases.mmsi(tmp_path / "in")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "needs the package pyarrow" in error("mmsi", tmp_path / "in", tmp_path / "out")


# Images


def header(width: int, height: int) -> bytes:
    """All of a PNG file but its pixels."""
    chunk = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">2I", zlib.crc32(chunk), 8) + b"IDAT"


def test_a_bomb_of_an_image_where_pillow_has_no_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (row,) = releases.spar_rows(TASKS[:1])
    row["image"] = [{"bytes": header(20_000, 20_000) + bytes(100), "path": None}]
    releases.spar(tmp_path / "in", rows=[row])
    told = error("spar", tmp_path / "in", tmp_path / "out")
    assert "image[0]: is no readable image (20000 x 20000, more pixels than" in told


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (None, r"image\[1\]: is no image; download"),
        ({"bytes": b"", "path": None}, r"image\[1\]: is no image; download"),
        ({"bytes": None, "path": "/etc/passwd"}, r"image\[1\]: names '/etc/passwd' and does not hold it"),
        ({"bytes": b"<html>", "path": None}, r"image\[1\]: is no readable image \(no known format\)"),
        ({"bytes": "CUT", "path": None}, r"image\[1\]: is no readable image \(.*(truncated|Truncated)"),
        ({"bytes": "BOMB", "path": None}, r"image\[1\]: is no readable image \(more pixels than can be loaded"),
        ({"bytes": "THIN", "path": None}, r"image\[1\]: an image of 3000 x 1 pixels is too narrow"),
    ],
)
def test_broken_images(cell, said, tmp_path):
    good = releases.picture(Random(0), 60, 40)
    made = {
        "CUT": lambda: releases.encoded(good)[:300],
        "BOMB": lambda: header(20_000, 20_000),
        "THIN": lambda: releases.encoded(Image.new("L", (3000, 1))),
    }
    if cell and cell["bytes"] in made:
        cell = {**cell, "bytes": made[cell["bytes"]]()}
    rows = releases.spar_rows(TASKS[:6])
    rows[4]["image"] = [rows[4]["image"][0], cell]
    releases.spar(tmp_path / "in", rows=rows)
    message = error("spar", tmp_path / "in", tmp_path / "out", workers=1)
    assert message.startswith(f"{tmp_path}/in/data/test-00001-of-00002.parquet: row 1: ")
    assert re.search(said, message), message
    rows[4]["image"] = rows[3]["image"]
    written = len(list((tmp_path / "out").rglob("00.png")))
    assert written >= 4, "what is good stays"
    releases.spar(tmp_path / "in", rows=rows)
    assert convert(job("spar", tmp_path / "in", tmp_path / "out", overwrite=True)).items == 6


def test_no_image(tmp_path):
    rows = releases.spar_rows(TASKS[:2])
    rows[1]["image"] = []
    releases.spar(tmp_path / "in", rows=rows)
    assert "row 0: image: holds no image" in error("spar", tmp_path / "in", tmp_path / "out")


def test_lines_are_taken_before_parquet(tmp_path):
    """A folder with VSI-Bench's older table and its newer one."""
    rows = releases.vsi(tmp_path / "in")
    releases.write_table(tmp_path / "in/test-00000-of-00001.parquet", rows[:3], releases.VSI_TYPES)
    assert convert(job("vsi", tmp_path / "in", tmp_path)).items == len(rows) > 3


def test_the_table_alone_may_be_named(tmp_path):
    rows = releases.vsi(tmp_path / "in")
    assert convert(job("vsi", tmp_path / "in/test_debiased.parquet", tmp_path)).items == 3 < len(rows)
    assert RULE.max_pixels == 84 * 84
