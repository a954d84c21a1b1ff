"""What of an episode's tokens the model said, worked out from the token ids and the trace alone, and compared with what
the trainer was given. Nothing of the rollout's code is used: the rules are written down here a second time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from tests.training.grpo.dumped import Tokens

FAILURES = ("engine_error", "input_error")  # endings after which nothing of an episode is trained
_CERTAIN = 0.5  # a sampler's probability of exactly 1 is believed where the trainer's is above


@dataclass(frozen=True)
class Words:
    """The special tokens of a model and `header`, the ids of "assistant" and a newline. `merged` patches of an image
    make a token."""

    start: int
    end: int
    end_of_text: int
    pad: int
    header: tuple[int, ...]
    decode: Callable[[Sequence[int]], str]
    merged: int = 4


@dataclass(frozen=True)
class Checked:
    """Of one episode: tokens whose mask is wrong, replies, images and log-probabilities that are; `notes` say where.
    `rollout` and `trainer` are the probabilities of the sampled tokens by either, in order."""

    masks: int
    replies: int
    images: int
    places: int
    shifted: bool
    failed: bool
    rollout: np.ndarray
    trainer: np.ndarray
    notes: tuple[str, ...]


def spans(ids: Sequence[int], finishes: Sequence[str], words: Words) -> list[tuple[int, int]]:
    """Of each turn of the assistant, the first of the model's tokens and the one after the last. The n-th reply ended
    as `finishes[n]` says: only with "stop" did the model say the end token itself."""
    found, place = [], 0
    while place < len(ids):
        begin = place + 1 + len(words.header)
        place += 1
        if ids[place - 1] != words.start or tuple(ids[place:begin]) != words.header:
            continue
        stop = begin
        while stop < len(ids) and ids[stop] not in (words.end, words.end_of_text):
            stop += 1
        own_end = len(found) < len(finishes) and finishes[len(found)] == "stop" and stop < len(ids)
        found.append((begin, stop + own_end))
        place = stop
    return found


def check(tokens: Tokens, row: Mapping[str, Any], words: Words) -> Checked:
    """`row` is the episode's line of a results file."""
    ids: list[int] = tokens.ids.tolist()
    steps: list[Mapping[str, Any]] = row.get("steps", [])  # none where the question could not be read
    failed = row["stop_reason"] in FAILURES
    turns = spans(ids, [step["finish_reason"] for step in steps], words)
    said = np.zeros(len(ids), bool)
    for begin, stop in turns:
        said[begin:stop] = True
    said = said[tokens.prompt :]
    wanted = np.zeros_like(said) if failed else said
    notes: list[str] = []

    wrong = np.flatnonzero(wanted != (tokens.mask != 0)) if len(tokens.mask) == len(wanted) else np.arange(len(wanted))
    if len(wrong):
        notes.append(f"mask of response token {wrong[0]}: {len(wrong)} differ")
    replies = [] if failed else _wrong_replies(ids, turns, steps, words)
    notes += replies
    images = _wrong_images(ids, tokens.grids, words)
    notes += images
    places = np.zeros(0, int) if failed else _wrong_places(said, tokens)
    if len(places):
        notes.append(f"log-probability of response token {places[0]}: {len(places)} are out of place")
    chosen = wanted & np.isfinite(tokens.rollout)
    ours, theirs = (np.exp(values[chosen].astype(np.float64)) for values in (tokens.rollout, tokens.trainer))
    shifted = _is_shifted(ours, theirs)
    if shifted:
        notes.append("log-probabilities fit their neighbours better than their own tokens")
    return Checked(
        len(wrong), len(replies), len(images), len(places), shifted, failed, ours, theirs, tuple(notes)
    )  # fmt: skip


def _wrong_replies(
    ids: list[int], turns: list[tuple[int, int]], steps: Sequence[Mapping[str, Any]], words: Words
) -> list[str]:
    """Each turn's text is the reply of the trace. A turn that was opened and never answered is empty."""
    if len(turns) < len(steps) or any(begin != stop for begin, stop in turns[len(steps) :]):
        return [f"{len(turns)} turns of the assistant, {len(steps)} replies in the trace"]
    wrong = []
    for number, ((begin, stop), step) in enumerate(zip(turns, steps, strict=False)):
        last = stop - (step["finish_reason"] == "stop")
        if words.decode(ids[begin:last]) != step["text"]:
            wrong.append(f"reply {number} is another than in the trace")
    return wrong


def _wrong_images(ids: list[int], grids: np.ndarray, words: Words) -> list[str]:
    """Each image has as many pads, side by side, as its grid asks for."""
    pads = [len(list(run)) for token, run in groupby(ids) if token == words.pad]
    asked = (grids.prod(axis=1) // words.merged).tolist()
    return [] if pads == asked else [f"image pads {pads}, by the grids {asked}"]


def _wrong_places(said: np.ndarray, tokens: Tokens) -> np.ndarray:
    """Where a token the model did not say has a log-probability of the sampler's, or one it said has none."""
    values = tokens.rollout
    if len(values) != len(said):
        return np.arange(len(said))
    missing = (values == 0) & (np.exp(tokens.trainer) < _CERTAIN)  # 0 stands for none, and for certainty
    return np.flatnonzero(np.where(said, ~np.isfinite(values) | (values > 0) | missing, values != 0))


def _is_shifted(ours: np.ndarray, theirs: np.ndarray) -> bool:
    if len(ours) < 16:
        return False
    own = np.abs(ours - theirs).mean()
    by_one = min(np.abs(ours[1:] - theirs[:-1]).mean(), np.abs(ours[:-1] - theirs[1:]).mean())
    return bool(own > 0.01 and 2 * by_one < own)
