"""Exported files hold what `official` scores, in the layouts of the other projects; bad input is one clear line."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.exporting import (
    CLEAN,
    KITS,
    LMMS,
    ODD,
    OPTIONS,
    ORACLES,
    TRUTHS,
    kind_of,
    official_scores,
    read_samples,
    read_table,
    run_tool,
    task_name,
    tasks_of,
    write_run,
)
from tests.scoring.oracles import Outcome, spar_bench
from vilasr.result_export import LAYOUTS, LMMS_EVAL, NO_REPLY, VLMEVALKIT, export, pair
from vilasr.results import broken_row, parse_row
from vilasr.tasks import DataError, QuestionType, read_examples
from vilasr.traces import StopReason

CAM, OBJ, REG = "Cam", "Obj", "Reg"
PAIRS = ((CAM, CAM), (OBJ, OBJ), (REG, REG), (CAM, OBJ), (OBJ, REG), (CAM, REG))


@pytest.mark.parametrize(("benchmark", "task"), LMMS)
def test_lmms_eval_files_hold_what_official_scores(tmp_path, benchmark, task):
    write_run(tmp_path, benchmark, ODD)
    done = run_tool(tmp_path, LMMS_EVAL)
    assert done.returncode == 0, done.stderr
    assert f"--model from_log --model_args logs={tmp_path / 'out/m'} --tasks {task}" in done.stderr
    samples = read_samples(tmp_path, task)
    assert [row["doc_id"] for row in samples] == list(range(len(samples)))
    told: list[Outcome] = [
        ORACLES[benchmark](task_name(row["doc"]), row["filtered_resps"], row["target"]) for row in samples
    ]
    assert told == pytest.approx(official_scores(tmp_path, benchmark))
    log = json.loads((tmp_path / "out/m" / f"from_log_{task}.json").read_text())
    assert {row["doc_id"]: row["resps"][0][0] for row in log["logs"]} == {
        row["doc_id"]: row["filtered_resps"] for row in samples
    }
    assert log["model_configs"]["task"] == task
    assert log["args"]["limit"] is None


@pytest.mark.parametrize(("benchmark", "task"), LMMS)
def test_the_whole_reply_stands_beside_what_is_scored_of_it(tmp_path, benchmark, task):
    write_run(tmp_path, benchmark, ODD)
    assert run_tool(tmp_path, LMMS_EVAL).returncode == 0
    by_text = {row["filtered_resps"]: row for row in read_samples(tmp_path, task)}
    assert "resps" not in by_text["I cannot say."], "nothing was taken out of it"
    taken = next(row for text, row in by_text.items() if text != "I cannot say.")
    assert "Action: Answer" in taken["resps"][0]


@pytest.mark.parametrize(("benchmark", "dataset"), KITS)
def test_vlmevalkit_tables_hold_what_official_scores(tmp_path, benchmark, dataset):
    write_run(tmp_path, benchmark, ODD)
    done = run_tool(tmp_path, VLMEVALKIT)
    assert done.returncode == 0, done.stderr
    assert f"vlmutil eval {tmp_path / 'out/m' / f'm_{dataset}.tsv'} --judge extract_matching" in done.stderr
    table = read_table(tmp_path, dataset)
    told = [
        ORACLES[benchmark](tasks_of(benchmark)[n // 5], row["prediction"], row["answer"]) for n, row in enumerate(table)
    ]
    assert told == pytest.approx(official_scores(tmp_path, benchmark))
    assert [row["index"] for row in table] == [str(n) for n in range(len(table))]
    names = [task_name(row) for row in table[::5]]
    assert names == {"mmsi_bench": ["Motion-Cam", "MSR", "Attr-Meas", "Pos-Cam-Obj"]}.get(
        benchmark, list(tasks_of(benchmark))
    )


def test_options_stand_where_each_dataset_of_vlmevalkit_looks_for_them(tmp_path):
    for benchmark in ORACLES:
        write_run(tmp_path, benchmark, CLEAN)
    assert run_tool(tmp_path, VLMEVALKIT).returncode == 0
    mmsi = read_table(tmp_path, "MMSIBench_wo_circular")[0]
    assert [mmsi[letter] for letter in "ABCD"] == [option[3:] for option in OPTIONS]
    vsi = {row["question_type"]: row for row in read_table(tmp_path, "VSI-Bench")}
    assert vsi["route_planning"]["candidates"] == repr(list(OPTIONS))
    assert vsi["object_counting"]["candidates"] == ""


def test_what_was_never_said_scores_nothing_by_any_rule(tmp_path):
    """An empty text would be right by SPAR-Bench's rule."""
    for benchmark, oracle in ORACLES.items():
        for task in tasks_of(benchmark):
            kind = kind_of(benchmark, task)
            truths = "ABCDEFGH" if kind is QuestionType.MULTIPLE_CHOICE else ("0", "0.3", "2", TRUTHS[kind])
            assert {oracle(task, NO_REPLY, truth) for truth in truths} <= {0.0}, task
    assert spar_bench.score("position_matching", "", "B") == 1.0
    write_run(tmp_path, "spar_bench", CLEAN)
    path = tmp_path / "results/spar_bench/results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0] = rows[0] | {"stop_reason": StopReason.ENGINE_ERROR, "answer": None, "steps": []}
    rows[1] = broken_row(rows[1]["id"], rows[1]["digest"], "spar_bench", rows[1]["config"], "no image")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run_tool(tmp_path, LMMS_EVAL)
    assert "2 of which the model said nothing" in done.stderr
    assert [row["filtered_resps"] for row in read_samples(tmp_path, "sparbench")[-2:]] == [NO_REPLY, NO_REPLY]


def test_a_choice_of_files_by_limit_and_ids_keeps_the_places(tmp_path):
    write_run(tmp_path, "mmsi_bench", CLEAN)
    assert run_tool(tmp_path, LMMS_EVAL, "--ids", "mmsi_bench-7", "mmsi_bench-3").returncode == 0
    assert sorted(row["doc_id"] for row in read_samples(tmp_path, "mmsi_bench")) == [3, 7]


def spoil_missing(folder: Path) -> None:
    path = folder / "results/mmsi_bench/results.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def spoil_items(folder: Path) -> None:
    path = folder / "benchmark/mmsi_bench.json"
    path.write_text(path.read_text().replace("nearer", "farther"))


def spoil_line(folder: Path) -> None:
    path = folder / "results/mmsi_bench/results.jsonl"
    path.write_text("{broken}\n" + path.read_text())


def spoil_item(folder: Path) -> None:
    items = json.loads((folder / "benchmark/mmsi_bench.json").read_text())
    del items[2]["answer"]
    (folder / "benchmark/mmsi_bench.json").write_text(json.dumps(items))


def spoil_nothing(folder: Path) -> None: ...


@pytest.mark.parametrize(
    ("spoil", "more", "message"),
    [
        (spoil_missing, (), "mmsi_bench: item mmsi_bench-19: has no result; run eval/infer.sh until it is done"),
        (spoil_items, (), "item mmsi_bench-0: digest: its results are of other words or images"),
        (spoil_line, (), "results.jsonl: 1 lines cannot be read"),
        (spoil_item, (), "item 2: answer: is missing; mend the benchmark's file"),
        (
            spoil_nothing,
            ("--sample", "1"),
            "item mmsi_bench-0: sample: there is none of number 1; samples count from 0",
        ),
        (spoil_nothing, ("--model", "a/b"), "--model: 'a/b' cannot name a file"),
        (spoil_nothing, ("--benchmarks", "maze"), "maze: "),
        (spoil_nothing, ("--ids", "nobody"), "nobody"),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(tmp_path, spoil, more, message):
    write_run(tmp_path, "mmsi_bench", CLEAN)
    spoil(tmp_path)
    for layout in LAYOUTS:
        done = run_tool(tmp_path, layout, *more)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
        assert not (tmp_path / "out").exists()


def test_the_program_itself(tmp_path):
    write_run(tmp_path, "mmsi_bench", CLEAN)
    command = [
        sys.executable,
        str(ROOT / "tools/export_results.py"),
        "results",
        "--layout",
        "lmms-eval",
        "--out",
        "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/results/samples_mmsi_bench.jsonl").is_file()
    spoil_missing(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("export_results: mmsi_bench: item mmsi_bench-19: has no result")


def test_a_benchmark_without_a_layout_is_named(tmp_path):
    said = _said(tmp_path)
    for layout in LAYOUTS:
        with pytest.raises(DataError, match=f"maze: {layout} has no such benchmark; it has vsi_bench"):
            export(layout, "maze", said, tmp_path / "out", "m")


def test_a_truth_that_is_no_option_and_a_folder_that_is_a_file(tmp_path):
    said = _said(tmp_path)
    wrong = [replace(said[0], example=replace(said[0].example, answer="Q"))]
    with pytest.raises(DataError, match="item mmsi_bench-0: answer: 'Q' is none of its 4 options"):
        export(LMMS_EVAL, "mmsi_bench", wrong, tmp_path / "out", "m")
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        export(LMMS_EVAL, "mmsi_bench", said, tmp_path / "out", "m")


def _said(tmp_path, benchmark="mmsi_bench"):
    write_run(tmp_path, benchmark, CLEAN)
    items = read_examples(tmp_path / f"benchmark/{benchmark}.json")
    rows = (tmp_path / f"results/{benchmark}/results.jsonl").read_text().splitlines()
    return pair(items, [parse_row(json.loads(row)) for row in rows])


def test_lmms_eval_is_asked_for_what_is_there(tmp_path, caplog):
    """A part of the release: its first items by --limit, others not at all."""
    said = _said(tmp_path)
    done = export(LMMS_EVAL, "mmsi_bench", said[:3], tmp_path / "out", "m")
    assert done.command.endswith("--tasks mmsi_bench --limit 3")
    whole = [replace(said[0], place=place) for place in range(1000)]
    assert export(LMMS_EVAL, "mmsi_bench", whole, tmp_path / "out", "m").command.endswith("--tasks mmsi_bench")
    assert not caplog.records
    export(LMMS_EVAL, "mmsi_bench", said[1:3], tmp_path / "out", "m")
    assert "mmsi_bench: not the first 2 items: lmms-eval will stop at those that are not here" in caplog.text


@pytest.mark.parametrize("converted", [True, False])
def test_a_file_whose_order_is_not_known_is_told(tmp_path, converted):
    write_run(tmp_path, "mmsi_bench", CLEAN)
    path = tmp_path / "benchmark/mmsi_bench.json"
    items = json.loads(path.read_text())
    path.write_text(json.dumps([item | ({"release": {}} if converted else {}) for item in items]))
    done = run_tool(tmp_path, LMMS_EVAL)
    assert done.returncode == 0
    assert ("lmms-eval takes its item N for item N of the release" in done.stderr) is not converted
    assert "item N" not in run_tool(tmp_path, VLMEVALKIT).stderr


@pytest.mark.parametrize("dash", ["–", "-"])
def test_the_categories_of_mmsi_bench(tmp_path, dash):
    """VLMEvalKit's names (vlmeval/dataset/mmsibench.py) of the release's."""
    short = {f"Positional Relationship ({a}.{dash}{b}.)": f"Pos-{a}-{b}" for a, b in PAIRS}
    short |= {f"Attribute ({a}.)": f"Attr-{a}" for a in ("Meas", "Appr")}
    short |= {f"Motion ({a}.)": f"Motion-{a}" for a in ("Cam", "Obj")} | {"MSR": "MSR"}
    one = _said(tmp_path)[0]
    said = [replace(one, example=replace(one.example, task=name)) for name in short]
    export(VLMEVALKIT, "mmsi_bench", said, tmp_path / "out/m", "m")
    assert [row["category"] for row in read_table(tmp_path, "MMSIBench_wo_circular")] == list(short.values())
    assert len(short) == 11


def test_the_tiny_spar_bench(tmp_path):
    said = _said(tmp_path, "spar_bench")
    done = export(LMMS_EVAL, "spar_bench_tiny", said, tmp_path / "out", "m")
    assert "--tasks sparbench_tiny" in done.command
    assert {path.name for path in done.paths} == {"samples_sparbench_tiny.jsonl", "from_log_sparbench_tiny.json"}
    done = export(VLMEVALKIT, "spar_bench_tiny", said, tmp_path / "out", "m")
    assert [path.name for path in done.paths] == ["m_SparBench_tiny.tsv"]
