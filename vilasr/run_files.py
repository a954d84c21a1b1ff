"""Runs files of questions with one engine: what is there already is left, a bar tells how it goes."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.engines.base import Engine, EngineDied
from vilasr.engines.start import start_engine
from vilasr.feedback import FeedbackMode, circle
from vilasr.infer_options import InferOptions
from vilasr.prompts import ProfileError
from vilasr.results import ResultsWriter
from vilasr.runner import Progress, Run, run_items
from vilasr.selection import select
from vilasr.tasks import BrokenItem, DataError, Example, read_examples

log = logging.getLogger(__name__)

Items = list[Example | BrokenItem]


def exit_status(name: str, run: Callable[[], int]) -> int:
    """What a program with a model ends with: that of `run`, or 2 for data or settings that cannot be used, 3 for an
    engine that fails or a full disk, 130 where it is stopped; with one message."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)  # a line a request
    goes_on = "What is written stays; the same command goes on from there"
    if "--overwrite" in sys.argv:
        goes_on += ", without --overwrite"
    try:
        return run()
    except (DataError, ProfileError) as exc:
        log.error("%s: %s", name, exc)
        return 2
    except (EngineDied, OSError) as exc:
        log.error("%s: %s\n%s.", name, exc, goes_on)
        return 3
    except KeyboardInterrupt:
        log.error("%s: stopped. %s.", name, goes_on)
        return 130


@dataclass(frozen=True)
class Hooks:
    """What a program adds to a run: `fit` leaves items of a file out, `judge` sees each row as it is written and says
    what the bar shows of it besides the counts."""

    fit: Callable[[Items, Path], Items] = lambda items, data: items
    judge: Callable[[Mapping[str, Any]], Mapping[str, str | float]] = lambda row: {}


def run_files(options: InferOptions, hooks: Hooks = Hooks()) -> int:
    """Run all files with one engine, started when the first item needs it. Returns how many items failed.

    Raises DataError, ProfileError, EngineDied, OSError."""
    try:
        return _run_files(options, hooks)
    except BaseExceptionGroup as group:  # several episodes fail together where one engine dies
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause from group


def _run_files(options: InferOptions, hooks: Hooks) -> int:
    files = [(data, read_examples(data)) for data in options.data]
    engine: Engine | None = None
    failed = 0
    spent = 0.0  # US dollars of earlier starts
    progress = Progress()
    try:
        for data, everything in files:
            items = hooks.fit(select(everything, options.selection, data), data)
            profile = options.profile_for(data.stem)
            folder = options.folder(data)
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
                    asyncio.run(_run_with_bar(items, todo, run, results, progress, options, spent, hooks))
                finally:
                    log.info("%s: %d episodes written to %s", data, progress.done - done, results.path)
                failed += progress.failed - failed_before
            if progress.done - done < todo:
                raise EngineDied(f"--max-cost is reached: {_cost(progress, options)}, {spent:.4f} before")
    finally:
        if progress.done:
            log.info("%s", _cost(progress, options))
        if engine is not None:
            asyncio.run(engine.aclose())
    return failed


def _cost(progress: Progress, options: InferOptions) -> str:
    text = (
        f"{progress.turns} turns, {progress.prompt_tokens} prompt tokens, {progress.sampled_tokens} sampled tokens "
        "in this run"
    )
    return f"{text}, {options.cost(progress):.4f} US dollars" if options.priced else text


async def _run_with_bar(
    items: Items,
    todo: int,
    run: Run,
    results: ResultsWriter,
    progress: Progress,
    options: InferOptions,
    spent: float,
    hooks: Hooks,
) -> None:
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    interval = 0.5 if sys.stderr.isatty() else 10.0
    with logging_redirect_tqdm(), tqdm(total=todo, unit="item", mininterval=interval) as bar:

        def show(state: Progress) -> None:
            counts: dict[str, Any] = {"turns": state.turns, "tokens": state.sampled_tokens, "failed": state.failed}
            if state.row is not None:
                counts |= hooks.judge(state.row)
            if options.priced:
                counts["usd"] = round(options.cost(state), 4)
            bar.set_postfix(counts, refresh=False)
            bar.update()
            if options.max_cost is not None:
                if not getattr(run.engine, "counts_tokens", True):
                    raise DataError("--max-cost: the server does not count tokens, so the cost is not known")
                state.stop = spent + options.cost(state) >= options.max_cost

        await run_items(items, run, results, progress, show)
