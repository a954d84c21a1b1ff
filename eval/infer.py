#!/usr/bin/env python3
"""Answer benchmark questions by drawing, with vLLM in this process.

    python eval/infer.py --checkpoint CKPT --benchmarks maze --output eval/results/rl
    python eval/infer.py --checkpoint CKPT --data my_questions.jsonl --output eval/results/mine

writes OUTPUT/<benchmark>/results.jsonl, one line an item, as items end. Started again it runs only what is missing.
Exit status: 0 all items ran; 1 some item could not be read or run, now or before (its row says why); 2 bad arguments
or settings; 3 the engine failed or the disk is full (what is written stays; start again to go on).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vilasr.checkpoints import Checkpoint, inspect_checkpoint
from vilasr.engines.base import EngineDied, Sampling
from vilasr.prompts import Profile, ProfileError, load_profile, profile_for_checkpoint
from vilasr.results import ResultsWriter
from vilasr.runner import Progress, Run, run_items
from vilasr.tasks import DataError, read_examples

log = logging.getLogger("infer")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="Hugging Face folder, Qwen2.5-VL family")
    parser.add_argument("--benchmarks", nargs="+", default=[], help="names of files in --benchmark-dir, without .json")
    parser.add_argument("--benchmark-dir", type=Path, default=Path("benchmark"))
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="further files of questions (.json, .jsonl)")
    parser.add_argument("--output", type=Path, required=True, help="folder of results, one below it for each file")
    parser.add_argument("--data-root", type=Path, help="where image paths are looked up first")
    parser.add_argument("--profile", type=Path, help="wording and limits; by default the checkpoint's own")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default) is greedy")
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--turn-tokens", type=int, help="most tokens of one reply; the profile's by default")
    parser.add_argument("--limit", type=int, help="run the first N items of each file")
    parser.add_argument("--concurrency", type=int, default=64, help="episodes side by side")
    parser.add_argument("--max-model-len", type=int, help="tokens of an episode; default: the model's, at most 32768")
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    parser.add_argument("--overwrite", action="store_true", help="start anew; keeps one earlier results file beside")
    parser.add_argument("--retry-errors", action="store_true", help="run failed items again")
    parser.add_argument("--allow-errors", action="store_true", help="exit 0 even if some items failed")
    args = parser.parse_args()
    for name in ("limit", "concurrency", "turn_tokens", "max_model_len", "tensor_parallel_size"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if not 0 <= args.temperature <= 2 or not 0 < args.top_p <= 1:  # vLLM's limits
        parser.error("--temperature must be from 0 to 2, --top-p above 0 and at most 1")
    if not 0 <= args.seed < 2**32:
        parser.error("--seed must be at least 0 and below 2**32")
    args.data = [args.benchmark_dir / f"{name}.json" for name in args.benchmarks] + args.data
    if not args.data:
        parser.error("name what to run: --benchmarks or --data")
    stems = [path.stem for path in args.data]
    if len(set(stems)) < len(stems):
        parser.error("--data files of the same name would write to the same folder")
    return args


def settings(args: argparse.Namespace, checkpoint: Checkpoint, profile: Profile, sampling: Sampling) -> dict:
    """Everything that changes results; its hash stands in every row. The checkpoint counts by its content, wherever
    it lies."""
    return {
        "checkpoint": checkpoint.fingerprint,
        "profile": profile.source,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "turn_tokens": sampling.turn_tokens,
        "max_model_len": args.max_model_len,
    }


def run_files(
    args: argparse.Namespace, checkpoint: Checkpoint, profile: Profile, config: dict, sampling: Sampling
) -> int:
    """Run all files with one engine, started when the first item needs it. Returns how many items failed."""
    files = [(data, read_examples(data)[: args.limit]) for data in args.data]
    engine = None
    failed = 0
    try:
        for data, items in files:
            settings_of_file = {**config, "data": data.name}
            folder = args.output / data.stem
            with ResultsWriter(folder, settings_of_file, args.retry_errors, args.overwrite) as results:
                keys = [(item.id, item.digest()) for item in items]
                todo = [item for item, key in zip(items, keys, strict=True) if key not in results.done]
                before = sum(key in results.failed for key in keys)
                failed += before
                log.info(
                    "%s: %d items, %d already done%s, %d to run",
                    data,
                    len(items),
                    len(items) - len(todo),
                    f" ({before} of them failed)" if before else "",
                    len(todo),
                )
                if not todo:
                    continue
                if engine is None:
                    engine = start_engine(args, checkpoint, profile, sampling)
                run = Run(engine, profile, sampling.item_seed, data, args.data_root, args.concurrency)
                progress = Progress()
                try:
                    asyncio.run(run_with_bar(todo, run, results, progress))
                finally:
                    log.info("%s: %d items written to %s", data, progress.done, results.path)
                failed += progress.failed
    finally:
        if engine is not None:
            asyncio.run(engine.aclose())
    return failed


def start_engine(args: argparse.Namespace, checkpoint: Checkpoint, profile: Profile, sampling: Sampling):
    from vilasr.engines.vllm_engine import VllmEngine, VllmOptions

    log.info("starting vLLM with %s", checkpoint.path)
    options = VllmOptions(
        max_model_len=args.max_model_len,
        max_images=profile.budget.images,
        max_num_seqs=args.concurrency,
        tensor_parallel_size=args.tensor_parallel_size,
        gpu_memory_utilization=args.gpu_memory_utilization,
    )
    return VllmEngine(checkpoint, profile.image, sampling, options)


async def run_with_bar(todo: list, run: Run, results: ResultsWriter, progress: Progress) -> None:
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    interval = 0.5 if sys.stderr.isatty() else 10.0
    with logging_redirect_tqdm(), tqdm(total=len(todo), unit="item", mininterval=interval) as bar:

        def show(state: Progress) -> None:
            bar.set_postfix(turns=state.turns, tokens=state.sampled_tokens, failed=state.failed, refresh=False)
            bar.update()

        await run_items(todo, run, results, progress, show)


def infer(args: argparse.Namespace) -> int:
    """Returns how many items failed. Raises DataError, ProfileError, EngineDied, OSError."""
    checkpoint = inspect_checkpoint(args.checkpoint)
    profile = load_profile(args.profile) if args.profile else profile_for_checkpoint(args.checkpoint)
    args.max_model_len = args.max_model_len or checkpoint.default_context
    sampling = Sampling(args.temperature, args.top_p, args.turn_tokens or profile.budget.turn_tokens, args.seed)
    config = settings(args, checkpoint, profile, sampling)
    try:
        return run_files(args, checkpoint, profile, config, sampling)
    except BaseExceptionGroup as group:  # several episodes fail together where one engine dies
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause from group


def main() -> int:
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        failed = infer(args)
    except (DataError, ProfileError) as exc:
        log.error("infer: %s", exc)
        return 2
    except (EngineDied, OSError) as exc:
        log.error("infer: %s\nWhat is written stays; the same command goes on from there.", exc)
        return 3
    except KeyboardInterrupt:
        log.error("infer: stopped. What is written stays; the same command goes on from there.")
        return 130
    if failed and not args.allow_errors:
        log.error("infer: %d items failed; their rows say why. --retry-errors runs them again.", failed)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
