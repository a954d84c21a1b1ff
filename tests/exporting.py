"""Runs on small benchmarks of every task, their exports by the tool, and what is read back of those."""

import csv
import io
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from tests.conftest import load_script
from tests.golden import ONE, answer, boxes, make_example
from tests.scoring.oracles import mmsi_bench, spar_bench, vsi_bench
from vilasr.episode import Done, Episode, Limits
from vilasr.messages import FinishReason, Reply
from vilasr.prompts import default_profile
from vilasr.results import ResultsWriter, parse_row, result_row
from vilasr.scoring import find_benchmark
from vilasr.scoring.items import score
from vilasr.tasks import Example, QuestionType

TOOL = load_script("tools/export_results.py")
OPTIONS = ("A. the chair", "B. a table\twith a tab", 'C. a "lamp"', "D. sofa")
ORACLES = {"vsi_bench": vsi_bench.score, "spar_bench": spar_bench.score, "mmsi_bench": mmsi_bench.score}
TRUTHS = {QuestionType.MULTIPLE_CHOICE: "B", QuestionType.REGRESSION: "10", QuestionType.VCI: "move_up:1"}
# Replies on which the rules agree, and those that each rule takes differently; None: no answer, "": an empty one.
CLEAN = {
    QuestionType.MULTIPLE_CHOICE: ("B", "C", "B", "D", "A"),
    QuestionType.REGRESSION: ("10", "12", "3.5", "11", "0"),
    QuestionType.VCI: ("move_up:1", "move_up:1.0,move_left:0", "move_down:1", "rotate_up:5", "move_up:1"),
}
ODD = {
    QuestionType.MULTIPLE_CHOICE: ("(B)", "b", "The answer is B", "line one\nB\t.", None),
    QuestionType.REGRESSION: ("about 10", "ten", '"10"', "10 m\r\n12", None),
    QuestionType.VCI: ("move_up = 1", "nothing", "move_up:1;", "\x00", None),
}


def kind_of(benchmark: str, task: str) -> QuestionType:
    if task == "view_change_infer":
        return QuestionType.VCI
    number = task in vsi_bench.NUMBERS or task in spar_bench.LEVELS["Low"]
    return QuestionType.REGRESSION if number else QuestionType.MULTIPLE_CHOICE


def tasks_of(benchmark: str) -> tuple[str, ...]:
    return {"vsi_bench": vsi_bench.TASKS, "spar_bench": spar_bench.TASKS, "mmsi_bench": mmsi_bench.TASKS}[benchmark]


def row_of(example: Example, text: str | None) -> dict:
    """The row of an episode that drew a box and then said the text, or drew on without an answer."""
    episode = Episode(example, default_profile(), Limits(calls=2))
    for reply in (boxes((1, [10, 10, 60, 60], "a")), "I cannot say." if text is None else answer(text)):
        if isinstance(episode.advance(Reply(reply, FinishReason.STOP)), Done):
            break
    return result_row(example, episode.trace(), "c")


def write_run(folder: Path, benchmark: str, replies: dict) -> Path:
    """benchmark/<name>.json and results/<name>/results.jsonl, the rows in another order than the items."""
    items, rows = [], []
    for task in tasks_of(benchmark):
        kind = kind_of(benchmark, task)
        for text in replies[kind]:
            options = OPTIONS if kind is QuestionType.MULTIPLE_CHOICE else ()
            name = f"{benchmark}-{len(items)}"
            fields = {"options": options, "answer": TRUTHS[kind], "question_type": kind, "task": task}
            example = replace(make_example(name, ONE, **fields), source=benchmark)
            items.append(
                {
                    "id": name,
                    "question": example.question,
                    "options": list(options),
                    "answer": example.answer,
                    "image_path": list(example.image_paths),
                    "problem_type": kind,
                    "original_question_type": task,
                    "data_type": example.data_type,
                }
            )
            rows.append(row_of(example, text))
    (folder / "benchmark").mkdir(exist_ok=True)
    (folder / "benchmark" / f"{benchmark}.json").write_text(json.dumps(items))
    with ResultsWriter(folder / "results" / benchmark, {}) as writer:
        for row in reversed(rows):
            writer.append(row)
    return folder


@dataclass(frozen=True)
class Run:
    returncode: int
    stderr: str


def run_tool(folder: Path, layout: str, *more: str) -> Run:
    """The tool's status and log; in this process, since there are many of them."""
    given = [str(folder / "results"), "--layout", layout, "--out", str(folder / "out"), "--model", "m"]
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    logging.getLogger("export_results").addHandler(handler)
    logging.getLogger("export_results").setLevel(logging.INFO)
    try:
        return Run(TOOL.main([*given, "--benchmark-dir", str(folder / "benchmark"), *more]), told.getvalue())
    finally:
        logging.getLogger("export_results").removeHandler(handler)


def official_scores(folder: Path, benchmark: str) -> list[float]:
    """Ours, in the order of the benchmark's file."""
    lines = (folder / "results" / benchmark / "results.jsonl").read_text().splitlines()
    scored = [score(parse_row(json.loads(line)), find_benchmark(benchmark)) for line in lines]
    return [one.scores["official"] for one in reversed(scored)]


def read_samples(folder: Path, task: str) -> list[dict]:
    return [json.loads(line) for line in (folder / "out/m" / f"samples_{task}.jsonl").read_text().splitlines()]


def read_table(folder: Path, dataset: str) -> list[dict]:
    with (folder / "out/m" / f"m_{dataset}.tsv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


LMMS = [("vsi_bench", "vsibench"), ("spar_bench", "sparbench"), ("mmsi_bench", "mmsi_bench")]
KITS = [("vsi_bench", "VSI-Bench"), ("spar_bench", "SparBench"), ("mmsi_bench", "MMSIBench_wo_circular")]


def task_name(row: dict) -> str:
    return row.get("question_type") or row.get("task") or row["category"]
