"""From a release to a benchmark file: what survives, and which pixels."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.benchmark_release import releases
from tests.benchmark_release.jobs import RULE, examples, job, tree
from vilasr.benchmark_release import RELEASES, convert
from vilasr.benchmark_release.spar import TASKS
from vilasr.images import load_image
from vilasr.scoring import BENCHMARKS
from vilasr.scoring.answers import corrected_accuracy
from vilasr.tasks import QuestionType, load_frames


@pytest.mark.parametrize("name", RELEASES)
def test_what_evaluation_reads(name, built, tmp_path):
    source, rows = built[name]
    done = convert(job(name, source, tmp_path))
    items = examples(done, name)
    benchmark = BENCHMARKS[RELEASES[name].name]
    assert done.file == tmp_path / f"{benchmark.name}.json"
    assert len(items) == len(rows) == done.items
    for item, row in zip(items, rows, strict=True):
        assert item.id == str(row["id"])
        assert item.answer == row.get("answer", row.get("ground_truth", row.get("oracle_option")))
        assert item.question.split("\nThe values")[0] == row.get("question", row.get("text"))
        assert item.options == tuple(row.get("options") or ())
        assert item.task == row.get("question_type", row.get("task", "spatialreal"))
        assert not benchmark.tasks or item.task in benchmark.tasks
        assert corrected_accuracy(item, item.answer) == 1
        frames = load_frames(item, RULE, done.file).frames
        assert [frame.size for frame in frames] == [RULE.final_size(*frame.size) for frame in frames]
        sizes = [Image.open(tmp_path / path).size for path in item.image_paths]
        assert sizes == [frame.size for frame in frames], "images are final as they lie there"


def test_further_fields_are_kept(built, tmp_path):
    fields = {
        "vsi": ("dataset", "scene_name"),
        "spar": ("img_type", "format_type", "source"),
        "mmsi": (),
        "spatialeval": ("oracle_answer", "oracle_full_answer"),
    }
    for name, kept in fields.items():
        source, rows = built[name]
        records = json.loads(convert(job(name, source, tmp_path)).file.read_text(encoding="utf-8"))
        assert [record["release"] for record in records] == [{field: row[field] for field in kept} for row in rows]


def test_types_and_captions(built, tmp_path):
    kinds = {name: examples(convert(job(name, built[name][0], tmp_path / name)), name) for name in RELEASES}
    assert {(item.caption_kind, item.data_type) for item in kinds["vsi"]} == {("video", "video")}
    assert {item.caption_kind for item in kinds["mmsi"]} == {"multi"}
    assert {item.caption_kind for item in kinds["spatialeval"]} == {"single"}
    assert {item.data_type for item in kinds["spar"]} == {"single_view", "multi_view"}
    types = {item.task: item.question_type for item in [*kinds["vsi"], *kinds["spar"]]}
    assert types["object_counting"] == types["depth_prediction_oo_mv"] == QuestionType.REGRESSION
    assert types["route_planning"] == types["camera_motion_infer"] == QuestionType.MULTIPLE_CHOICE
    assert types["view_change_infer"] == QuestionType.VCI


def test_what_the_official_prompt_says_of_the_data_is_in_the_question(built, tmp_path):
    source, rows = built["spar"]
    said = examples(convert(job("spar", source, tmp_path / "a")), "spar")
    own = frozenset({"position_matching", "not a task"})
    left = examples(convert(job("spar", source, tmp_path / "b", own_notes=own)), "spar")
    for row, first, second in zip(rows, said, left, strict=True):
        noted = row["task"] in ("position_matching", "camera_motion_infer")
        assert first.question.endswith("0-1000 scale, with the top-left corner as the origin of the image.") == noted
        assert second.question == (row["question"] if row["task"] in own else first.question)


def test_pixels_are_the_release_s_resized_once(built, tmp_path):
    for name, column in (("spar", "image"), ("mmsi", "images"), ("spatialeval", "image")):
        source, rows = built[name]
        done = convert(job(name, source, tmp_path))
        for item, row in zip(examples(done, name), rows, strict=True):
            cells = row[column] if isinstance(row[column], list) else [row[column]]
            for path, cell in zip(item.image_paths, cells, strict=True):
                official = Image.open(io.BytesIO(cell["bytes"] if isinstance(cell, dict) else cell)).convert("RGB")
                size = RULE.final_size(*official.size)
                if size != official.size:
                    official = official.resize(size, Image.Resampling.BICUBIC)
                assert np.array_equal(Image.open(tmp_path / path), official)


def test_every_kind_of_image(tmp_path):
    """Turned by EXIF, transparent, of a palette, of 16 bits: as evaluation loads them from files."""
    turned = Image.Exif()
    turned[0x0112] = 6
    base = releases.picture(releases.Random(1), 60, 40)
    clear = base.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(base.size))
    deep = Image.fromarray(np.arange(60 * 40, dtype=np.uint16).reshape(40, 60) * 27)
    cells = [
        releases.encoded(base, "JPEG", exif=turned),
        releases.encoded(clear),
        releases.encoded(base.quantize(8)),
        releases.encoded(deep),
        releases.encoded(base, "WEBP", lossless=True),
        releases.encoded(base.convert("CMYK"), "JPEG"),
    ]
    (row,) = releases.spar_rows(["obj_spatial_relation_oo"])
    row["image"] = [{"bytes": cell, "path": None} for cell in cells]
    releases.spar(tmp_path / "in", rows=[row, {**row, "id": 7}])
    done = convert(job("spar", tmp_path / "in", tmp_path))
    (tmp_path / "files").mkdir()
    files = [tmp_path / "files" / str(number) for number in range(len(cells))]
    for file, cell in zip(files, cells, strict=True):
        file.write_bytes(cell)
    first = examples(done, "spar")[0]
    assert len(first.image_paths) == len(cells)
    for path, file in zip(first.image_paths, files, strict=True):
        assert np.array_equal(Image.open(tmp_path / path), RULE.apply(load_image(file)))
    assert Image.open(tmp_path / first.image_paths[0]).size == (28, 56), "upright"


def test_ids_that_are_used_again(tmp_path, caplog):
    rows = releases.spar_rows(TASKS[:4])
    for row in rows:
        row["id"] = 3
    releases.spar(tmp_path / "in", rows=rows)
    found = examples(convert(job("spar", tmp_path / "in", tmp_path)), "spar")
    assert [item.id for item in found] == ["3", "3#2", "3#3", "3#4"]
    assert "3 ids are used again" in caplog.text


def test_a_truth_that_cannot_be_read_is_told(tmp_path, caplog):
    rows = releases.spar_rows(["obj_spatial_relation_oo", "depth_prediction_oc"])
    rows[0]["answer"], rows[1]["answer"] = "Z", "far"
    releases.spar(tmp_path / "in", rows=rows)
    assert convert(job("spar", tmp_path / "in", tmp_path)).items == 2
    assert "test-00000-of-00002.parquet: row 0: item 0: answer: 'Z'" in caplog.text
    assert "test-00001-of-00002.parquet: row 0: item 1: answer: 'far'" in caplog.text


@pytest.mark.parametrize("name", ["vsi", "spar", "spatialeval"])
def test_workers_change_nothing(name, built, tmp_path):
    source, _ = built[name]
    for workers in (1, 5):
        convert(job(name, source, tmp_path / str(workers), workers=workers))
    assert tree(tmp_path / "1") == tree(tmp_path / "5")
