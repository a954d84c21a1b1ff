"""The vLLM engine. The model is the nano one with random weights."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest

from tests.conftest import run_tool
from tests.engines.asking import together, user
from tests.golden import golden_traces, picture
from vilasr.engines import Sampling, Session, Stopped
from vilasr.engines.vllm_engine import VllmEngine
from vilasr.episode import Episode, Limits
from vilasr.images import SizeRule
from vilasr.messages import FinishReason, Message, Picture, Reply
from vilasr.prompts import default_profile
from vilasr.runner import run_episode
from vilasr.tasks import DataError
from vilasr.traces import StopReason

GOLDEN = golden_traces()
WARM = Sampling(temperature=1.0, turn_tokens=48)
HOT = Sampling(temperature=2.0, turn_tokens=48)  # the hottest that vLLM takes


def ask(engine: VllmEngine, count: int, text: str = "Which object is nearer?") -> list[tuple[Session, Any]]:
    """The first replies of `count` sessions with seeds of their own."""
    sessions = [engine.session(1000 + 50 * n) for n in range(count)]
    outcomes = asyncio.run(together(*(engine.reply(s, user(f"{n}. {text}")) for n, s in enumerate(sessions))))
    for outcome in outcomes:
        assert isinstance(outcome, Reply), outcome
    return list(zip(sessions, outcomes, strict=True))


@pytest.mark.engine
def test_sampled_ids_are_appended_unchanged(vllm, monkeypatch):
    """Also where they are not what a tokenizer makes of their text; and what vLLM is given next holds them."""
    monkeypatch.setattr(vllm, "sampling", HOT)
    retokenized_differently = 0
    for session, first in ask(vllm, 8):
        if first.finish_reason is FinishReason.FORBIDDEN_TOKEN:
            continue
        ids = session.state.ids
        sampled = list(first.token_ids)
        opening = ids[: len(ids) - len(sampled)]
        assert ids[len(opening) :] == sampled
        assert opening[-1] == vllm.chat.text("assistant\n")[-1]
        retokenized_differently += vllm.chat.text(first.text) != [t for t in sampled if t != vllm.chat.end]
        before = list(ids)
        second = asyncio.run(vllm.reply(session, user("Go on.", images=1)))
        assert session.state.ids[: len(before)] == before
        following = vllm.chat.following(user("Go on.", images=1), sampled[-1] == vllm.chat.end)
        assert session.state.ids == [*before, *following, *second.token_ids]
        seen = asyncio.run(vllm.as_seen(session))
        assert seen.ids[: len(before)] == before
        assert len(seen.ids) == len(session.state.expanded) == len(session.state.ids) + (56 // 28) ** 2 - 1
        assert session.usage.turns == 2
        assert session.usage.sampled == len(sampled) + len(second.token_ids)
    assert retokenized_differently


@pytest.mark.engine
def test_logprobs_are_those_of_the_sampled_ids(vllm, nano, monkeypatch):
    """One a token, equal to a forward pass of transformers over the same ids, up to bfloat16."""
    import torch
    from transformers import AutoModelForImageTextToText

    monkeypatch.setattr(vllm, "sampling", WARM)
    model = AutoModelForImageTextToText.from_pretrained(nano, dtype=torch.float32)
    compared = 0
    for session, reply in ask(vllm, 4):
        assert len(reply.logprobs) == len(reply.token_ids)
        assert all(math.isfinite(value) and value <= 0 for value in reply.logprobs)
        ids = torch.tensor([session.state.ids])
        with torch.no_grad():
            scores = torch.log_softmax(model(input_ids=ids).logits[0], dim=-1)
        start = ids.shape[1] - len(reply.token_ids)
        for offset, (token, logprob) in enumerate(zip(reply.token_ids, reply.logprobs, strict=True)):
            assert scores[start + offset - 1, token].item() == pytest.approx(logprob, abs=0.2)
            compared += 1
    assert compared > 40


@pytest.mark.engine
def test_the_token_limit_of_a_turn(vllm, monkeypatch):
    monkeypatch.setattr(vllm, "sampling", Sampling(turn_tokens=5))
    session = vllm.session(0)
    reply = asyncio.run(vllm.reply(session, user()))
    assert (reply.finish_reason, len(reply.token_ids)) == (FinishReason.LENGTH, 5)
    assert not session.state.turn_ended
    asyncio.run(vllm.reply(session, user("Go on.")))
    assert session.state.ids.count(vllm.chat.end) == 4, "system, user, the cut turn, user"


def filled(vllm: VllmEngine, room: int) -> tuple[Session, list[Message]]:
    """A session and the message after which `room` tokens are free."""
    words = 1
    while True:
        session = vllm.session(0)
        vllm.extend(session, user(" the" * words))
        left = vllm.context - len(session.state.expanded)
        if left == room:
            return vllm.session(0), user(" the" * words)
        words += left - room
        assert words > 0, "the word is one token"


@pytest.mark.engine
def test_the_end_of_the_context(vllm):
    """The last reply is cut to the room there is; a prompt that leaves none ends the session, not the engine."""
    session, messages = filled(vllm, room=3)
    reply = asyncio.run(vllm.reply(session, messages))
    assert (reply.finish_reason, len(reply.token_ids)) == (FinishReason.LENGTH, 3)
    outcome = asyncio.run(vllm.reply(session, user("Go on.")))
    assert isinstance(outcome, Stopped)
    assert outcome.reason is StopReason.CONTEXT_OVERFLOW
    assert "context of 8192" in outcome.detail
    session, messages = filled(vllm, room=0)
    assert asyncio.run(vllm.reply(session, messages)).reason is StopReason.CONTEXT_OVERFLOW
    session, messages = filled(vllm, room=1)
    assert len(asyncio.run(vllm.reply(session, messages)).token_ids) == 1


@pytest.mark.engine
def test_images_count_towards_the_context(vllm):
    session = vllm.session(0)
    large = Message("user", tuple(Picture(i + 1, picture(560, 560, 0)) for i in range(21)))
    outcome = asyncio.run(vllm.reply(session, [large]))
    assert isinstance(outcome, Stopped)
    assert outcome.reason is StopReason.CONTEXT_OVERFLOW


@pytest.mark.engine
def test_a_turn_is_cut_before_a_forbidden_token(vllm, monkeypatch):
    monkeypatch.setattr(vllm, "sampling", HOT)
    cut = 0
    for session, reply in ask(vllm, 96):
        assert not vllm.chat.forbidden & set(reply.token_ids)
        assert "<|image_pad|>" not in reply.text
        assert len(reply.logprobs) == len(reply.token_ids)
        if reply.finish_reason is FinishReason.FORBIDDEN_TOKEN:
            cut += 1
            assert len(reply.token_ids) < 48
            assert tuple(session.state.ids[len(session.state.ids) - len(reply.token_ids) :]) == reply.token_ids
            assert session.state.ids.count(vllm.chat.start) == 3, "system, user and the assistant's own"
            assert not session.state.turn_ended
            asyncio.run(vllm.as_seen(session))  # vLLM would refuse a pad without an image
    assert cut


@pytest.mark.engine
def test_the_end_of_turn_is_kept_but_not_spoken(vllm, monkeypatch):
    monkeypatch.setattr(vllm, "sampling", HOT)
    ended = 0
    for session, reply in ask(vllm, 192):
        if reply.token_ids and reply.token_ids[-1] in (vllm.chat.end, vllm.chat.end_of_text):
            ended += 1
            assert reply.finish_reason is FinishReason.STOP
            assert reply.text == vllm.chat.decode(reply.token_ids[:-1])
            assert session.state.turn_ended == (reply.token_ids[-1] == vllm.chat.end)
        assert vllm.chat.end not in reply.token_ids[:-1]
    assert ended


def play(engine: VllmEngine, numbers: Sequence[int], side_by_side: bool) -> dict[int, list[str]]:
    """The replies of some golden questions' episodes."""
    profile = default_profile()

    async def one(number: int) -> tuple[int, list[str]]:
        episode = Episode(GOLDEN[number].example, profile, Limits(calls=3))
        trace = await run_episode(episode, engine, engine.session(7000 * number))
        return number, [step.text for step in trace.steps]

    async def all_of_them() -> list[tuple[int, list[str]]]:
        if side_by_side:
            return await asyncio.gather(*map(one, numbers))
        return [await one(number) for number in numbers]

    return dict(asyncio.run(all_of_them()))


@pytest.mark.engine
@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "seeded"])
def test_episodes_do_not_depend_on_their_company(vllm, monkeypatch, temperature):
    """One at a time, all at once, and in the other order with some missing: the same replies."""
    monkeypatch.setattr(vllm, "sampling", Sampling(temperature, turn_tokens=16))
    numbers = list(range(0, len(GOLDEN), 2))
    alone = play(vllm, numbers, side_by_side=False)
    for company in (numbers, numbers[::-1][:7]):
        crowd = play(vllm, company, side_by_side=True)
        assert crowd == {number: alone[number] for number in company}
    texts = {tuple(replies) for replies in alone.values()}
    assert len(texts) == len(numbers) or temperature == 0


@pytest.mark.engine
def test_another_seed_gives_another_reply(vllm, monkeypatch):
    monkeypatch.setattr(vllm, "sampling", WARM)
    replies = [asyncio.run(vllm.reply(vllm.session(seed), user())).token_ids for seed in (1, 1, 2)]
    assert replies[0] == replies[1] != replies[2]


@pytest.mark.engine
def test_a_refused_request_ends_its_own_session_alone(vllm):
    crowd = user(images=vllm.options.max_images + 1)
    sessions = [vllm.session(n) for n in range(4)]

    async def run() -> list:
        return await together(*(vllm.reply(s, crowd if n == 2 else user()) for n, s in enumerate(sessions)))

    outcomes = asyncio.run(run())
    assert isinstance(outcomes[2], Stopped)
    assert outcomes[2].reason is StopReason.ENGINE_ERROR
    assert "42" in outcomes[2].detail, "vLLM's own words"
    assert [isinstance(outcome, Reply) for outcome in outcomes] == [True, True, False, True]
    assert isinstance(asyncio.run(vllm.reply(vllm.session(9), user())), Reply)


FAILING_STEP = """
import asyncio, sys
from vilasr.engines import EngineDied, Sampling
from vilasr.engines.vllm_engine import VllmEngine, VllmOptions
from vilasr.images import SizeRule
from vilasr.messages import Message, Text
from vllm.v1.engine.llm_engine import LLMEngine

options = VllmOptions(max_model_len=2048, max_num_seqs=2, gpu_memory_utilization=0.2)
engine = VllmEngine(sys.argv[1], SizeRule(), Sampling(turn_tokens=48), options)
step, count = LLMEngine.step, iter(range(1000))

def failing(self):
    if next(count) >= 4:
        raise RuntimeError("out of memory")
    return step(self)

LLMEngine.step = failing

async def ask(count):
    asked = (engine.reply(engine.session(n), [Message("user", (Text("Which?"),))]) for n in range(count))
    return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)

outcomes = asyncio.run(ask(5)) + asyncio.run(ask(1))
assert all(isinstance(outcome, EngineDied) for outcome in outcomes), outcomes
assert {str(outcome) for outcome in outcomes} == {"RuntimeError: out of memory"}, outcomes
asyncio.run(asyncio.wait_for(engine.aclose(), 30))
print("all were told")
"""


@pytest.mark.engine
def test_a_failing_step_ends_the_whole_engine(nano):
    """The real engine fails in its fourth step: everybody is told, nobody waits on. In a process of its own, as the
    end of one vLLM takes the process groups of another with it."""
    done = run_tool("-c", FAILING_STEP, nano)
    assert done.stdout.strip().endswith("all were told"), done.stderr[-3000:]


@pytest.mark.engine
def test_a_start_that_fails_is_told(tmp_path):
    with pytest.raises(DataError, match="nothing here: no such checkpoint folder"):
        VllmEngine(tmp_path / "nothing here", SizeRule(), Sampling())


@pytest.mark.engine
def test_seeded_sampling_of_more_prompt_than_fits_one_step(vllm, monkeypatch):
    """vLLM prefills such prompts in pieces, and on a CPU a seeded one in pieces killed the engine."""
    monkeypatch.setattr(vllm, "sampling", WARM)
    answers = ask(vllm, 8, "left right up down " * 500)
    assert sum(session.usage.prompt for session, _ in answers) > 1.5 * 8192
    assert all(isinstance(reply, Reply) for _, reply in answers)
