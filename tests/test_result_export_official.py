"""Exported results score, by the other projects' own functions, what `official` gives here."""

import os
from pathlib import Path

import pytest

from tests.bench_parity import PORT_ORACLES
from tests.exporting import (
    CLEAN,
    KITS,
    LMMS,
    ODD,
    official_scores,
    read_samples,
    read_table,
    run_tool,
    task_name,
    tasks_of,
    write_run,
)
from tests.scoring import official
from tests.scoring.oracles import vsi_bench
from vilasr.result_export import LMMS_EVAL, VLMEVALKIT

PYTHON = os.environ.get("VILASR_OFFICIAL_PYTHON", "")
KIT = Path(os.environ.get("VILASR_OFFICIAL_SOURCES", "-")) / "VLMEvalKit"
needs_official = pytest.mark.skipif(not PYTHON, reason="VILASR_OFFICIAL_PYTHON names no interpreter with lmms-eval")
needs_kit = pytest.mark.skipif(not (PYTHON and KIT.is_dir()), reason="VILASR_OFFICIAL_SOURCES holds no VLMEvalKit")


@needs_official
@pytest.mark.parametrize(("benchmark", "task"), LMMS)
def test_lmms_eval_itself_scores_the_same(tmp_path, benchmark, task):
    """Its `from_log` gives the answers by id, and its task scores them: as `official` where the rules agree, and as
    the oracle of its rule where they do not."""
    for replies in (CLEAN, ODD):
        folder = tmp_path / ("clean" if replies is CLEAN else "odd")
        folder.mkdir()
        write_run(folder, benchmark, replies)
        assert run_tool(folder, LMMS_EVAL).returncode == 0
        samples = read_samples(folder, task)
        code = f"lmms-eval:{benchmark}"
        asked = [{"logs": str(folder / "out/m"), "task": task}]
        answers = official.ask(PYTHON, code, None, asked)[1][0]["answers"]
        assert answers == {str(row["doc_id"]): row["filtered_resps"] for row in samples}
        requests = [
            {"task": task_name(row["doc"]), "answer": answers[str(row["doc_id"])], "truth": row["target"]}
            for row in samples
        ]
        told = [reply["score"] for reply in official.ask(PYTHON, code, None, requests)[1]]
        assert told == pytest.approx([PORT_ORACLES[code](*request.values()) for request in requests])
        if replies is CLEAN and benchmark != "spar_bench":  # whose numbers lmms-eval 0.7.3 scores 0
            assert told == pytest.approx(official_scores(folder, benchmark))


@needs_kit
@pytest.mark.parametrize(("benchmark", "dataset"), KITS)
def test_vlmevalkit_itself_reports_the_same(tmp_path, benchmark, dataset):
    write_run(tmp_path, benchmark, CLEAN)
    assert run_tool(tmp_path, VLMEVALKIT).returncode == 0
    file = str(tmp_path / "out/m" / f"m_{dataset}.tsv")
    report = official.ask(PYTHON, f"VLMEvalKit:{benchmark}", KIT, [{"file": file}])[1][0]["report"]
    by_task: dict[str, list[float]] = {}
    for n, value in enumerate(official_scores(tmp_path, benchmark)):
        by_task.setdefault(tasks_of(benchmark)[n // 5], []).append(value)
    means = {task: sum(values) / len(values) for task, values in by_task.items()}
    if benchmark == "vsi_bench":
        means["object_rel_direction"] = sum(means.pop(level) for level in vsi_bench.LEVELS) / 3
    assert report["overall"] == pytest.approx(sum(means.values()) / len(means))


@needs_kit
@pytest.mark.parametrize(("benchmark", "dataset"), KITS)
def test_vlmevalkit_reads_odd_replies_as_they_are(tmp_path, benchmark, dataset):
    """Tabs, quotes and new lines come through its table: the report of it is that of the replies themselves."""
    write_run(tmp_path, benchmark, ODD)
    assert run_tool(tmp_path, VLMEVALKIT).returncode == 0
    table = read_table(tmp_path, dataset)
    rows = [[tasks_of(benchmark)[n // 5], row["prediction"], row["answer"]] for n, row in enumerate(table)]
    asked = [{"file": str(tmp_path / "out/m" / f"m_{dataset}.tsv")}, {"rows": rows}]
    of_file, of_rows = (reply["report"] for reply in official.ask(PYTHON, f"VLMEvalKit:{benchmark}", KIT, asked)[1])
    assert of_file == pytest.approx(of_rows)
    assert 0 < of_file["overall"] < 1
