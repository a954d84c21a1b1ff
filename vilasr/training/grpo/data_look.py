"""Looks at the data of a GRPO run as its dataset will read it: which questions can be asked, seen and scored."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from vilasr.images import ImageError, load_image
from vilasr.prompts import Profile
from vilasr.tasks import DataError, find_image
from vilasr.training.findings import Finding
from vilasr.training.grpo.config import MODEL, files_in, value_of, whole_number
from vilasr.training.grpo.item import Item
from vilasr.training.grpo.prompt_length import PromptLength
from vilasr.training.grpo.questions import each_question
from vilasr.training.grpo.split import plan_split
from vilasr.training.lengths import TokenCounter

SAMPLE = 200  # questions whose images are opened
MOST_WRONG = 0.01  # of the questions may be left out, or show what cannot be opened
MOST_LONG = 0.1  # of the questions may be left out for their length
_SHOWN = 5  # problems of a kind


@dataclass(frozen=True, slots=True)
class Questions:
    """Those that can be read and scored, of one or several files, and what is wrong with the others."""

    items: tuple[Item, ...]
    wrong: tuple[str, ...]


def read_questions(files: Sequence[Path], data_root: str | None) -> Questions:
    """Once, as long as the files stay as they are: several parts of a preflight ask. Raises DataError for a file that
    cannot be read."""
    return _read(tuple(files), tuple(map(_stamp, files)), data_root)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:  # told by whoever reads it
        return None
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=2)  # training and validation files
def _read(files: tuple[Path, ...], stamps: tuple[tuple[int, int] | None, ...], data_root: str | None) -> Questions:
    items, wrong = [], []
    for found in each_question(files, data_root):
        if isinstance(found, Item):
            items.append(found)
        else:
            wrong.append(found[1])
    return Questions(tuple(items), tuple(wrong))


def data_findings(config: DictConfig, profile: Profile | None) -> Iterator[Finding]:
    """One line for each thing that was looked at; lengths where a `profile` is given. Raises DataError."""
    root = value_of(config, "data.data_root")
    train, given = files_in(config, "data.train_files"), files_in(config, "data.val_files")
    questions = read_questions(train, root)
    yield from _wrong("data.train_files", questions)
    if given:
        yield from _validation(config, given, train, root)
    yield split_finding(config, questions)
    chosen = questions.items
    if len(chosen) > SAMPLE:
        chosen = tuple(random.Random(0).sample(chosen, SAMPLE))  # noqa: S311 (not for secrets)
    yield from _images(chosen)
    if profile is not None:
        yield from _lengths(config, profile, chosen)


def training_questions(config: DictConfig) -> int:
    """How many are trained on, those too long for the prompt not taken off."""
    questions = _of(config, "data.train_files")
    return _at_most(config, "data.train_max_samples", len(_split(config, questions)[0]))


def validation_questions(config: DictConfig) -> int:
    """How many are asked in one validation, those too long not taken off."""
    if files_in(config, "data.val_files"):
        count = len(_of(config, "data.val_files").items)
    else:
        count = len(_split(config, _of(config, "data.train_files"))[1])
    return _at_most(config, "data.val_max_samples", count)


def images_shown(config: DictConfig) -> float:
    """With a question, on average."""
    items = _of(config, "data.train_files").items
    return sum(len(item.example.image_paths) for item in items) / max(1, len(items))


def _of(config: DictConfig, key: str) -> Questions:
    return read_questions(files_in(config, key), value_of(config, "data.data_root"))


def _at_most(config: DictConfig, key: str, count: int) -> int:
    limit = int(value_of(config, key, -1))
    return min(count, limit) if limit > 0 else count


def _split(config: DictConfig, questions: Questions) -> tuple[list[int], list[int]]:
    everything = list(range(len(questions.items)))
    if files_in(config, "data.val_files"):
        return everything, []
    return plan_split([item.example for item in questions.items], whole_number(config, "data.held_out", 0))


def split_finding(config: DictConfig, questions: Questions) -> Finding:
    kept, out = _split(config, questions)
    batch = whole_number(config, "data.train_batch_size")
    count = _at_most(config, "data.train_max_samples", len(kept))
    text = f"{count:,} questions to train on"
    if not files_in(config, "data.val_files"):
        text += f", {_at_most(config, 'data.val_max_samples', len(out)):,} held out for validation"
        if not out:
            return Finding("data", f"{text}: data.held_out must be at least 1, or data.val_files given", bad=True)
    if count < batch:
        return Finding("data", f"{text}: fewer than data.train_batch_size={batch}, no step could be made", bad=True)
    return Finding("data", text)


def _wrong(key: str, questions: Questions) -> Iterator[Finding]:
    """The dataset leaves them out."""
    total = len(questions.items) + len(questions.wrong)
    bad = not questions.items or len(questions.wrong) > MOST_WRONG * total
    if questions.wrong or bad:
        yield Finding("data", f"{key}: {len(questions.wrong):,} of {total:,} questions cannot be used", bad)
    yield from (Finding("data", text, bad) for text in questions.wrong[:_SHOWN])


def _validation(
    config: DictConfig, given: Sequence[Path], train: Sequence[Path], root: str | None
) -> Iterator[Finding]:
    same = {file.resolve() for file in given} & {file.resolve() for file in train}
    for file in sorted(same):
        hint = "leave data.val_files out, and data.held_out questions are kept from training"
        yield Finding("data", f"data.val_files: {file} is what is trained on; {hint}", bad=True)
    if not same:
        questions = read_questions(given, root)
        yield from _wrong("data.val_files", questions)
        count = _at_most(config, "data.val_max_samples", len(questions.items))
        yield Finding("data", f"{count:,} questions for validation")


def _images(items: Sequence[Item]) -> Iterator[Finding]:
    wrong, count = [], 0
    for item in items:
        for name in item.example.image_paths:
            count += 1
            try:
                load_image(find_image(name, Path(item.file), Path(item.data_root) if item.data_root else None))
            except (DataError, ImageError) as exc:
                wrong.append(f"{item.file}: item {item.example.id}: {exc}")
                break
    bad = len(wrong) > MOST_WRONG * len(items)
    text = f"{count:,} images of {len(items):,} questions opened, {len(wrong)} questions with one that cannot be"
    yield Finding("images", f"{text}: each would cost its episodes" if wrong else text, bad)
    yield from (Finding("images", text, bad) for text in wrong[:_SHOWN])


def _lengths(config: DictConfig, profile: Profile, items: Sequence[Item]) -> Iterator[Finding]:
    limit = whole_number(config, "data.max_prompt_length")
    check = PromptLength(profile, TokenCounter(value_of(config, MODEL)), limit)
    long = [(item, why) for item in items if (why := check.why_not(item))]
    text = f"{len(long)} of {len(items):,} questions longer than data.max_prompt_length={limit:,} tokens"
    filtered = value_of(config, "data.filter_overlong_prompts", False)
    bad = len(long) > MOST_LONG * len(items) if filtered else bool(long)
    if long:
        text += ": left out" if filtered else ": data.filter_overlong_prompts=true leaves them out"
    yield Finding("lengths", text, bad)
    for item, why in long[:_SHOWN]:
        yield Finding("lengths", f"{item.file}: item {item.example.id}: {why}", bad)
