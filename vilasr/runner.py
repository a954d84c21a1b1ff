"""Runs episodes with an engine: many at once, each free of the others, every ending recorded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

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
        step = await asyncio.to_thread(episode.advance, outcome)  # draws: other episodes go on meanwhile
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

    def add(self, outcome: Outcome) -> None:
        self.done += 1
        self.failed += outcome.failed
        self.turns += outcome.turns
        self.prompt_tokens += outcome.prompt_tokens
        self.sampled_tokens += outcome.sampled_tokens
        self.row = outcome.row


@dataclass(frozen=True)
class Outcome:
    """What became of one episode: its row, and what it adds to the counts."""

    row: Mapping[str, Any]
    failed: bool = False
    turns: int = 0
    prompt_tokens: int = 0
    sampled_tokens: int = 0


@dataclass(frozen=True)
class Run:
    """What makes the episodes of a run, besides the items and the engine: `item_seed(id, sample)` gives each its own
    seed, `samples` episodes an item, `concurrency` of them at once on each engine. `tools` False asks for the answer at
    once, without drawing; `others` are the items whose images the feedback `shuffled` shows, by item id."""

    profile: Profile
    item_seed: Callable[[str, int], int]
    data_file: Path
    data_root: Path | None = None
    concurrency: int = 32
    samples: int = 1
    tools: bool = True
    feedback: FeedbackMode = FeedbackMode.REAL
    others: Mapping[str, Example] = field(default_factory=dict)


class Player(Protocol):
    """What plays whole episodes, on `engines` engines here or elsewhere. `counts_tokens` as long as it counts them."""

    @property
    def engines(self) -> int: ...

    @property
    def counts_tokens(self) -> bool: ...

    async def play(self, item: Example, sample: int, run: Run, config: str) -> Outcome:
        """One episode, and its row with the configuration's hash. Raises EngineDied; everything else ends by name in
        the row."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True)
class Alone:
    """Plays with one engine, in this process."""

    engine: Engine
    engines: int = 1

    @property
    def counts_tokens(self) -> bool:
        return getattr(self.engine, "counts_tokens", True)

    async def play(self, item: Example, sample: int, run: Run, config: str) -> Outcome:
        return await play_item(self.engine, item, sample, run, config)

    async def aclose(self) -> None:
        await self.engine.aclose()


async def run_items(
    items: Iterable[Example | BrokenItem],
    run: Run,
    player: Player,
    results: ResultsWriter,
    progress: Progress,
    on_item: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Run every item, `run.samples` times, and append its rows. What is in `results.done` is not run again; broken
    items are recorded.

    As many workers as episodes run at once take items in turn, so no more than that many are in memory. Raises
    EngineDied, after which what was appended stays and a new run goes on from there.
    """
    waiting = ((item, sample) for item in items for sample in range(run.samples))

    async def worker() -> None:
        for item, sample in waiting:
            if progress.stop:
                return
            if (item.id, item.digest(), sample) in results.done:
                continue
            if isinstance(item, BrokenItem):
                row = broken_row(
                    item.id, item.digest(), run.data_file.stem, results.config, item.error, sample, item.task
                )
                outcome = Outcome(row, failed=True)
            else:
                outcome = await player.play(item, sample, run, results.config)
            if outcome.row["stop_reason"] == StopReason.INPUT_ERROR:
                log.error("%s", outcome.row["detail"])
            results.append(outcome.row)
            progress.add(outcome)
            on_item(progress)

    async with asyncio.TaskGroup() as group:
        for _ in range(run.concurrency * player.engines):
            group.create_task(worker())


async def play_item(engine: Engine, item: Example, sample: int, run: Run, config: str) -> Outcome:
    """See `Player.play`."""
    started = time.monotonic()
    try:
        episode, files = await asyncio.to_thread(_prepare, item, run)
    except DataError as exc:
        return _unread(item, sample, config, str(exc))
    except Exception as exc:  # a defect of ours or the image library's must not take the other items along
        log.exception("item %s", item.id)
        return _unread(item, sample, config, f"{run.data_file}: item {item.id}: {type(exc).__name__}: {exc}")
    session = engine.session(run.item_seed(item.id, sample))
    try:
        trace = await run_episode(episode, engine, session)
    except EngineDied:
        raise
    except Exception as exc:  # as above
        log.exception("item %s", item.id)
        episode.close(StopReason.ENGINE_ERROR, f"{type(exc).__name__}: {exc}")
        trace = episode.trace()
    extra = {"usage": asdict(session.usage), "seconds": round(time.monotonic() - started, 3)}
    return Outcome(
        row=result_row(episode.example, trace, config, files, sample, **extra, **_shown(item, run)),
        failed=trace.stop_reason is StopReason.ENGINE_ERROR,
        turns=session.usage.turns,
        prompt_tokens=session.usage.prompt_total,
        sampled_tokens=session.usage.sampled,
    )


def engine_error(item: Example, sample: int, run: Run, config: str, detail: str) -> Outcome:
    """Of an episode that never came back from its engine. Its images are not read: they may be what it died of."""
    trace = Trace(item.id, (), (), (), StopReason.ENGINE_ERROR, None, detail=detail)
    try:
        files = _files(item, run)
    except (DataError, OSError):
        files = ()
    return Outcome(result_row(item, trace, config, files, sample, **_shown(item, run)), failed=True)


def _shown(item: Example, run: Run) -> dict[str, str]:
    """What a row says of what the model is shown after a drawing, where it is not the real image."""
    shown: dict[str, str] = {} if run.feedback is FeedbackMode.REAL else {"feedback": run.feedback}
    if run.feedback is FeedbackMode.SHUFFLED and item.id in run.others:
        shown["shown_instead"] = run.others[item.id].id
    return shown


def _unread(item: Example, sample: int, config: str, error: str) -> Outcome:
    row = broken_row(item.id, item.digest(), item.source, config, error, sample, item.task, item.data_type)
    return Outcome(row, failed=True)


def _prepare(item: Example, run: Run) -> tuple[Episode, tuple[str, ...]]:
    """The episode of an item and the files of its images. Raises DataError."""
    example = load_frames(item, run.profile.image, run.data_file, run.data_root)
    files = _files(item, run)
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


def _files(item: Example, run: Run) -> tuple[str, ...]:
    return tuple(str(find_image(name, run.data_file, run.data_root).resolve()) for name in item.image_paths)
