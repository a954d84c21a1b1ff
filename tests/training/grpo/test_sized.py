"""Planned episodes: exactly as many tokens, and they draw and answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.grpo.scripted import Server, output
from tests.training.grpo.sized import RIGHT, WRONG, Planned, Sized, padded, read_plan, script, texts
from tests.training.grpo.watch import Sample, Watch
from tests.training.grpo.workload import Sizes, Workload
from vilasr.drawing.parser import DrawCall, FinalAnswer, parse_reply
from vilasr.engines.chat import ChatTokens
from vilasr.prompts import Budget, load_profile

pytestmark = pytest.mark.engine

SIZES = Sizes(prompt=1024, response=4096, turn=256, typical=(120, 200), images=12, side=168)


@pytest.fixture(scope="module")
def chat(nano) -> ChatTokens:
    from transformers import AutoTokenizer

    return ChatTokens(AutoTokenizer.from_pretrained(nano))


@pytest.fixture(scope="module")
def workload(nano, chat, tmp_path_factory):
    """The folder and the plan of two steps."""
    profile = load_profile(nano / "vilasr_profile.yaml")
    profile = replace(profile, image=replace(profile.image, max_pixels=168 * 168), budget=Budget(60, 60, SIZES.images))
    folder: Path = tmp_path_factory.mktemp("sized")
    made = Workload(folder, profile, chat, SIZES, episodes=4)
    made.add(1, "typical", 2, 1)
    made.add(2, "longest", 2, 1)
    return folder, made.write()


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("right", [True, False])
def test_replies_have_exactly_the_planned_tokens_and_marks(chat, images, right):
    planned = Planned((90, 131, 257, 300), right, 0, 0, images + 3)
    replies = script(chat, planned, images)
    assert tuple(map(len, replies)) == planned.replies
    assert all(ids[-1] == chat.end and not chat.forbidden & {*ids} for ids in replies)
    parsed = [parse_reply(chat.decode(ids[:-1])) for ids in replies]
    drawn = [call for call in parsed if isinstance(call, DrawCall)]
    assert [len(call.marks) for call in drawn] == [1, 1, 1]
    assert [call.marks[0].label for call in drawn] == ["part 1", "part 2", "part 3"]
    assert [call.marks[0].index for call in drawn] == [1, 2, 3]
    assert not any(call.departures for call in drawn)
    end = parsed[-1]
    assert isinstance(end, FinalAnswer)
    assert end.answer == (RIGHT if right else WRONG)


def test_too_few_tokens_are_named(chat):
    text = texts(1, 1, True)[0]
    least = len(padded(chat, text))
    assert len(padded(chat, text, least)) == least
    with pytest.raises(ValueError, match=f"{least} tokens without a word, and 20 were planned"):
        padded(chat, text, 20)


def test_the_plan_fills_what_it_should(workload):
    folder, plan = workload
    assert read_plan(folder) == plan
    assert [name.split("-")[2] for name in plan] == ["maze", "video", "longest", "video"]
    for name, episodes in plan.items():
        assert {planned.right for planned in episodes} == {True, False}
        for planned in episodes:
            if "maze" not in name:
                assert 0.98 * SIZES.prompt < planned.prompt <= SIZES.prompt
            if "longest" in name:
                assert planned.images == SIZES.images or planned.response > 0.98 * SIZES.response
            else:
                assert all(120 <= tokens <= 200 for tokens in planned.replies)


def test_the_server_is_asked_for_exactly_so_many_tokens(chat):
    planned = Planned((100, 60), True, 0, 0, 2)
    server = Server([output([7] * 100, logprob=-2.0), output([7] * 59)])
    sized = Sized(server.generate, script(chat, planned, 1))
    sampling = {"temperature": 1.0, "max_tokens": 128, "stop_token_ids": [chat.end]}
    said = asyncio.run(sized.generate(sampling_params=sampling, prompt_ids=[1]))
    assert len(said.token_ids) == 100
    assert said.token_ids[-1] == chat.end
    assert said.log_probs == [-2.0] * 100
    asked = server.asked[0]["sampling_params"]
    assert (asked["max_tokens"], asked["min_tokens"], asked["ignore_eos"], asked["stop_token_ids"]) == (
        100, 100, True, [],
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="59 tokens were generated where 60 were planned"):
        asyncio.run(sized.generate(sampling_params=sampling, prompt_ids=[1]))


def test_a_reply_longer_than_a_turn_may_be_is_named(chat):
    sized = Sized(Server([]).generate, script(chat, Planned((100, 60), True, 0, 0, 2), 1))
    with pytest.raises(ValueError, match="100 tokens was planned where 64 are allowed"):
        asyncio.run(sized.generate(sampling_params={"max_tokens": 64}, prompt_ids=[1]))


def test_memory_is_told_by_step_and_phase(tmp_path):
    watch = Watch(0, ["0", "1"], tmp_path / "metrics.jsonl", tmp_path / "memory.jsonl")
    used = [(1024, 2048), (4096, 2048), (1024, 3072), (1024, 1024)]
    watch.samples = [Sample(10.0 * n, gpus, 0, 0, n // 2) for n, gpus in enumerate(used)]
    assert watch.ends() == [20.0]
    assert watch.peak(0, 10) == [4.0, 2.0]
    assert watch.peak(15, 30) == [1.0, 3.0]
    assert watch.peak(31, 40) == []
