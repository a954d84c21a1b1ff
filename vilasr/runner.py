"""Runs episodes with an engine: many at once, each free of the others, every ending recorded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vilasr.engines.base import Engine, EngineDied, Session, Stopped
from vilasr.episode import Continue, Done, Episode, Limits
from vilasr.feedback import Feedback, FeedbackMode
from vilasr.prompts import Profile
from vilasr.results import ResultsWriter, broken_row, result_row
from vilasr.tasks import BrokenItem, DataError, Example, find_image, load_frames
from vilasr.traces import StopReason, Trace

log = logging.getLogger(__name__)


async def run_episode(
    episode: Episode,
    engine: Engine,
    session: Session,
    on_turn: Callable[[Continue | Done], None] = lambda outcome: None,
) -> Trace:
    """Drive one episode to its end; `on_turn` sees what the episode makes of each reply. Raises EngineDied; every
    other failure ends the episode by name."""
    new = list(episode.messages)
    while True:
        outcome = await engine.reply(session, new)
        if isinstance(outcome, Stopped):
            on_turn(episode.close(outcome.reason, outcome.detail))
            return episode.trace()
        step = episode.advance(outcome)
        on_turn(step)
        if isinstance(step, Done):
            return episode.trace()
        new = [step.message]


@dataclass
class Progress:
    """Counts of a run so far, and the row written last. Set `stop` and no further item is begun."""

    done: int = 0
    failed: int = 0
    turns: int = 0
    prompt_tokens: int = 0  # of all turns together, as a hosted model bills them
    sampled_tokens: int = 0
    stop: bool = False
    row: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Run:
    """What a run needs besides its items: `item_seed(id, sample)` gives each episode its own seed, `samples` episodes
    an item. `tools` False asks for the answer at once, without drawing; `others` are the items whose images the
    feedback `shuffled` shows, by item id."""

    engine: Engine
    profile: Profile
    item_seed: Callable[[str, int], int]
    data_file: Path
    data_root: Path | None = None
    concurrency: int = 32
    samples: int = 1
    tools: bool = True
    feedback: FeedbackMode = FeedbackMode.REAL
    others: Mapping[str, Example] = field(default_factory=dict)


async def run_items(
    items: Iterable[Example | BrokenItem],
    run: Run,
    results: ResultsWriter,
    progress: Progress,
    on_item: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Run every item, `run.samples` times, and append its rows. What is in `results.done` is not run again; broken
    items are recorded.

    `concurrency` workers take items in turn, so no more than that many are in memory. Raises EngineDied, after which
    what was appended stays and a new run goes on from there.
    """
    waiting = ((item, sample) for item in items for sample in range(run.samples))

    async def worker() -> None:
        for item, sample in waiting:
            if progress.stop:
                return
            if (item.id, item.digest(), sample) in results.done:
                continue
            row = await _run_item(item, sample, run, results.config, progress)
            results.append(row)
            progress.done += 1
            progress.row = row
            on_item(progress)

    async with asyncio.TaskGroup() as group:
        for _ in range(run.concurrency):
            group.create_task(worker())


async def _run_item(item: Example | BrokenItem, sample: int, run: Run, config: str, progress: Progress) -> dict:
    started = time.monotonic()
    if isinstance(item, BrokenItem):
        progress.failed += 1
        log.error("%s", item.error)
        return broken_row(item.id, item.digest(), run.data_file.stem, config, item.error, sample, item.task)
    try:
        episode, files = await asyncio.to_thread(_prepare, item, run)
    except DataError as exc:
        progress.failed += 1
        log.error("%s", exc)
        return broken_row(item.id, item.digest(), item.source, config, str(exc), sample, item.task, item.data_type)
    except Exception as exc:  # a defect of ours or the image library's must not take the other items along
        progress.failed += 1
        log.exception("item %s", item.id)
        detail = f"{run.data_file}: item {item.id}: {type(exc).__name__}: {exc}"
        return broken_row(item.id, item.digest(), item.source, config, detail, sample, item.task, item.data_type)
    session = run.engine.session(run.item_seed(item.id, sample))
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
    progress.prompt_tokens += session.usage.prompt_total
    progress.sampled_tokens += session.usage.sampled
    extra: dict[str, Any] = {"usage": asdict(session.usage), "seconds": round(time.monotonic() - started, 3)}
    if run.feedback is not FeedbackMode.REAL:
        extra["feedback"] = run.feedback
    if run.feedback is FeedbackMode.SHUFFLED:
        extra["shown_instead"] = run.others[item.id].id
    return result_row(episode.example, trace, config, files, sample, **extra)


def _prepare(item: Example, run: Run) -> tuple[Episode, tuple[str, ...]]:
    """The episode of an item and the files of its images. Raises DataError."""
    example = load_frames(item, run.profile.image, run.data_file, run.data_root)
    files = tuple(str(find_image(n, run.data_file, run.data_root).resolve()) for n in item.image_paths)
    limits = Limits.of(run.profile, example)
    if not run.tools:
        limits = replace(limits, calls=1)  # the one reply is the final answer, and the question says so
    feedback = Feedback(run.feedback)
    if run.feedback is FeedbackMode.SHUFFLED:
        if item.id not in run.others:
            raise DataError(f"{run.data_file}: item {item.id}: no other item with another image to show instead")
        other = load_frames(run.others[item.id], run.profile.image, run.data_file, run.data_root)
        feedback = Feedback(run.feedback, other.frames)
    return Episode(example, run.profile, limits, feedback), files
