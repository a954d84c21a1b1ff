"""Reads results of the published project, and scores them by that project's own rules.

A line of its `results.jsonl` is the item as in the benchmark file, with the conversation and the last reply added.
Several processes write shards, in folders named `{shard}_{shards}`. Its rules differ from ours and from those of the
benchmarks (`vilasr.published_rules`); they are kept as they are, so that published numbers can be compared with.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.drawing.parser import DrawCall, FinalAnswer, clean_text, parse_reply
from vilasr.messages import FinishReason
from vilasr.published_rules import extracted_answer, published_score
from vilasr.tasks import DataError, Example, parse_example
from vilasr.traces import Event, EventKind, Step, StopReason, Trace

log = logging.getLogger(__name__)

ANSWER_ONLY = "answer_only"  # departure: an <answer> was given in a reply that has no legal form
SHARD_FOLDER = re.compile(r"(\d+)_(\d+)")
_VISION = "<|vision_start|><|image_pad|><|vision_end|>"


@dataclass(frozen=True)
class PublishedResult:
    """One line. `trace` has the replies as steps, with their marks as parsed; its images are unknown. `published` is
    the score by the published rule, None where that code raises, and `crash` then says what."""

    example: Example
    trace: Trace
    model_output: str
    published: float | None
    crash: str = ""


def find_published(folder: Path) -> list[Path]:
    """The results files below a folder, in the order of the items: `results.jsonl` itself, or those of all shards.

    Raises DataError naming what is missing.
    """
    whole = folder / "results.jsonl"
    shards: dict[int, set[int]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = SHARD_FOLDER.fullmatch(path.name)
        if match and path.is_dir():
            shards.setdefault(int(match[2]), set()).add(int(match[1]))
    if whole.is_file():
        if shards:
            log.warning("%s is read, and the shards beside it are not", whole)
        return [whole]
    if not shards:
        raise DataError(
            f"{folder}: neither results.jsonl nor folders of shards (0_4, 1_4, ...); name the folder "
            "that holds one of them"
        )
    if len(shards) > 1:
        raise DataError(
            f"{folder}: shards of several runs, of {', '.join(map(str, sorted(shards)))} shards each; "
            "move the others away"
        )
    ((count, _),) = shards.items()
    files = [folder / f"{shard}_{count}" / "results.jsonl" for shard in range(count)]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {count} shards are missing: {', '.join(missing[:8])}; copy them too"
        )
    return files


def read_published(path: Path, benchmark: str, first: int = 0) -> Iterator[PublishedResult | DataError]:
    """Every line as a result, or an error that names file, line and field. Raises OSError.

    Items without an id get the one `vilasr.tasks.read_examples` gives them; `first` is the number of the first line
    (of later shards: the number of lines before).
    """
    number = first
    with path.open("rb") as file:
        for line_number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}: line {line_number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as exc:
                half = "" if line.endswith(b"\n") else "half-written: "
                yield DataError(f"{where}: {half}not JSON ({exc})")
            else:
                try:
                    yield _parse(row, f"{benchmark}-{number:06d}", benchmark)
                except DataError as exc:
                    yield DataError(f"{where}: {exc}")
            number += 1


def read_published_folder(folder: Path, benchmark: str) -> Iterator[PublishedResult | DataError]:
    """All shards as one file. Raises DataError where one is missing, OSError where one cannot be read."""
    number = 0
    for path in find_published(folder):
        for result in read_published(path, benchmark, number):
            number += 1
            yield result


def _parse(row: Any, fallback_id: str, benchmark: str) -> PublishedResult:
    example = parse_example(row, fallback_id, benchmark)
    if not isinstance(row.get("model_output"), str):
        raise DataError("model_output: must be a text")
    output = clean_text(row["model_output"])
    messages = row.get("conversations")
    if not isinstance(messages, list):
        raise DataError("conversations: must be a list")
    trace = _trace(example.id, _conversation(messages))
    try:
        score, crash = published_score(row["model_output"], row["answer"], row.get("problem_type", "")), ""
    except (IndexError, TypeError, AttributeError) as exc:
        score, crash = None, f"{type(exc).__name__}: {exc}"
    return PublishedResult(example, trace, output, score, crash)


def _conversation(messages: list[Any]) -> tuple[dict[str, Any], ...]:
    """The messages in the layout of a trace: pictures as `<image>`, numbered from 1."""
    found, shown = [], 0
    for number, message in enumerate(messages):
        where = f"conversations[{number}]"
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant"):
            raise DataError(f"{where}: must be an object with a role and a content")
        content = message.get("content")
        if isinstance(content, list):
            if not all(isinstance(part, dict) for part in content):
                raise DataError(f"{where}.content: must be a list of objects")
            texts = [part.get("text") for part in content if part.get("type") == "text"]
            pictures = sum(part.get("type") == "image" for part in content)
            if not all(isinstance(text, str) for text in texts):
                raise DataError(f"{where}.content: a text part without text")
            content = "".join(str(text) for text in texts)
            if _VISION not in content:  # else one part stands for all, and the text has their places
                content = "<image>" * pictures + content
        if not isinstance(content, str):
            raise DataError(f"{where}.content: must be a text or a list of parts")
        text = clean_text(content)
        if message["role"] == "system":
            text = text.removeprefix("system\n")  # the published project cuts its conversations so
        images: list[int] = []
        if message["role"] == "user":
            text = text.replace(_VISION, "<image>")
            images = list(range(shown + 1, shown + 1 + text.count("<image>")))
            shown += len(images)
        found.append({"role": message["role"], "content": text, "images": images})
    return tuple(found)


def _trace(item_id: str, conversation: tuple[dict[str, Any], ...]) -> Trace:
    replies = [message["content"] for message in conversation if message["role"] == "assistant"]
    detail = ""
    if replies and not replies[-1].strip():
        replies, detail = replies[:-1], "the last reply is empty"
    steps, events = [], []
    for number, text in enumerate(replies, 1):
        step = _step(text)
        if step.error is not None:
            events.append(Event(number, EventKind.REPLY_ERROR, step.error))
        events += [Event(number, EventKind.DEPARTURE, departure) for departure in step.departures]
        steps.append(step)
    answer = steps[-1].answer if steps and not detail else None
    reason = StopReason.NO_ANSWER if answer is None else StopReason.ANSWERED
    return Trace(item_id, tuple(steps), (), tuple(events), reason, answer, conversation, detail)


def _step(text: str) -> Step:
    parsed = parse_reply(text)
    if isinstance(parsed, FinalAnswer | DrawCall):
        departures = tuple(departure.value for departure in parsed.departures)
        if isinstance(parsed, FinalAnswer):
            return Step(text, FinishReason.STOP, parsed.thought, "Answer", answer=parsed.answer, departures=departures)
        return Step(text, FinishReason.STOP, parsed.thought, parsed.action.value, parsed.marks, departures=departures)
    code, found = parsed.error.code, extracted_answer(text)
    if found is text or not found:
        return Step(text, FinishReason.STOP, parsed.thought, error=code)
    return Step(text, FinishReason.STOP, parsed.thought, answer=found, error=code, departures=(ANSWER_ONLY,))
