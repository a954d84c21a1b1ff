"""Results in the layouts that lmms-eval and VLMEvalKit score: their rules on our answers, with no model asked again.

lmms-eval (EvolvingLMMs-Lab/lmms-eval 0.7.3): `samples_<task>.jsonl` as EvaluationTracker.save_results_samples writes
them (lmms_eval/loggers/evaluation_tracker.py), without date, hash and token counts, but with the `doc` that a task's
process_results takes, which it leaves out; and `from_log_<task>.json` for the model `from_log`
(lmms_eval/models/simple/from_log.py), which hands logged answers to the tasks: `--model from_log --model_args
logs=FOLDER --tasks <task>`. It finds an answer by `doc_id`, the item's place in the release.

VLMEvalKit (open-compass/VLMEvalKit e8e78f0): `<model>_<dataset>.tsv` as `run.py` writes with PRED_FORMAT=tsv
(vlmeval/smp/file.py: dump_tsv, every field quoted) with the columns that a dataset's `evaluate` reads
(vlmeval/dataset/{vsibench,sparbench,mmsibench}.py): `vlmutil eval FILE --judge extract_matching`, which takes the
dataset from the file's name (vlmeval/tools.py), if that is a class's own: VSI-Bench, not VSI-Bench_16frame.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.prompts import option_letter
from vilasr.results import Result
from vilasr.scoring import find_benchmark
from vilasr.scoring.answers import choices, true_letter
from vilasr.tasks import BrokenItem, DataError, Example, QuestionType

log = logging.getLogger(__name__)

LMMS_EVAL, VLMEVALKIT = "lmms-eval", "vlmevalkit"
LAYOUTS = (LMMS_EVAL, VLMEVALKIT)
# For items of which nothing was said. Not empty: SPAR-Bench's scorer takes an empty reply for right, and a table reads
# it as nan. It holds no letter that stands alone, no number and no move, so every scorer gives it 0.
NO_REPLY = "no reply"

_LMMS_TASKS = {
    "vsi_bench": "vsibench",
    "spar_bench": "sparbench",
    "spar_bench_tiny": "sparbench_tiny",
    "mmsi_bench": "mmsi_bench",
}
_KIT_DATASETS = {
    "vsi_bench": "VSI-Bench",
    "spar_bench": "SparBench",
    "spar_bench_tiny": "SparBench_tiny",
    "mmsi_bench": "MMSIBench_wo_circular",
}
# Our names of MMSI-Bench's categories are the release's; VLMEvalKit's table has short ones.
_KIT_CATEGORIES = {
    "Positional Relationship (Cam.–Cam.)": "Pos-Cam-Cam",
    "Positional Relationship (Obj.–Obj.)": "Pos-Obj-Obj",
    "Positional Relationship (Reg.–Reg.)": "Pos-Reg-Reg",
    "Positional Relationship (Cam.–Obj.)": "Pos-Cam-Obj",
    "Positional Relationship (Obj.–Reg.)": "Pos-Obj-Reg",
    "Positional Relationship (Cam.–Reg.)": "Pos-Cam-Reg",
    "Attribute (Meas.)": "Attr-Meas",
    "Attribute (Appr.)": "Attr-Appr",
    "Motion (Cam.)": "Motion-Cam",
    "Motion (Obj.)": "Motion-Obj",
    "MSR": "MSR",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """`paths` written; `command` scores them there; `silent` items got NO_REPLY."""

    paths: tuple[Path, ...]
    command: str
    rows: int
    silent: int


@dataclass(frozen=True, slots=True)
class Said:
    """An item and what is scored of its reply, as `official` scores it; `reply` is the whole last reply. `place` counts
    items from 0 in the order of the benchmark's file."""

    place: int
    example: Example
    text: str
    reply: str

    @property
    def truth(self) -> str:
        """As the releases hold it: a choice is its letter."""
        if self.example.question_type is QuestionType.MULTIPLE_CHOICE:
            return true_letter(self.example)
        return self.example.answer


def pair(
    items: Sequence[Example | BrokenItem], results: Sequence[Result], sample: int = 0, wanted: Set[str] | None = None
) -> list[Said]:
    """Every item, or those of the `wanted` ids, with its result, matched by id and digest. Raises DataError where one
    cannot be read or has no result: a table with holes would be scored as if it were whole."""
    found = {(result.id, result.digest): result for result in results if result.sample == sample}
    said = []
    for place, item in enumerate(items):
        if wanted is not None and item.id not in wanted:
            continue
        if isinstance(item, BrokenItem):
            raise DataError(f"{item.error}; mend the benchmark's file")
        result = found.get((item.id, item.digest()))
        if result is None:
            raise DataError(f"item {item.id}: {_absent(item, results, sample)}")
        said.append(Said(place, item, *_texts(result)))
    return said


def _absent(item: Example, results: Sequence[Result], sample: int) -> str:
    if any(result.id == item.id and result.digest == item.digest() for result in results):
        return f"sample: there is none of number {sample}; samples count from 0"
    if any(result.id == item.id for result in results):
        return "digest: its results are of other words or images; name the benchmark file that was run"
    return "has no result; run eval/infer.sh until it is done"


def _texts(result: Result) -> tuple[str, str]:
    trace = result.trace
    if trace is None or not trace.steps:
        return NO_REPLY, NO_REPLY
    return (trace.last_reply if trace.answer is None else trace.answer), trace.last_reply


def export(layout: str, benchmark: str, said: Sequence[Said], folder: Path, model: str) -> Exported:
    """Writes the files of one benchmark into `folder`, each whole or not at all. Raises DataError for a benchmark that
    the layout's project does not have, for a truth that is none of an item's options, and for a disk that fails."""
    tasks = _LMMS_TASKS if layout == LMMS_EVAL else _KIT_DATASETS
    if benchmark not in tasks:
        raise DataError(f"{benchmark}: {layout} has no such benchmark; it has {', '.join(tasks)}")
    try:
        files = (_lmms_eval if layout == LMMS_EVAL else _vlmevalkit)(benchmark, tasks[benchmark], said, model)
    except ValueError as exc:  # of an item's own answer
        raise DataError(f"{benchmark}: {exc}") from exc
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            temporary = folder / f"{name}.tmp"
            temporary.write_bytes(content.encode("utf-8", "replace"))  # half a character, if a reply has one
            os.replace(temporary, folder / name)
    except OSError as exc:
        raise DataError(f"{folder}: cannot be written ({exc})") from exc
    paths = tuple(folder / name for name in files)
    if layout == LMMS_EVAL:
        command = f"python -m lmms_eval --model from_log --model_args logs={folder} --tasks {tasks[benchmark]}"
        command += _lmms_limit(benchmark, said)
    else:
        command = f"vlmutil eval {paths[0]} --judge extract_matching"
    return Exported(paths, command, len(said), sum(one.text is NO_REPLY for one in said))


def _lmms_limit(benchmark: str, said: Sequence[Said]) -> str:
    """lmms-eval asks for every item of the release, or for the first N, and stops at one that is not logged."""
    count, whole = len(said), find_benchmark(benchmark).items
    if any(one.place != place for place, one in enumerate(said)):
        log.warning("%s: not the first %d items: lmms-eval will stop at those that are not here", benchmark, count)
        return ""
    return f" --limit {count}" if count < whole else ""


def _lmms_eval(benchmark: str, task: str, said: Sequence[Said], model: str) -> Mapping[str, str]:
    samples, logs = [], []
    for one in said:
        doc = _lmms_doc(benchmark, one)
        row = {"doc_id": one.place, "doc": doc, "target": one.truth, "input": one.example.question}
        # Theirs leave `resps` out where no filter changed it.
        raw = {} if one.reply == one.text else {"resps": [one.reply]}
        samples.append(json.dumps({**row, "filtered_resps": one.text, **raw}))
        logs.append({"doc_id": one.place, "doc": doc, "target": one.truth, "resps": [[one.text]]})
    args = {"model": model, "model_args": "", "limit": None}
    log_file = {"args": args, "model_configs": {"task": task}, "logs": logs}
    return {
        f"samples_{task}.jsonl": "".join(f"{line}\n" for line in samples),
        f"from_log_{task}.json": json.dumps(log_file) + "\n",
    }


def _lmms_doc(benchmark: str, one: Said) -> dict[str, Any]:
    """The fields of the release that the task's code reads when it scores."""
    example = one.example
    doc: dict[str, Any] = {"id": example.id, "question": example.question}
    if benchmark == "vsi_bench":
        options = list(example.options) or None
        return {**doc, "question_type": example.task, "options": options, "ground_truth": one.truth}
    if benchmark == "mmsi_bench":
        return {**doc, "question_type": example.task, "answer": one.truth}
    return {**doc, "task": example.task, "answer": one.truth}


def _vlmevalkit(benchmark: str, dataset: str, said: Sequence[Said], model: str) -> Mapping[str, str]:
    rows = [_kit_row(benchmark, one) for one in said]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if "\x00" in text.getvalue():  # ends a file for the C parser of pandas
        log.warning("%s: null characters in replies are left out", dataset)
    return {f"{model}_{dataset}.tsv": text.getvalue().replace("\x00", "")}


def _kit_row(benchmark: str, one: Said) -> dict[str, Any]:
    example = one.example
    row: dict[str, Any] = {"index": one.place, "question": example.question}
    if example.question_type is QuestionType.MULTIPLE_CHOICE:
        options = choices(example)
        if benchmark == "vsi_bench":
            row["candidates"] = repr(list(options))
        else:
            row |= {chr(ord("A") + n): _body(option) for n, option in enumerate(options)}
    row |= {"answer": one.truth, "prediction": one.text}
    if benchmark == "mmsi_bench":
        return {**row, "category": _KIT_CATEGORIES.get(example.task.replace(".-", ".–"), example.task)}
    return {**row, "question_type" if benchmark == "vsi_bench" else "task": example.task}


def _body(option: str) -> str:
    """Without the letter an option may carry: the column names it."""
    return option if option_letter(option) is None else re.split(r"[.):]", option, maxsplit=1)[1].strip()
