"""Runs episodes with an engine: many at once, each free of the others, every ending recorded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vilasr.engines.base import Engine, EngineDied, Session, Stopped
from vilasr.episode import Done, Episode
from vilasr.prompts import Profile
from vilasr.results import ResultsWriter, broken_row, result_row
from vilasr.tasks import BrokenItem, DataError, Example, find_image, load_frames
from vilasr.traces import StopReason, Trace

log = logging.getLogger(__name__)


async def run_episode(episode: Episode, engine: Engine, session: Session) -> Trace:
    """Drive one episode to its end. Raises EngineDied; every other failure ends the episode by name."""
    new = list(episode.messages)
    while True:
        outcome = await engine.reply(session, new)
        if isinstance(outcome, Stopped):
            episode.close(outcome.reason, outcome.detail)
            return episode.trace()
        step = episode.advance(outcome)
        if isinstance(step, Done):
            return episode.trace()
        new = [step.message]


@dataclass
class Progress:
    """Counts of a run so far."""

    done: int = 0
    failed: int = 0
    turns: int = 0
    sampled_tokens: int = 0


@dataclass(frozen=True)
class Run:
    """What a run needs besides its items: `item_seed(id)` gives each item's own seed."""

    engine: Engine
    profile: Profile
    item_seed: Callable[[str], int]
    data_file: Path
    data_root: Path | None = None
    concurrency: int = 32


async def run_items(
    items: Iterable[Example | BrokenItem],
    run: Run,
    results: ResultsWriter,
    progress: Progress,
    on_item: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Run every item and append its row. Items in `results.done` are not run again; broken ones are recorded.

    `concurrency` workers take items in turn, so no more than that many are in memory. Raises EngineDied, after which
    what was appended stays and a new run goes on from there.
    """
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            if (item.id, item.digest()) in results.done:
                continue
            row = await _run_item(item, run, results.config, progress)
            results.append(row)
            progress.done += 1
            on_item(progress)

    async with asyncio.TaskGroup() as group:
        for _ in range(run.concurrency):
            group.create_task(worker())


async def _run_item(item: Example | BrokenItem, run: Run, config: str, progress: Progress) -> dict:
    started = time.monotonic()
    if isinstance(item, BrokenItem):
        progress.failed += 1
        log.error("%s", item.error)
        return broken_row(item.id, item.digest(), run.data_file.stem, config, item.error)
    try:
        example = await asyncio.to_thread(load_frames, item, run.profile.image, run.data_file, run.data_root)
        files = tuple(str(find_image(n, run.data_file, run.data_root).resolve()) for n in item.image_paths)
    except DataError as exc:
        progress.failed += 1
        log.error("%s", exc)
        return broken_row(item.id, item.digest(), item.source, config, str(exc))
    except Exception as exc:  # a defect of ours or the image library's must not take the other items along
        progress.failed += 1
        log.exception("item %s", item.id)
        detail = f"{run.data_file}: item {item.id}: {type(exc).__name__}: {exc}"
        return broken_row(item.id, item.digest(), item.source, config, detail)
    episode = Episode(example, run.profile)
    session = run.engine.session(run.item_seed(item.id))
    try:
        trace = await run_episode(episode, run.engine, session)
    except EngineDied:
        raise
    except Exception as exc:  # as above
        log.exception("item %s", item.id)
        episode.close(StopReason.ENGINE_ERROR, f"{type(exc).__name__}: {exc}")
        trace = episode.trace()
    if trace.stop_reason is StopReason.ENGINE_ERROR:
        progress.failed += 1
    progress.turns += session.usage.turns
    progress.sampled_tokens += session.usage.sampled
    usage = {"turns": session.usage.turns, "prompt_tokens": session.usage.prompt, "sampled": session.usage.sampled}
    seconds = round(time.monotonic() - started, 3)
    return result_row(example, trace, config, files, usage=usage, seconds=seconds)
