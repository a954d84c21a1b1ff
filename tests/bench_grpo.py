"""Measures whole GRPO steps by the recipe's script: seconds and memory by phase. Results: docs/results/grpo.md.

python -m tests.bench_grpo OUT --shape 7b --gpus 0,1 [--recipe train/rl/config_grpo_lora.yaml] [key=value ...]
python -m tests.bench_grpo OUT --shape nano --gpus "" [key=value ...]          on the CPU

The model has random weights, so its replies are planned (tests/training/grpo/sized.py): vLLM really generates as many
tokens, and the episode goes on with a reply that draws or answers. Everything else is the recipe's own. One run makes
all `--steps`, kinds of tests/training/grpo/workload.py. The last line printed is the report, in JSON; a run whose
episodes were not all as planned has an error there, and no numbers. Kept in OUT: the model for later calls, log.txt,
memory.jsonl (tests/training/grpo/watch.py) and the run's own metrics and episodes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tests.bench_sft import ROOT, kill_tree, tool
from tests.training.grpo.sized import Plan
from tests.training.grpo.watch import Watch, ask
from tests.training.grpo.workload import Sizes, Workload
from vilasr.engines.chat import ChatTokens
from vilasr.prompts import load_profile
from vilasr.training.grpo.config import compose, value_of, whole_number

SCRIPT = ROOT / "train/rl/train_grpo.sh"
RECIPES = {"7b": ROOT / "train/rl/config_grpo.yaml", "nano": ROOT / "train/rl/nano/config_grpo.yaml"}
PROFILES = {"7b": ROOT / "vilasr/profiles/vilasr.yaml", "nano": ROOT / "vilasr/profiles/nano.yaml"}
PHASES = ("gen", "old_log_prob", "update_actor", "update_weights")
_CALLS = 60  # more than any planned episode has
_ROLLOUT, _ACTOR = "actor_rollout_ref.rollout", "actor_rollout_ref.actor"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=sorted(RECIPES), default="7b")
    parser.add_argument("--recipe", type=Path, help="by default the one of the shape")
    parser.add_argument("--gpus", default="0,1", help='their numbers; "" for the CPU')
    parser.add_argument("--attention", help="attn_implementation of the actor")
    parser.add_argument("--steps", default="typical,longest,typical", help="kinds, in order")
    parser.add_argument("--questions", type=int, default=4, help="a step")
    parser.add_argument("--episodes", type=int, default=8, help="a question")
    parser.add_argument("--mini", type=int, help="questions an optimizer step; by default half of a step's")
    parser.add_argument("--long", type=int, default=1, help="questions of a longest step that are so")
    parser.add_argument("--reply", default="150,250", help="least and most tokens of a typical reply")
    parser.add_argument("--image", type=int, default=588, help="pixels of a side of a maze's image")
    parser.add_argument(
        "--preflight",
        choices=("on", "only", "off"),
        default="on",
        help="on: its estimate is reported, and it may refuse",
    )
    parser.add_argument("--limit", type=float, help="seconds after which the run is ended; steps before are reported")
    parser.add_argument("overrides", nargs="*", help="of the recipe, as key=value")
    return parser.parse_intermixed_args()


def prepare(args: argparse.Namespace) -> tuple[Plan, list[str]]:
    """The model and the questions in OUT; their plan, and what is overridden of the recipe."""
    tiny, work = args.out / "tiny", args.out / "work"
    if not (tiny / "config.json").is_file():
        made = ("--out", args.out / "mazes", "--split", "train", "--count", 8, "--formats", "cold_start", "--overwrite")
        size = ("--sizes", "3-4", "--image-size", 168) if args.shape == "nano" else ()
        tool("tools/make_mazes.py", *made, *size, "--profile", PROFILES[args.shape])
        shutil.rmtree(tiny, ignore_errors=True)
        corpus = args.out / "mazes/cold_start/maze.json"
        tool("tools/make_nano.py", "--out", tiny, "--corpus", corpus, "--profile", PROFILES[args.shape])
    model = args.out / args.shape
    tool("-m", "tests.full_shape", tiny, model, args.shape)
    overrides = settings(args, model, work)
    config = compose(args.recipe, overrides)
    images = whole_number(config, f"{_ROLLOUT}.engine_kwargs.vllm.limit_mm_per_prompt.image")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    content = yaml.safe_load(PROFILES[args.shape].read_text())
    content["budget"] |= {"calls": _CALLS, "maze_calls": _CALLS, "images": images}
    (work / "profile.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    profile = load_profile(work / "profile.yaml")
    if pixels := value_of(config, "vilasr.max_pixels"):
        profile = replace(profile, image=replace(profile.image, max_pixels=pixels))
    least, most = map(int, args.reply.split(","))
    lengths = [whole_number(config, f"data.max_{name}_length") for name in ("prompt", "response")]
    turn = int(value_of(config, "vilasr.turn_tokens") or profile.budget.turn_tokens)
    sizes = Sizes(lengths[0], lengths[1], turn, (least, most), images, args.image)
    workload = Workload(work, profile, ChatTokens(tokenizer(tiny)), sizes, args.episodes)
    for number, kind in enumerate(args.steps.split(","), 1):
        workload.add(number, kind, args.questions, args.long)
    return workload.write(), overrides


def tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)


def settings(args: argparse.Namespace, model: Path, work: Path) -> list[str]:
    gpus = gpus_of(args)
    keys = {
        "actor_rollout_ref.model.path": model,
        "data.train_files": work / "rl.jsonl",
        "data.val_files": work / "val.jsonl",
        "data.shuffle": "false",
        "data.train_batch_size": args.questions,
        "vilasr.profile": work / "profile.yaml",
        f"{_ROLLOUT}.n": args.episodes,
        f"{_ROLLOUT}.agent.agent_loop_config_path": ROOT / "tests/training/grpo/sized.yaml",
        f"{_ACTOR}.ppo_mini_batch_size": args.mini or max(1, args.questions // 2),
        "trainer.default_local_dir": args.out / "run",
        "trainer.device": "cuda" if gpus else "cpu",
        "trainer.n_gpus_per_node": max(1, len(gpus)),
        "trainer.total_epochs": 1,
        "trainer.total_training_steps": len(args.steps.split(",")),
        "trainer.save_freq": -1,
        "trainer.test_freq": -1,
        "trainer.val_before_train": "false",
        "trainer.logger": "[console,file]",
    }
    if args.attention:
        keys["actor_rollout_ref.model.override_config.attn_implementation"] = args.attention
    return [*(f"{key}={value}" for key, value in keys.items()), *args.overrides]


def gpus_of(args: argparse.Namespace) -> list[str]:
    return [number for number in args.gpus.split(",") if number]


def start(args: argparse.Namespace, overrides: list[str], log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHON": sys.executable, "CONFIG": str(args.recipe), "PREFLIGHT": args.preflight}
    environment |= {"CUDA_VISIBLE_DEVICES": args.gpus} if args.gpus else {}
    with log.open("wb") as out:
        command = ["bash", str(SCRIPT), *overrides]
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=ROOT)


def preflight_of(log: Path) -> list[str]:
    """What the preflight said but for the data, as in "memory about ..."."""
    found = [line.partition("preflight: ")[2] for line in log.read_text(errors="replace").splitlines()]
    lines = [" ".join(line.split()) for line in found if line]
    return [line for line in lines if not line.startswith(("data ", "images ", "lengths ", "run "))]


def measure(args: argparse.Namespace, overrides: list[str]) -> tuple[str, Watch]:
    """Runs the recipe; how it ended."""
    run = args.out / "run"
    shutil.rmtree(run, ignore_errors=True)
    process, began = start(args, overrides, args.out / "log.txt"), time.monotonic()
    with Watch(process.pid, gpus_of(args), run / "metrics.jsonl", args.out / "memory.jsonl") as watch:
        while process.poll() is None:
            time.sleep(0.5)
            if args.limit and time.monotonic() - began > args.limit:
                kill_tree(process.pid)
                process.wait()
                return f"ended after {args.limit:.0f} s", watch
    return "ok" if process.returncode == 0 else f"status {process.returncode}", watch


def steps_of(args: argparse.Namespace, plan: Plan, watch: Watch) -> list[dict[str, Any]]:
    """Of each step that came to its end. Raises AssertionError where episodes were not as planned."""
    metrics = args.out / "run/metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.is_file() else []
    ends, kinds = watch.ends(), args.steps.split(",")
    steps = []
    for line, end in zip(lines, ends, strict=False):
        number, data = line["step"], line["data"]
        counted = tokens_of(args, plan, number)
        step = {"step": number, "kind": kinds[number - 1], **counted, **numbers_of(data, counted)}
        if gpus_of(args):
            step["peak GiB by nvidia-smi"] = peaks(watch, end, data)
        steps.append(step)
    return steps


def tokens_of(args: argparse.Namespace, plan: Plan, step: int) -> dict[str, int]:
    """What the episodes of a step amounted to."""
    file = args.out / f"run/rollouts/train/step_{step:06d}/results.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == args.questions * args.episodes, (step, len(rows))
    right = 0
    for row in rows:
        name, planned, usage = (row["id"], row["sample"]), plan[row["id"]][row["sample"]], row["usage"]
        assert row["id"].startswith(f"{step}-"), name
        assert row["stop_reason"] == "answered", (name, row["stop_reason"], row.get("detail"))
        assert (usage["sampled"], usage["prompt"], usage["response"]) == (
            sum(planned.replies), planned.prompt, planned.response,
        ), (name, usage, planned)  # fmt: skip
        assert len(row["images"]) == planned.images, (name, len(row["images"]), planned)
        assert row["reward"]["accuracy"] == float(planned.right), (name, row["reward"], planned)
        right += planned.right
    assert 0 < right < len(rows), (step, right)
    found = {name: sum(row["usage"][name] for row in rows) for name in ("prompt", "response", "sampled")}
    longest = max(row["usage"]["prompt"] + row["usage"]["response"] for row in rows)
    images = sum(len(row["images"]) for row in rows)
    return {"episodes": len(rows), **found, "longest episode": longest, "images": images}


def numbers_of(data: dict[str, float], counted: dict[str, int]) -> dict[str, Any]:
    """Seconds and memory as verl logs them, and seconds for 1,000 tokens: of prompt and response, and of what was
    sampled. `gen` is here all of a step before the log-probs: verl hands questions out before it starts that clock."""
    assert data["actor/grad_norm"] > 0, data["actor/grad_norm"]
    seconds = {name.removeprefix("timing_s/"): round(value, 2) for name, value in data.items() if "timing_s/" in name}
    seconds["gen"] = round(seconds["step"] - sum(seconds.get(name, 0) for name in ("adv", *PHASES[1:])), 2)
    whole = (counted["prompt"] + counted["response"]) / 1000
    rates = {phase: round(seconds[phase] / whole, 4) for phase in (*PHASES, "step") if phase in seconds}
    rates["gen, of sampled tokens"] = round(seconds["gen"] / (counted["sampled"] / 1000), 4)
    others = ("perf/", "rollout/seconds/", "actor/grad_norm", "actor/pg_loss", "actor/perf/", "actor/mfu")
    logged = {name: value for name, value in data.items() if name.startswith(others)}
    return {"seconds": seconds, "seconds per 1000 tokens": rates, "logged": logged}


def peaks(watch: Watch, end: float, data: dict[str, float]) -> dict[str, list[float]]:
    """Of each phase, from the last back to the first: the step's line is written at its end. Before the log-probs there
    is nothing but sampling, some of which verl does not count as `gen`."""
    found, begins = {}, end - data["timing_s/step"]
    for phase in ("update_weights", "update_actor", "adv", "old_log_prob"):
        length = data.get(f"timing_s/{phase}", 0.0)
        edge = min(0.5, length / 10)
        found[phase] = watch.peak(end - length + edge, end - edge)
        end -= length
    return {"gen": watch.peak(begins, end - 0.5), **{phase: found[phase] for phase in PHASES[1:]}}


def main() -> int:
    args = arguments()
    args.out = args.out.absolute()
    args.out.mkdir(parents=True, exist_ok=True)
    args.recipe = (args.recipe or RECIPES[args.shape]).absolute()
    gpus = gpus_of(args)
    report: dict[str, Any] = {"status": "", "shape": args.shape, "recipe": args.recipe.name, "gpus": len(gpus)}
    if gpus:
        report["GPU"] = ask(gpus, "name,memory.total")[0]
    began = time.monotonic()
    plan, overrides = prepare(args)
    report |= {"attention": args.attention, "overrides": args.overrides}
    report["seconds to prepare"] = round(time.monotonic() - began, 1)
    report["status"], watch = measure(args, overrides)
    report["preflight"] = preflight_of(args.out / "log.txt")
    try:
        report["steps"] = steps_of(args, plan, watch)
        wanted = 0 if args.preflight == "only" else len(args.steps.split(","))
        assert report["status"] != "ok" or len(report["steps"]) == wanted, len(report["steps"])
    except (AssertionError, LookupError, OSError) as exc:
        report["status"] = f"{report['status']}, but {type(exc).__name__}: {exc}"
    if report.get("steps"):
        first = watch.ends()[0] - report["steps"][0]["seconds"]["step"]
        report["seconds to the first step"] = round(first, 1)
    if watch.samples:
        report["peak GiB by nvidia-smi"] = watch.peak(0, float("inf"))
        report["peak host GiB"] = {
            "resident": round(max(sample.resident for sample in watch.samples) / 1024, 1),
            "private": round(max(sample.private for sample in watch.samples) / 1024, 1),
        }
    if report["status"] != "ok":
        log = (args.out / "log.txt").read_text(errors="replace").splitlines()
        print("\n".join(line[:300] for line in log[-60:]), file=sys.stderr)
    print(json.dumps(report), flush=True)
    return 0 if report["status"] == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
