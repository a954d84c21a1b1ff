"""Through a server and in this process: the same episodes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines import comparing
from tests.engines.asking import together, user
from tests.engines.comparing import Watched, play, why_different, without_forbidden
from tests.engines.faulty_proxy import proxy
from tests.golden import golden_traces
from vilasr.engines import Sampling
from vilasr.engines.server import ServerEngine, ServerOptions
from vilasr.episode import Episode, Limits
from vilasr.messages import FinishReason
from vilasr.prompts import default_profile
from vilasr.tasks import load_frames, read_examples

pytestmark = pytest.mark.engine

NO_ONES_FAULT = {"retokenized", "cut character", "tie"}


def as_here(vllm) -> dict:
    """What makes vLLM show control tokens as the text they are and end a turn where `VllmEngine` does; and tell ids."""
    chat = vllm.chat
    return {
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "stop_token_ids": [chat.end, chat.end_of_text, *sorted(chat.forbidden)],
        "include_stop_str_in_output": True,
        "return_token_ids": True,
    }


@pytest.fixture(scope="module")
def tokenizer(nano: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(nano)


def episodes(mazes: Path) -> list[Episode]:
    """Mazes, and the golden questions: many images, wide and tall ones, control words."""
    profile = default_profile()
    data = mazes / "test" / "maze.json"
    questions = [load_frames(item, profile.image, data) for item in read_examples(data)[:12]]
    questions += [golden.example for golden in golden_traces()]
    return [Episode(question, profile, Limits(calls=4)) for question in questions]


def test_greedy_episodes_are_the_same(served, vllm, mazes, tokenizer):
    """Equal prompts in every turn, equal tokens, equal texts. Where an episode differs, its first difference has a
    reason that is checked."""
    import torch

    here = play(Watched(vllm), episodes(mazes))
    with proxy(served.url) as between:
        options = ServerOptions(between.url, "nano", extra_body=as_here(vllm))
        there = play(Watched(ServerEngine(options, vllm.sampling), between), episodes(mazes))
    reasons = Counter(why_different(a, b, vllm, tokenizer) for a, b in zip(here, there, strict=True))
    assert len(here) == 32
    assert sum(map(len, here)) > 100
    assert set(reasons) <= {None, *NO_ONES_FAULT}, reasons
    # On a GPU the company in a batch rounds, and for random weights any two tokens are about equally likely.
    assert reasons[None] >= (5 if torch.cuda.is_available() else 28), reasons
    assert len({turn.text for turns in here for turn in turns}) > 10, "they say different things"


def test_seeded_replies_end_the_same_way(served, vllm, monkeypatch):
    """Control tokens too: cut before a forbidden one, ended by an end of turn, at the limit. Text holds other bytes
    where a reply is cut inside a character."""
    sampling = Sampling(temperature=2.0, turn_tokens=48)
    monkeypatch.setattr(vllm, "sampling", sampling)

    def first_replies(engine: Watched) -> list:
        async def run() -> list:
            sessions = [engine.session(1000 + 50 * n) for n in range(96)]
            return await together(*(engine.reply(s, user(f"{n}. Which?")) for n, s in enumerate(sessions)))

        asyncio.run(run())
        return [turns[0] for turns in engine.turns.values()]

    here = first_replies(Watched(vllm))
    with proxy(served.url) as between:
        options = ServerOptions(between.url, "nano", extra_body=as_here(vllm))
        there = first_replies(Watched(ServerEngine(options, sampling), between))
    here, there = (sorted(turns, key=lambda turn: turn.prompt) for turns in (here, there))
    assert [turn.prompt for turn in here] == [turn.prompt for turn in there]
    same = [(a, b) for a, b in zip(here, there, strict=True) if a.sampled == without_forbidden(b.sampled, vllm.chat)]
    assert len(same) >= 90, len(same)
    assert [a.finish for a, _ in same] == [b.finish for _, b in same]
    assert [a.text.rstrip("\ufffd") for a, _ in same] == [b.text.rstrip("\ufffd") for _, b in same]
    assert {a.finish for a, _ in same} == set(FinishReason)


def test_a_tie_is_looked_up(vllm, mazes, monkeypatch):
    """What the model holds for likely after the tokens that two turns share; images included."""
    [turn, *_] = next(turns for turns in play(Watched(vllm), episodes(mazes)[:2]) if turns)
    assert turn.images
    assert not comparing._is_tie(turn, turn, vllm), "they do not differ"
    others = [replace(turn, sampled=(token, *turn.sampled[1:])) for token in range(60) if token != turn.sampled[0]]
    assert not all(comparing._is_tie(turn, other, vllm) for other in others)
    monkeypatch.setattr(comparing, "TIE", float("inf"))
    assert sum(comparing._is_tie(turn, other, vllm) for other in others) < 20, (
        "one of the twenty likeliest is the turn's"
    )
