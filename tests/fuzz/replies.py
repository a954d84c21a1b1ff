"""Generated replies for the parser and the episode: grammar pieces in any order, mutated real replies, noise.

    python -m tests.fuzz --count 1000000

plays them all through episodes and prints the rate; any exception or an episode without a named ending fails.
"""

from __future__ import annotations

import argparse
import random
import string
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.golden import golden_traces, make_example
from vilasr.drawing import parse_reply
from vilasr.episode import Done, Episode, Limits
from vilasr.messages import FinishReason, Reply
from vilasr.prompts import default_profile
from vilasr.traces import StopReason

REAL = [reply for golden in golden_traces() for reply in golden.replies]
PIECES = [
    "<think>", "</think>", "<answer>", "</answer>", "Action:", "Action: Object Mapper", "Action: Path Tracer",
    "Action: Answer", "```", "```json", "\n", " ", "[", "]", "{", "}", ",", ":", '"', "'", "\\", "index", '"index": 1',
    '"index": -1', '"bbox_2d": [1, 2, 30, 40]', '"bbox_2d": [1e308, NaN, -Infinity, 0]', '"label": "cup"',
    '"start_point_2d": [1, 2]', '"end_point_2d": [30, 40]', '"end_point_2d": [30]', "null", "true", "1e999", "0",
    "999999999999999999999", "-0.0", "B", "A. chair", "<|im_start|>", "<|image_pad|>", "<image>", "\ud800", "\u202e",
    "\x00", "门", "👍", "{image}", "{error}", "%s",
]  # fmt: skip
ALPHABET = string.printable + "äß门\ud800\x00\u2028"


def pieces(rng: random.Random) -> str:
    return "".join(rng.choices(PIECES, k=rng.randint(0, 25)))


def noise(rng: random.Random) -> str:
    return "".join(rng.choices(ALPHABET, k=rng.randint(0, 120)))


def mutated(rng: random.Random) -> str:
    """A real reply with characters removed, replaced, doubled or grammar pieces put in."""
    text = rng.choice(REAL)
    for _ in range(rng.randint(0, 4)):
        at, end = sorted(rng.randint(0, len(text)) for _ in range(2))
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:at] + text[min(end, at + 8) :]
        elif kind == 1:
            text = text[:at] + rng.choice(ALPHABET) + text[at + 1 :]
        elif kind == 2:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind == 3:
            text = text[:end] + text[at:]
        else:
            text = text.replace(str(rng.randint(0, 9)), str(rng.randint(-5, 300)))
    return text[:20_000]


def reply_text(rng: random.Random) -> str:
    return rng.choices((mutated, pieces, noise), weights=(6, 3, 1))[0](rng)


@dataclass
class Tally:
    replies: int = 0
    endings: Counter = field(default_factory=Counter)
    parsed: Counter = field(default_factory=Counter)


def play(seed: int, count: int) -> Tally:
    """Play `count` replies through as many episodes as they fill. Raises AssertionError for an episode that does not
    end by name; exceptions of the parser and the episode pass through."""
    rng = random.Random(seed)
    profile = default_profile()
    tally = Tally()
    examples = [make_example("one", [(168, 168)]), make_example("three", [(168, 112), (196, 28), (112, 112)])]
    while tally.replies < count:
        limits = Limits(rng.randint(1, 10), rng.randint(1, 12), rng.randint(1, 6), rng.random() < 0.5)
        episode = Episode(rng.choice(examples), profile, limits)
        text = ""
        for _ in range(limits.calls):
            text = text if rng.random() < 0.1 else reply_text(rng)  # models do repeat themselves
            finish = rng.choices(list(FinishReason), weights=(50, 2, 1))[0]
            tally.replies += 1
            tally.parsed[type(parse_reply(text)).__name__] += 1
            step = episode.advance(Reply(text, finish))
            if isinstance(step, Done):
                break
        assert episode.done is not None, "an episode must end within its calls"
        assert isinstance(episode.done.stop_reason, StopReason)
        assert len(episode.scene.nodes) <= max(limits.images, len(episode.example.frames))
        tally.endings[episode.done.stop_reason.value] += 1
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()
    tally = play(args.seed, args.count)
    seconds = time.perf_counter() - started
    print(f"{tally.replies} replies in {seconds:.0f} s: {tally.replies / seconds:.0f} a second, no exception")
    print("parsed as", dict(tally.parsed))
    print("endings", dict(tally.endings))


if __name__ == "__main__":
    main()
