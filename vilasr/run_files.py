"""Runs files of questions with one model: what is there already is left, a bar tells how it goes."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vilasr.engines.base import EngineDied
from vilasr.engines.start import start_player
from vilasr.feedback import FeedbackMode, circle
from vilasr.infer_options import InferOptions
from vilasr.prompts import ProfileError
from vilasr.question_file import Item, QuestionFile
from vilasr.results import ResultsWriter
from vilasr.runner import Player, Progress, Run, run_items
from vilasr.tasks import DataError

log = logging.getLogger(__name__)


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

    fit: Callable[[QuestionFile], QuestionFile] = lambda items: items
    judge: Callable[[Mapping[str, Any]], Mapping[str, str | float]] = lambda row: {}


def run_files(options: InferOptions, hooks: Hooks = Hooks()) -> int:
    """Run all files with the same engines, started when the first item needs them. Returns how many items failed.

    Raises DataError, ProfileError, EngineDied, OSError."""
    try:
        return _run_files(options, hooks)
    except BaseExceptionGroup as group:  # several episodes fail together where one engine dies
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause from group


def _run_files(options: InferOptions, hooks: Hooks) -> int:
    files = [QuestionFile.read(data, options.selection) for data in options.data]
    player: Player | None = None
    failed = 0
    spent = 0.0  # US dollars of earlier starts
    progress = Progress()
    try:
        for file in files:
            data, items = file.path, hooks.fit(file)
            profile = options.profile_for(data.stem)
            folder = options.folder(data)
            with ResultsWriter(folder, options.settings(data), options.retry_errors, options.overwrite) as results:
                spent += options.price(results.usage["prompt_total"], results.usage["sampled"])
                there, before = _there(items, options.samples, results)
                todo = len(items) * options.samples - there
                failed += before
                log.info(
                    "%s: %d items%s, %d already done%s, %d to run",
                    data,
                    len(items),
                    f" x {options.samples}" if options.samples > 1 else "",
                    there,
                    f" ({before} of them failed)" if before else "",
                    todo,
                )
                if not todo:
                    continue
                if options.max_cost is not None and spent + options.cost(progress) >= options.max_cost:
                    raise EngineDied(f"--max-cost is reached, by {spent:.4f} US dollars of earlier starts")
                if player is None:
                    rule = options.widest_rule()
                    player = start_player(options.source, options.profile, rule, options.sampling, options.output)
                run = Run(
                    profile=profile,
                    item_seed=options.sampling.item_seed,
                    data_file=data,
                    data_root=options.data_root,
                    concurrency=options.source.concurrency,
                    samples=options.samples,
                    tools=options.tools,
                    feedback=options.feedback,
                    others=circle(file.everything(), options.sampling.seed)
                    if options.feedback is FeedbackMode.SHUFFLED
                    else {},
                )
                done, failed_before = progress.done, progress.failed
                try:
                    asyncio.run(_run_with_bar(items, todo, run, player, results, progress, options, spent, hooks))
                finally:
                    log.info("%s: %d episodes written to %s", data, progress.done - done, results.path)
                failed += progress.failed - failed_before
            if progress.done - done < todo:
                raise EngineDied(f"--max-cost is reached: {_cost(progress, options)}, {spent:.4f} before")
    finally:
        if progress.done:
            log.info("%s", _cost(progress, options))
        if player is not None:
            asyncio.run(player.aclose())
    return failed


def _there(items: Iterable[Item], samples: int, results: ResultsWriter) -> tuple[int, int]:
    """How many episodes have results, and how many of these failed."""
    there = failed = 0
    for item in items if results.done else ():
        digest = item.digest()
        for sample in range(samples):
            there += (item.id, digest, sample) in results.done
            failed += (item.id, digest, sample) in results.failed
    return there, failed


def _cost(progress: Progress, options: InferOptions) -> str:
    text = (
        f"{progress.turns} turns, {progress.prompt_tokens} prompt tokens, {progress.sampled_tokens} sampled tokens "
        "in this run"
    )
    return f"{text}, {options.cost(progress):.4f} US dollars" if options.priced else text


async def _run_with_bar(
    items: Iterable[Item],
    todo: int,
    run: Run,
    player: Player,
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
                if not player.counts_tokens:
                    raise DataError("--max-cost: the server does not count tokens, so the cost is not known")
                state.stop = spent + options.cost(state) >= options.max_cost

        await run_items(items, run, player, results, progress, show)
