"""How fast episodes run, and where the time goes: `python -m tests.bench_inference OUT --shape 7b --kind maze`.

Planned episodes (tests/inference/workload.py), the same for each of --schedules, each in a process of its own:

ours           eval/infer.py's way: episodes free of each other
published      the published driver's: groups of ten, a barrier every turn, the whole conversation handed over each turn
transformers   `generate`, one episode after the other

The weights are random (--shape 7b: as large as Qwen2.5-VL-7B, never written to disk). For ours it tells what was done
on this side, how busy the GPU was, what vLLM's steps took (with --steps), and what a decode step, a prompt token and an
image cost alone: the share of the decode limit is tokens/s over those of --concurrency short sequences that do nothing
but decode, an upper bound. At the end of a run ever fewer episodes are left: give some times --concurrency as --items.
The last line is the report in JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.full_shape import shape_only
from tests.inference import schedules
from tests.inference.clock import Clock
from tests.inference.costs import Costs
from tests.inference.workload import KINDS, Work, make_work
from vilasr.checkpoints import Checkpoint
from vilasr.engines.chat import ChatTokens
from vilasr.engines.vllm_engine import VllmOptions
from vilasr.prompts import Profile, load_profile

ROOT = Path(__file__).resolve().parents[1]
PROFILES = {"7b": ROOT / "vilasr/profiles/vilasr.yaml", "nano": ROOT / "vilasr/profiles/nano.yaml"}
CONTEXT = {"7b": 16384, "nano": 8192}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=sorted(PROFILES), default="7b")
    parser.add_argument("--kind", choices=sorted(KINDS), default="maze")
    parser.add_argument("--items", type=int, default=60, help="of ours")
    parser.add_argument("--others", type=int, default=20, help="items of the other schedules")
    parser.add_argument("--schedules", default="ours,published")
    parser.add_argument("--repeat", type=int, default=1, help="runs of ours, each with other items")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, help="of images and replies; by default 1, for the nano shape 0.25")
    parser.add_argument("--gpu-memory", type=float, default=0.9)
    parser.add_argument("--option", nargs="+", default=[], metavar="KEY=VALUE", help="of VllmOptions")
    parser.add_argument("--no-costs", action="store_true", help="do not measure what single things cost")
    parser.add_argument("--steps", action="store_true", help="tell what vLLM's steps take, all in one process")
    parser.add_argument("--one", choices=("ours", "published", "transformers"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.one:
        (args.out / f"{args.one}.json").write_text(json.dumps(one(args)))
        return 0
    tiny(args.out / f"tiny-{args.shape}", args.shape)
    reports = []
    for name in args.schedules.split(","):
        report = args.out / f"{name}.json"
        report.unlink(missing_ok=True)
        done = subprocess.run([sys.executable, "-m", "tests.bench_inference", *sys.argv[1:], "--one", name], cwd=ROOT)
        if done.returncode or not report.is_file():
            print(f"{name}: failed with exit status {done.returncode}", file=sys.stderr)
            return 1
        reports += json.loads(report.read_text())
    for report in reports:
        print(line(report))
    print(json.dumps(reports))
    return 0


def tiny(folder: Path, shape: str) -> None:
    """A tokenizer, a processor and a nano model, trained on nothing."""
    if (folder / "config.json").is_file():
        return
    with tempfile.TemporaryDirectory() as scratch:
        mazes = ("--out", scratch, "--split", "train", "--count", 8, "--formats", "cold_start", "--overwrite")
        sizes = ("--sizes", "3-4", "--image-size", 168)
        tool("tools/make_mazes.py", *mazes, *sizes, "--profile", PROFILES[shape])
        half = folder.with_name(f"{folder.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        corpus = Path(scratch, "cold_start/maze.json")
        tool("tools/make_nano.py", "--out", half, "--corpus", corpus, "--profile", PROFILES[shape])
        half.rename(folder)


def tool(name: str, *options: object) -> None:
    subprocess.run([sys.executable, ROOT / name, *map(str, options)], check=True, stdout=subprocess.DEVNULL)


def one(args: argparse.Namespace) -> list[dict[str, Any]]:
    nano = args.out / f"tiny-{args.shape}"
    model = nano if args.shape == "nano" else shape_only(nano, args.out / args.shape, args.shape)
    profile = load_profile(PROFILES[args.shape])
    width, height = KINDS[args.kind][1]
    image = replace(profile.image, max_pixels=max(profile.image.max_pixels, width * height))
    budget = replace(profile.budget, turn_tokens=1024, images=max(profile.budget.images, KINDS[args.kind][0] + 8))
    profile = replace(profile, image=image, budget=budget)
    chat = ChatTokens(schedules.tokenizer(nano))
    options = VllmOptions(
        max_model_len=CONTEXT[args.shape],
        max_num_seqs=args.concurrency,
        gpu_memory_utilization=args.gpu_memory,
        load_format="auto" if args.shape == "nano" else "dummy",
        own_process=not args.steps,
    )
    options = replace(options, **{key: number(value) for key, value in (pair.split("=") for pair in args.option)})
    scale = args.scale or (0.25 if args.shape == "nano" else 1.0)
    count = args.items if args.one == "ours" else args.others

    def work(repeat: int = 0) -> Work:
        return make_work(args.out / "images", args.kind, count, chat, args.seed + repeat, scale)

    reports = []
    if args.one == "ours":
        reports = ours(args, work, model, profile, options)
    else:
        clock, items = Clock(), work()
        if args.one == "published":
            cached = schedules.published(items, model, profile, options, clock)
        else:
            cached = schedules.transformers_loop(items, model, profile, clock)
        reports.append(report(args, items, clock) | {"cached_prompt_tokens": cached})
    return reports


def ours(
    args: argparse.Namespace, work: Any, model: Path, profile: Profile, options: VllmOptions
) -> list[dict[str, Any]]:
    reports = []
    checkpoint = Checkpoint(model, 32768, 1 << 16, "random")
    runs = schedules.Ours(work(0), checkpoint, profile, options)
    for repeat in range(args.repeat):
        clock, items = Clock(), work(repeat)
        runs.run(items, args.out / "results", clock)
        reports.append(report(args, items, clock) | {"cached_prompt_tokens": runs.engine.cached})
        reports[-1]["steps"] = runs.engine.steps.table()
        (args.out / "ours.json").write_text(json.dumps(reports))  # those that ended are kept if a later one fails
    if not args.no_costs:
        alone = Costs(runs.engine)
        alone.decode(1)  # what is compiled or captured at first
        costs: dict[str, Any] = {f"decode step of {n}, ms": 1e3 * alone.decode(n) for n in batches(args.concurrency)}
        costs["prompt token, us"] = 1e6 * alone.prompt_token()
        costs["image, ms"] = 1e3 * alone.image(work(0).size)
        limit = args.concurrency / costs[f"decode step of {args.concurrency}, ms"] * 1e3
        for each in reports:
            each["alone"] = {name: round(value, 3) for name, value in costs.items()}
            each["decode_limit_tokens_s"] = round(limit, 1)
            each["share_of_decode_limit"] = round(each["tokens_s"] / limit, 3)
    runs.close()
    return reports


def batches(most: int) -> list[int]:
    return sorted({1, min(16, most), most})


def report(args: argparse.Namespace, work: Work, clock: Clock) -> dict[str, Any]:
    return {
        "schedule": args.one,
        "shape": args.shape,
        "kind": args.kind,
        "items": len(work.items),
        "turns": work.turns,
        "seconds": round(clock.seconds, 3),
        "items_s": round(len(work.items) / clock.seconds, 4),
        "tokens_s": round(work.tokens / clock.seconds, 1),
        "concurrency": args.concurrency if args.one == "ours" else 10 if args.one == "published" else 1,
        "gpu_busy_percent": round(fmean(clock.busy), 1) if clock.busy else None,
        "spent": {name: {key: round(value, 3) for key, value in asdict(s).items()} for name, s in clock.spent.items()},
    }


def line(report: dict[str, Any]) -> str:
    names = ("schedule", "kind", "items", "seconds", "items_s", "tokens_s", "gpu_busy_percent", "share_of_decode_limit")
    return "  ".join(f"{name} {report[name]}" for name in names if report.get(name) is not None)


def number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return {"true": True, "false": False}.get(text) if text in ("true", "false") else float(text)


if __name__ == "__main__":
    sys.exit(main())
