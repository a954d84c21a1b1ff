"""Official scoring code, run by an interpreter that has what it imports; nothing of ours is imported here.

    PYTHON tests/scoring/official_worker.py NAME PATH

One JSON object a line comes in and goes out: {"task", "answer", "truth"} for {"score"} or {"error": exception's name};
{"rows": [[task, answer, truth], ...]} for {"report": {name: number}} or {"error"}. The first line out is {"version"}.
{"file": exported table} asks VLMEvalKit for the report of it, {"logs": folder, "task": name} asks lmms-eval's model
`from_log` for {"answers": {doc_id: text}}.
PATH is a clone of the repository, and for lmms-eval "-": the installed package. Only the file that scores is run,
without those of its imports that are not there or are the rest of a large package: their names are then empty classes.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATASETS: set[str] = set()  # what VLMEvalKit's classes call themselves
Score = Callable[[str, str, str], float]
Report = Callable[[list], dict[str, float]]


class Absent:
    """Stands for a class or function of a module that is not loaded."""

    def __init_subclass__(cls, **_: Any) -> None: ...


def load(path: Path, leave_out: tuple[str, ...] = (), **names: Any) -> types.SimpleNamespace:
    """The names of a source file. Relative imports, and modules whose name starts with one of `leave_out` or that are
    not installed, are not imported; `names` replace what they would have brought."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    space: dict[str, Any] = {"__file__": str(path), "__name__": path.stem}
    body: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or node.names[0].name
            relative = isinstance(node, ast.ImportFrom) and node.level > 0
            if relative or module.split(".")[0] in leave_out or importlib.util.find_spec(module.split(".")[0]) is None:
                space.update({alias.asname or alias.name.split(".")[0]: Absent for alias in node.names})
                continue
        body.append(node)
    tree.body = body
    space |= names
    # What the file itself computes at import may need a file beside it, and is not the scoring.
    exec(compile(tree, str(path), "exec"), space)
    return types.SimpleNamespace(**space)


def vsi(path: Path) -> tuple[Score, Report]:
    code = load(path)

    def doc(task: str, answer: str, truth: str) -> dict[str, Any]:
        item = {"question_type": task, "ground_truth": truth}
        return next(iter(code.vsibench_process_results(item, [answer]).values()))

    def score(task: str, answer: str, truth: str) -> float:
        done = doc(task, answer, truth)
        return float(done["accuracy"] if "accuracy" in done else done["MRA:.5:.95:.05"])

    def report(rows: list) -> dict[str, float]:
        docs = [doc(*row) for row in rows]
        if hasattr(code, "_compute_all_subscores"):
            return numbers(code._compute_all_subscores(docs))
        return {key: value / 100 for key, value in numbers(code.vsibench_aggregate_results(docs)).items()}

    return score, report


def spar(path: Path) -> tuple[Score, Report]:
    said: list[dict] = []  # the code of the benchmark returns the overall number and only logs the rest
    code = load(path)
    code_globals = code.sparbench_aggregate_results.__globals__
    log = dict.fromkeys(("debug", "warning", "error"), print_nothing)
    code_globals["eval_logger"] = types.SimpleNamespace(info=lambda text: said.append(text), **log)

    def doc(task: str, answer: str, truth: str) -> dict[str, Any]:
        return code.sparbench_process_results({"task": task, "answer": truth}, [answer])["sparbench_score"]

    def score(task: str, answer: str, truth: str) -> float:
        done = doc(task, answer, truth)
        return float(next(done[key] for key in ("accuracy", "MRA:.5:.95:.05", "vci_metric") if key in done))

    def report(rows: list) -> dict[str, float]:
        docs = [doc(*row) for row in rows]
        if hasattr(code, "_compute_all_subscores"):
            return numbers(code._compute_all_subscores(docs))
        said.clear()
        overall = code.sparbench_aggregate_results(docs) / 100
        import numpy as np

        return {**numbers(eval(str(said[0]).partition(": ")[2], {"nan": float("nan"), "np": np})), "overall": overall}

    return score, report


def mmsi(path: Path) -> tuple[Score, Report]:
    import pandas as pd

    frames: list[pd.DataFrame] = []
    code = load(path, ("tqdm",), load=lambda _: frames[-1].copy())
    benchmark = code.MMSIBenchDataset
    type.__setattr__(pd.DataFrame, "to_excel", print_nothing)  # it writes a file of scores

    def evaluate(rows: list) -> dict[str, Any]:
        frames.append(table(["category", "prediction", "answer"], rows))
        with contextlib.redirect_stdout(sys.stderr):
            return benchmark.evaluate("x.xlsx").iloc[0].to_dict()

    def report(rows: list) -> dict[str, float]:
        result = evaluate(rows)
        return {"overall": float(result["overall"]), **{k: float(v) for k, v in result["categories"].items()}}

    return lambda *row: float(evaluate([row])["overall"]), report


def from_log(path: Path) -> Callable[[str, str], dict[str, str]]:
    """lmms-eval's model that repeats logged answers, on one process."""
    alone = types.SimpleNamespace(num_processes=1, local_process_index=0, device="cpu")
    base = type("lmms", (), {"rank": 0})
    code = load(path, ("lmms_eval",), lmms=base, register_model=lambda _: lambda kind: kind, Accelerator=lambda: alone)

    def answers(folder: str, task: str) -> dict[str, str]:
        model = code.FromLog(logs=folder)
        ids = list(model.logs[task]["logs"])
        asked = [types.SimpleNamespace(args=("", {}, None, doc_id, task, "test")) for doc_id in ids]
        return dict(zip(map(str, ids), model.generate_until(asked), strict=True))

    return answers


def lmms_mmsi(path: Path) -> tuple[Score, Report]:
    code = load(path)

    def doc(task: str, answer: str, truth: str) -> dict[str, Any]:
        return code.msr_process_results({"answer": truth, "question_type": task, "id": 0}, [answer])["average"]

    return (
        lambda *row: float(doc(*row)["score"]),
        lambda rows: {"overall": float(code.msr_aggregate_results([doc(*row) for row in rows]))},
    )


def vlmevalkit(dataset: str, root: Path) -> tuple[Score, Report]:
    """Matching by rule, as with `--judge extract_matching`."""
    import pandas as pd

    folder = root / "vlmeval/dataset"
    matching = load(folder / "utils/spatial_bench/matching_func.py")
    scores = load(
        folder / "utils/spatial_bench/cal_scores.py",
        ("vlmeval",),
        can_match_na=matching.can_match_na,
        can_match_option=matching.can_match_option,
    )
    mra = {"mean_relative_accuracy": scores.mean_relative_accuracy}
    spar_bench = load(folder / "sparbench.py", ("vlmeval",), **mra).SparBench
    heavy = ("vlmeval", "decord", "huggingface_hub")
    vsi_bench = load(folder / "vsibench.py", heavy, LMUDataRoot=lambda: "").VsiBench
    mmsi_bench = load(folder / "mmsibench.py", heavy, LMUDataRoot=lambda: "").MMSIBench
    DATASETS.update(spar_bench.DATASET_URL, vsi_bench.supported_datasets(), mmsi_bench.DATASET_URL)
    column = "task" if dataset == "spar_bench" else "question_type"

    def kind(task: str) -> str:
        if dataset == "mmsi_bench":
            return "MCQ"
        return spar_bench.get_task_type(task) if dataset == "spar_bench" else vsi_bench.get_task_type(None, task)

    ways = {
        "MCQ": (scores.compute_mcq_score, "hit"),
        "NA": (scores.compute_na_score, "MRA:.5:.95:.05"),
        "SPECIAL": (spar_bench().compute_special_score, "vci_metric"),
    }

    def scored(way: str, rows: list) -> pd.DataFrame:
        data = table([column, "prediction", "answer"], rows)
        return ways[way][0](data) if rows else data

    def score(*row: str) -> float:
        way = kind(row[0])
        return float(scored(way, [row])[ways[way][1]].iloc[0])

    def report(rows: list) -> dict[str, float]:
        choices, values, special = (scored(way, [row for row in rows if kind(row[0]) == way]) for way in ways)
        if dataset == "spar_bench":
            return numbers(spar_bench()._aggregate(choices, values, special))
        if dataset == "vsi_bench":
            with contextlib.redirect_stdout(sys.stderr):
                told = vsi_bench._aggregate(None, choices, values)
            return {key: value / 100 for key, value in numbers(told).items()}
        return {"overall": float(choices["hit"].mean())}

    return score, report


def vilasr(root: Path) -> tuple[Score, Report]:
    """The published rule for a choice; torch is imported by that file for numbers only."""
    code = load(root / "eval/evaluate.py", ("torch", "utils"))
    return lambda task, answer, truth: float(code.reward_fn(answer, truth, "multiple choice")), no_report


def spatialeval(root: Path) -> tuple[Score, Report]:
    code = load(root / "evals/evaluation.py")
    folder = Path(tempfile.mkdtemp())

    def score(task: str, answer: str, truth: str) -> float:
        (folder / "in.jsonl").write_text(json.dumps({"id": f"{task}.1.0", "answer": answer, "oracle_answer": truth}))
        return float(code.evaluate_model_accuracy(str(folder / "in.jsonl"), str(folder / "out.jsonl"), "x")[0])

    return score, no_report


def table_rows(file: str) -> list:
    """A table of predictions as VLMEvalKit's `vlmutil eval`, `load` and `evaluate` take it."""
    import pandas as pd

    parts = Path(file).stem.split("_")
    if not any("_".join(parts[n:]) in DATASETS for n in range(len(parts))):
        raise LookupError(f"no dataset in {file}")
    read = pd.read_csv(file, sep="\t").sort_values(by="index")
    name = next(column for column in ("task", "category", "question_type") if column in read)
    return list(zip(read[name], map(str, read["prediction"]), read["answer"], strict=True))


def table(columns: list[str], rows: list) -> Any:
    import pandas as pd

    return pd.DataFrame({name: [row[n] for row in rows] for n, name in enumerate(columns)})


def print_nothing(*_: object, **__: object) -> None: ...


def no_report(_: list) -> dict[str, float]:
    raise NotImplementedError


def numbers(values: dict) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if not isinstance(value, str)}


def version_of(root: Path) -> str:
    try:
        asked = ["git", "-C", str(root), "rev-parse", "--show-prefix", "--short", "HEAD"]
        prefix, _, commit = subprocess.run(asked, capture_output=True, text=True).stdout.partition("\n")
        return commit.strip() if commit and not prefix else "a copy"
    except OSError:
        return "a copy"


def installed() -> Path:
    spec = importlib.util.find_spec("lmms_eval")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("lmms-eval is not installed there")
    return Path(spec.submodule_search_locations[0])


def find(name: str, place: str) -> tuple[Score, Report, str]:
    if place == "-":
        build, folder = {
            "lmms-eval:vsi_bench": (vsi, "vsibench"),
            "lmms-eval:spar_bench": (spar, "sparbench"),
            "lmms-eval:mmsi_bench": (lmms_mmsi, "mmsi_bench"),
        }[name]
        return (*build(installed() / "tasks" / folder / "utils.py"), importlib.metadata.version("lmms_eval"))
    root = Path(place)
    makers: dict[str, Callable[[], tuple[Score, Report]]] = {
        "thinking-in-space": lambda: vsi(root / "lmms_eval/tasks/vsibench/utils.py"),
        "SPAR": lambda: spar(root / "lmms-eval/lmms_eval/tasks/sparbench/utils.py"),
        "MMSI-Bench": lambda: mmsi(root / "vlmeval/dataset/mmsi_bench.py"),
        "SpatialEval": lambda: spatialeval(root),
        "ViLaSR": lambda: vilasr(root),
        "VLMEvalKit:vsi_bench": lambda: vlmevalkit("vsi_bench", root),
        "VLMEvalKit:spar_bench": lambda: vlmevalkit("spar_bench", root),
        "VLMEvalKit:mmsi_bench": lambda: vlmevalkit("mmsi_bench", root),
    }
    return (*makers[name](), version_of(root))


def answer(request: dict, score: Score, report: Report) -> dict:
    try:
        if "file" in request:
            return {"report": report(table_rows(request["file"]))}
        if "logs" in request:
            return {"answers": from_log(installed() / "models/simple/from_log.py")(request["logs"], request["task"])}
        if "rows" in request:
            return {"report": report([tuple(row) for row in request["rows"]])}
        return {"score": score(request["task"], request["answer"], request["truth"])}
    except builtins.Exception as exc:  # an outcome like any other
        return {"error": type(exc).__name__}


def main() -> None:
    out = sys.stdout
    sys.stdout = sys.stderr  # official code prints
    score, report, version = find(*sys.argv[1:3])
    print(json.dumps({"version": version}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), score, report)), file=out, flush=True)


if __name__ == "__main__":
    main()
