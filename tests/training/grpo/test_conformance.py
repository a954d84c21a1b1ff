"""Conformance: verl's rollout builds the tokens that LLaMA-Factory trains on and our vLLM session sees."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from tests.training.golden_tokens import GOLDEN, session_tokens
from tests.training.grpo.scripted import Server, output
from vilasr.engines.chat import ChatTokens
from vilasr.episode import Episode
from vilasr.prompts import default_profile
from vilasr.reward import reward
from vilasr.runner import run_episode
from vilasr.training.grpo.record import Record
from vilasr.training.grpo.rollout import Rollout, TokenLimits, VerlEngine

pytestmark = pytest.mark.engine

LIMITS = TokenLimits(prompt=20_000, response=20_000, turn=1024)


@pytest.fixture(scope="module")
def model(nano):
    from transformers import AutoProcessor, AutoTokenizer

    return SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(nano), processor=AutoProcessor.from_pretrained(nano))


@pytest.fixture(scope="module")
def builder(model):
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    return create_continuous_token_builder(model.tokenizer, hf_model_type="qwen2_5_vl", processor=model.processor)


@pytest.fixture(scope="module")
def rollouts(builder, model) -> dict[str, tuple[Rollout, Record]]:
    """Every golden trace played by a server that gives the golden replies, token by token."""
    chat = ChatTokens(model.tokenizer)

    async def play(golden) -> tuple[Rollout, Record]:
        replies = [chat.text(reply) for reply in golden.replies]
        ended = [ids if n in golden.truncated else [*ids, chat.end] for n, ids in enumerate(replies)]
        server = Server([output(ids, logprob=-1.0 - n) for n, ids in enumerate(ended)])
        engine = VerlEngine(builder, server.generate, chat, LIMITS, {"temperature": 1.0, "logprobs": True})
        session = engine.session(0)
        trace = await run_episode(Episode(golden.example, default_profile(), golden.limits), engine, session)
        assert not server.left
        return session.state, Record(golden.example, trace)

    return {name: asyncio.run(play(golden)) for name, golden in GOLDEN.items()}


@pytest.mark.parametrize("name", GOLDEN)
def test_token_ids_equal(name, rollouts, trained, vllm):
    rollout, _ = rollouts[name]
    ids, _, counted = session_tokens(vllm, GOLDEN[name])
    assert rollout.ids == ids
    assert len(rollout.ids) == counted
    assert rollout.ids + vllm.chat.text("\n") == trained[name]["ids"]  # LLaMA-Factory also ends the last turn's line


@pytest.mark.parametrize("name", GOLDEN)
def test_image_grids_equal(name, rollouts, trained, model):
    """By verl's own way from images and ids to the actor's inputs."""
    import torch
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker

    rollout, _ = rollouts[name]
    worker = SimpleNamespace(
        processor=model.processor, tokenizer=model.tokenizer, _get_mm_processor_kwargs=lambda audios: {}
    )
    given = SimpleNamespace(multi_modal_data={"images": rollout.images}, mm_processor_kwargs=None)
    inputs = AgentLoopWorker._compute_multi_modal_inputs(worker, given, torch.tensor(rollout.ids))
    assert inputs["image_grid_thw"].tolist() == trained[name]["grid"]
    pads = rollout.ids.count(ChatTokens(model.tokenizer).image_pad)
    assert pads == sum(t * h * w // 4 for t, h, w in trained[name]["grid"])


@pytest.mark.parametrize("name", GOLDEN)
def test_masks_are_the_sampled_tokens(name, rollouts, trained, vllm):
    """Every sampled token, its end of turn included; LLaMA-Factory labels the same and the newlines after them."""
    rollout, _ = rollouts[name]
    golden, newline = GOLDEN[name], vllm.chat.text("\n")
    response = rollout.ids[rollout.prompt :]
    assert len(response) == len(rollout.mask) == len(rollout.logprobs)
    sampled = [token for token, one in zip(response, rollout.mask, strict=True) if one]
    replies = [vllm.chat.text(reply) for reply in golden.replies]
    ends = [[] if number in golden.truncated else [vllm.chat.end] for number in range(len(replies))]
    assert sampled == [token for ids, end in zip(replies, ends, strict=True) for token in (*ids, *end)]
    labels = [label for label in trained[name]["labels"] if label != -100]
    assert labels == [token for ids in replies for token in (*ids, vllm.chat.end, *newline)]


@pytest.mark.parametrize("name", GOLDEN)
def test_log_probabilities_stay_with_their_tokens(name, rollouts):
    """The n-th reply's tokens were given the log-probability -1 - n; what was not sampled has 0."""
    rollout, _ = rollouts[name]
    expected, reply, inside = [], -1, False
    for one in rollout.mask:
        reply += one and not inside
        inside = bool(one)
        expected.append(-1.0 - reply if one else 0.0)
    if "" not in GOLDEN[name].replies:  # an empty one is nothing but its end of turn, counted all the same
        assert rollout.logprobs == expected
    assert [value == 0.0 for value in rollout.logprobs] == [one == 0 for one in rollout.mask]


@pytest.mark.parametrize("name", GOLDEN)
def test_rewards_equal_those_of_the_evaluation(name, rollouts):
    golden = GOLDEN[name]
    _, record = rollouts[name]
    assert record.reward == reward(golden.example, golden.run().trace())
    assert record.trace.stop_reason == golden.run().trace().stop_reason
