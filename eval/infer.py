#!/usr/bin/env python3
"""Answer questions by drawing: benchmarks, or one's own pictures.

    python eval/infer.py --checkpoint CKPT --benchmarks maze vsi_bench --output eval/results/rl
    python eval/infer.py --checkpoint CKPT --data my_questions.jsonl --output eval/results/mine
    python eval/infer.py --base-url http://localhost:8000/v1 --model NAME --benchmarks maze --output eval/results/hosted
    python eval/infer.py --checkpoint CKPT --image a.jpg --image b.jpg --question "Which room is larger?"

The first three write OUTPUT/<benchmark>/results.jsonl, one line an episode, as episodes end; started again they run
only what is missing. The last prints the reasoning as it comes and writes the drawn images.
Exit status: 0 all items ran; 1 some item could not be read or run, now or before (its row says why); 2 bad arguments
or settings; 3 the engine failed, the disk is full or --max-cost is reached (what is written stays; start again to
go on).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vilasr.engines.base import Engine, EngineDied
from vilasr.engines.start import start_engine
from vilasr.feedback import FeedbackMode, circle
from vilasr.infer_options import AskOptions, InferOptions, parse_options
from vilasr.prompts import ProfileError
from vilasr.results import ResultsWriter
from vilasr.runner import Progress, Run, run_items
from vilasr.selection import select
from vilasr.tasks import DataError, read_examples
from vilasr.traces import StopReason

log = logging.getLogger("infer")


def run_files(options: InferOptions) -> int:
    """Run all files with one engine, started when the first item needs it. Returns how many items failed."""
    files = [(data, read_examples(data)) for data in options.data]
    engine: Engine | None = None
    failed = 0
    spent = 0.0  # US dollars of earlier starts
    progress = Progress()
    try:
        for data, everything in files:
            items = select(everything, options.selection, data)
            profile = options.profile_for(data.stem)
            folder = options.output / data.stem
            shard = options.selection.shard
            if shard is not None:
                folder /= shard.folder
            with ResultsWriter(folder, options.settings(data), options.retry_errors, options.overwrite) as results:
                spent += options.price(results.usage["prompt_total"], results.usage["sampled"])
                keys = [(item.id, item.digest(), sample) for item in items for sample in range(options.samples)]
                todo = sum(key not in results.done for key in keys)
                before = sum(key in results.failed for key in keys)
                failed += before
                log.info(
                    "%s: %d items%s, %d already done%s, %d to run",
                    data,
                    len(items),
                    f" x {options.samples}" if options.samples > 1 else "",
                    len(keys) - todo,
                    f" ({before} of them failed)" if before else "",
                    todo,
                )
                if not todo:
                    continue
                if options.max_cost is not None and spent + options.cost(progress) >= options.max_cost:
                    raise EngineDied(f"--max-cost is reached, by {spent:.4f} US dollars of earlier starts")
                if engine is None:
                    engine = start_engine(options.source, options.profile, options.widest_rule(), options.sampling)
                run = Run(
                    engine=engine,
                    profile=profile,
                    item_seed=options.sampling.item_seed,
                    data_file=data,
                    data_root=options.data_root,
                    concurrency=options.source.concurrency,
                    samples=options.samples,
                    tools=options.tools,
                    feedback=options.feedback,
                    others=circle(everything, options.sampling.seed)
                    if options.feedback is FeedbackMode.SHUFFLED
                    else {},
                )
                done, failed_before = progress.done, progress.failed
                try:
                    asyncio.run(run_with_bar(items, todo, run, results, progress, options, spent))
                finally:
                    log.info("%s: %d episodes written to %s", data, progress.done - done, results.path)
                failed += progress.failed - failed_before
            if progress.done - done < todo:
                raise EngineDied(f"--max-cost is reached: {cost(progress, options)}, {spent:.4f} before")
    finally:
        if progress.done:
            log.info("%s", cost(progress, options))
        if engine is not None:
            asyncio.run(engine.aclose())
    return failed


def cost(progress: Progress, options: InferOptions) -> str:
    text = (
        f"{progress.turns} turns, {progress.prompt_tokens} prompt tokens, {progress.sampled_tokens} sampled tokens "
        "in this run"
    )
    return f"{text}, {options.cost(progress):.4f} US dollars" if options.priced else text


async def run_with_bar(
    items: list, todo: int, run: Run, results: ResultsWriter, progress: Progress, options: InferOptions, spent: float
) -> None:
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    interval = 0.5 if sys.stderr.isatty() else 10.0
    with logging_redirect_tqdm(), tqdm(total=todo, unit="item", mininterval=interval) as bar:

        def show(state: Progress) -> None:
            counts: dict[str, float] = {"turns": state.turns, "tokens": state.sampled_tokens, "failed": state.failed}
            if options.priced:
                counts["usd"] = round(options.cost(state), 4)
            bar.set_postfix(counts, refresh=False)
            bar.update()
            if options.max_cost is not None:
                if not getattr(run.engine, "counts_tokens", True):
                    raise DataError("--max-cost: the server does not count tokens, so the cost is not known")
                state.stop = spent + options.cost(state) >= options.max_cost

        await run_items(items, run, results, progress, show)


def ask(options: AskOptions) -> int:
    """One's own pictures: the replies go to standard output as they come. Returns the exit status."""
    from vilasr.ask import Model, own_example

    own_example(options.images, options.question, options.choices)  # bad input is told before a model is loaded
    with Model(options.source, options.profile, options.sampling) as model:
        told = model.ask(
            options.images,
            options.question,
            options.choices,
            on_text=lambda piece: print(piece, end="", flush=True),
            on_picture=lambda picture: print(f"\n[image {picture.index} is drawn]\n", flush=True),
        )
    paths = told.save(options.output)
    named = "" if told.option is None else f"  ({told.option})"
    print(f"\n\nAnswer: {told.answer}{named}" if told.answer is not None else "\n\nNo answer", end="")
    print(f"  [{told.trace.stop_reason}]")
    print(f"{len(paths)} images, {len(paths) - len(options.images)} of them drawn, in {options.output}")
    if told.trace.stop_reason in (StopReason.ENGINE_ERROR, StopReason.CONTEXT_OVERFLOW):
        log.error("infer: %s", told.trace.detail)
        return 1
    return 0


def infer(options: InferOptions) -> int:
    """Returns how many items failed. Raises DataError, ProfileError, EngineDied, OSError."""
    try:
        return run_files(options)
    except BaseExceptionGroup as group:  # several episodes fail together where one engine dies
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause from group


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    goes_on = "What is written stays; the same command goes on from there"
    if "--overwrite" in sys.argv:
        goes_on += ", without --overwrite"
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)  # a line a request
    failed = 0
    try:
        options = parse_options(__doc__)
        if isinstance(options, AskOptions):
            return ask(options)
        failed = infer(options)
    except (DataError, ProfileError) as exc:
        log.error("infer: %s", exc)
        return 2
    except (EngineDied, OSError) as exc:
        log.error("infer: %s\n%s.", exc, goes_on)
        return 3
    except KeyboardInterrupt:
        log.error("infer: stopped. %s.", goes_on)
        return 130
    if failed and not options.allow_errors:
        log.error("infer: %d items failed; their rows say why. --retry-errors runs them again.", failed)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
