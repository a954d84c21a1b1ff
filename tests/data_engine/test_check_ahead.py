"""What tools/sample_traces.py looks at before it samples."""

from __future__ import annotations

import importlib.util
import json
import tracemalloc
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT
from vilasr.data_engine.options import parse_options
from vilasr.data_engine.writer import Stage, dataset_of
from vilasr.tasks import DataError, each_example

QUESTION = {
    "question": "Where?",
    "options": ["left", "right"],
    "answer": "A",
    "image_path": ["a.png"],
    "problem_type": "multiple choice",
}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sample_traces", ROOT / "tools" / "sample_traces.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def questions(path: Path, count: int) -> Path:
    asked = ({**QUESTION, "id": f"q{n}", "question": f"Where is {n}?"} for n in range(count))
    with path.open("w") as file:
        file.writelines(json.dumps(one) + "\n" for one in asked)
    return path


def ahead(tool: ModuleType, *files: Path):
    output = files[0].parent / "out"
    words = ["--preset", "cold_start", "--base-url", "http://localhost:1/v1", "--model", "teacher", "--output"]
    options = parse_options(None, [*words, str(output), "--data", *map(str, files)])
    return tool.check_ahead(options, options.sampling), output


def test_questions_are_known_by_file_id_and_content(tool, tmp_path):
    first, second = questions(tmp_path / "one.jsonl", 3), questions(tmp_path / "two.jsonl", 5)
    second.write_text(second.read_text() + "{}\n")
    current, output = ahead(tool, first, second)
    digests = {item.id: item.digest() for item in each_example(second)}
    assert current.keys() == {(output / name / "results.jsonl").resolve() for name in ("one", "two")}
    of_first, of_second = (current[(output / name / "results.jsonl").resolve()] for name in ("one", "two"))
    assert (len(of_first), len(of_second)) == (3, 6)
    assert [(name, digest) in of_second for name, digest in digests.items()] == [True] * 6
    assert [(f"q{n}", digests[f"q{n}"]) in of_first for n in range(5)] == [True] * 3 + [False] * 2
    assert ("q0", digests["q1"]) not in of_second, "changed since"


def test_of_many_questions_little_is_kept(tool, tmp_path):
    """Read at once they take about 1.5 kB each."""
    path = questions(tmp_path / "many.jsonl", count := 20_000)
    ahead(tool, questions(tmp_path / "few.jsonl", 5))  # imports
    tracemalloc.start()
    try:
        current, _ = ahead(tool, path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [len(found) for found in current.values()] == [count]
    assert most < 200 * count


def test_a_data_set_that_is_there_is_told_before_anything_is_sampled(tool, tmp_path):
    path = questions(tmp_path / "one.jsonl", 3)
    file = tmp_path / "out" / dataset_of("one", Stage.COLD_START)[1]
    file.parent.mkdir(parents=True)
    file.write_text("[]")
    with pytest.raises(DataError, match=r"one\.json: is there already"):
        ahead(tool, path)
