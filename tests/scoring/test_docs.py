"""The examples in docs/benchmarks.md are what the rules give."""

import os
import re
from pathlib import Path

import pytest

from tests.bench_parity import ORACLES, PORT_ORACLES
from tests.conftest import ROOT
from tests.scoring import official
from tests.scoring.parity import example_of, our_official
from tests.scoring.triples import Triple, kind_of
from vilasr.scoring import BENCHMARKS, corrected_accuracy

DOC = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
NAMES = {"VSI-Bench": "vsi_bench", "SPAR-Bench": "spar_bench", "MMSI-Bench": "mmsi_bench"}
PYTHON = os.environ.get("VILASR_OFFICIAL_PYTHON", "")
SOURCES = Path(os.environ.get("VILASR_OFFICIAL_SOURCES", "-"))


def rows(name: str) -> list[list[str]]:
    """The cells of a table between its comments."""
    table = DOC.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def triple_of(benchmark: str, task: str, reply: str, truth: str) -> Triple:
    text = "" if reply == "(empty)" else reply.replace("↵", "\n")
    return Triple(task, text, truth, kind_of(benchmark, task))


DEFECTS, PORTS = rows("defects"), rows("ports")


@pytest.mark.parametrize("row", DEFECTS, ids=lambda row: f"{row[1]}-{row[2]}")
def test_what_official_rules_score_wrongly(row):
    benchmark = NAMES[row[0]]
    triple = triple_of(benchmark, *row[1:4])
    assert our_official(benchmark, triple) == pytest.approx(float(row[4]))
    oracle = ORACLES[benchmark](triple.task, triple.answer, triple.truth)
    assert (0.0 if isinstance(oracle, str) else oracle) == pytest.approx(float(row[4]))
    assert corrected_accuracy(example_of(triple), triple.answer) == pytest.approx(float(row[5]))


def test_the_tables_are_whole():
    assert len(DEFECTS) >= 30
    assert {row[0] for row in DEFECTS} == set(NAMES)
    assert {(row[0], row[1]) for row in PORTS} == {
        (port, name) for port in ("lmms-eval", "VLMEvalKit") for name in NAMES
    }
    wrong = [row for row in DEFECTS if row[4] != row[5]]
    assert len(wrong) >= len(DEFECTS) - 1
    assert all(row[6] for row in wrong)


@pytest.mark.parametrize("row", PORTS, ids=lambda row: f"{row[0]}-{row[2]}-{row[3]}")
def test_how_ports_score(row):
    port, benchmark = row[0], NAMES[row[1]]
    triple = triple_of(benchmark, *row[2:5])
    assert our_official(benchmark, triple) == pytest.approx(float(row[5]))
    if port == "lmms-eval":
        oracle = PORT_ORACLES[f"{port}:{benchmark}"]
        assert oracle(triple.task, triple.answer, triple.truth) == pytest.approx(float(row[6]))
    elif PYTHON and (SOURCES / port).is_dir():
        [theirs] = official.scores(PYTHON, f"{port}:{benchmark}", SOURCES / port, [triple])[1]
        assert theirs == pytest.approx(float(row[6]))


@pytest.mark.parametrize(
    ("heading", "name"), [*NAMES.items(), ("SpatialEval-Real", "SpatialEval_spatialreal"), ("Maze", "maze")]
)
def test_the_numbers_of_items(heading, name):
    row = next(line for line in DOC.splitlines() if line.startswith(f"| {heading}"))
    assert int(re.findall(r"\d[\d,]*", row.split("|")[3])[0].replace(",", "")) == BENCHMARKS[name].items


@pytest.mark.parametrize("name", ["benchmarks", "reproduce"])
def test_files_that_are_named_exist(name):
    text = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)]
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    paths = re.findall(r"(?<![\w/.-])(?:tools|eval|train|tests|vilasr)/[\w/.{},-]+\.(?:py|sh|yaml|md)\b", text)
    paths = [path for path in paths if "{" not in path]
    assert len(paths) >= 3
    assert [path for path in paths if not (ROOT / path).exists()] == []
    anchors = re.findall(r"\]\(#([^)]+)\)", text)
    heads = {
        re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.M)
    }
    assert set(anchors) <= heads
