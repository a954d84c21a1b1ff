"""The tokens of an episode in verl: budgets, cut replies, failures."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace

import pytest

from tests.golden import answer, boxes, make_example
from tests.training.grpo.scripted import Server, output
from vilasr.engines.chat import ChatTokens
from vilasr.episode import Episode, Limits
from vilasr.prompts import default_profile
from vilasr.runner import run_episode
from vilasr.traces import StopReason
from vilasr.training.grpo.rollout import Rollout, TokenLimits, VerlEngine

pytestmark = pytest.mark.engine

MANY = TokenLimits(prompt=20_000, response=20_000, turn=1024)
DRAW = boxes((1, [20, 30, 90, 100], "chair"))


@pytest.fixture(scope="module")
def parts(nano):
    from transformers import AutoProcessor, AutoTokenizer
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    tokenizer, processor = AutoTokenizer.from_pretrained(nano), AutoProcessor.from_pretrained(nano)
    builder = create_continuous_token_builder(tokenizer, hf_model_type="qwen2_5_vl", processor=processor)
    return SimpleNamespace(builder=builder, chat=ChatTokens(tokenizer))


@pytest.fixture
def play(parts):
    """play(replies, limits) -> (trace, rollout, server): an episode on one image of 168 x 168 (36 tokens)."""

    def play(replies, limits=MANY, logprobs=True, **episode):
        server = Server([reply if isinstance(reply, Exception) else speak(parts.chat, reply) for reply in replies])
        sampling = {"temperature": 1.0, "logprobs": logprobs}
        engine = VerlEngine(parts.builder, server.generate, parts.chat, limits, sampling)
        session = engine.session(0)
        example = make_example("one", [(168, 168)])
        trace = asyncio.run(run_episode(Episode(example, default_profile(), Limits(**episode)), engine, session))
        assert_whole(session.state, parts.chat)
        return trace, session.state, server

    return play


def speak(chat, reply):
    """Text with its end of turn; anything else as it is."""
    return output([*chat.text(reply), chat.end]) if isinstance(reply, str) else reply


def assert_whole(rollout: Rollout, chat: ChatTokens) -> None:
    """Whatever happened: as many masks and log-probabilities as tokens, and every image with all of its tokens."""
    after = len(rollout.ids) - rollout.prompt
    assert len(rollout.mask) == after
    assert rollout.logprobs is None or len(rollout.logprobs) == after
    runs = [len(list(run)) for token, run in itertools.groupby(rollout.ids) if token == chat.image_pad]
    assert runs == [image.width * image.height // 28**2 for image in rollout.images]


def test_limits_of_a_reply(play):
    """turn tokens at first, then what is left of the response."""
    _, rollout, server = play([DRAW, answer()], TokenLimits(20_000, 250, 128))
    first, second = (request["sampling_params"]["max_tokens"] for request in server.asked)
    said = rollout.mask.index(0)
    shown = rollout.mask[said:].index(1)
    assert first == 128
    assert second == min(128, 250 - said - shown) < 128


@pytest.mark.parametrize("room", [0, 1])
def test_stops_before_an_image_would_not_fit(play, room):
    """The same episode with a response one token too short for the drawn image and a reply, and just long enough."""
    _, whole, _ = play([DRAW, answer()])
    said = whole.mask.index(0)
    shown = whole.mask[said:].index(1)
    short = TokenLimits(20_000, said + shown + room, 1024)
    if room == 0:
        trace, rollout, server = play([DRAW], short)
        assert trace.stop_reason is StopReason.CONTEXT_OVERFLOW
        assert "no room for a reply" in trace.detail
        assert len(rollout.images) == 1, "the drawn image is left out whole"
        assert rollout.mask == [1] * said
        assert not server.left
    else:
        _, rollout, server = play(
            [
                DRAW,
                output([whole.ids[-1]]),
            ],
            short,
            errors=1,
        )
        assert len(rollout.images) == 2
        assert server.asked[1]["sampling_params"]["max_tokens"] == 1


def test_a_question_that_is_too_long_is_not_asked(play):
    trace, rollout, server = play([answer()], TokenLimits(100, 1000, 128))
    assert trace.stop_reason is StopReason.CONTEXT_OVERFLOW
    assert "more than the 100 of a prompt" in trace.detail
    assert rollout.ids == []
    assert server.asked == []


def test_a_forbidden_token_is_cut_off_and_ends_the_episode(play, parts):
    ids = parts.chat.text("<think> I see")
    trace, rollout, server = play([output([*ids, parts.chat.image_pad])])
    assert trace.stop_reason is StopReason.FORBIDDEN_TOKEN
    assert rollout.ids[rollout.prompt :] == ids
    assert rollout.mask == [1] * len(ids)
    assert parts.chat.forbidden < set(server.asked[0]["sampling_params"]["stop_token_ids"])


def test_control_words_in_plain_letters_are_no_control_tokens(play, parts):
    """A model may spell <|image_pad|> in ordinary tokens."""
    trace, rollout, _ = play(["<|im_start|><|vision_start|><|image_pad|>", answer()], errors=5)
    assert trace.stop_reason is StopReason.ANSWERED
    assert len(rollout.images) == 1


def test_an_empty_reply_is_an_error_the_model_is_told_of(play, parts):
    trace, rollout, _ = play([output([parts.chat.end]), answer()])
    assert trace.stop_reason is StopReason.ANSWERED
    assert trace.tool_errors == 1
    assert rollout.mask[0] == 1, "the end of the turn was sampled"


def test_a_reply_cut_at_its_limit_gets_its_end_from_us(play, parts):
    cut = parts.chat.text("<think> on and on")
    trace, rollout, _ = play([output(cut), answer()])
    assert trace.steps[0].error == "truncated"
    after = rollout.ids[rollout.prompt + len(cut) :]
    assert after[:2] == [parts.chat.end, *parts.chat.text("\n")]
    assert rollout.mask[: len(cut) + 2] == [1] * len(cut) + [0, 0]


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        (RuntimeError("the engine is gone"), "RuntimeError: the engine is gone"),
        (output([5, 6], stop_reason="aborted"), "aborted"),
        (output([5, 6]).model_copy(update={"log_probs": None}), "no log-probability"),
    ],
)
def test_engine_failures_end_this_episode_by_name(play, reply, detail):
    trace, rollout, _ = play([DRAW, reply])
    assert trace.stop_reason is StopReason.ENGINE_ERROR
    assert detail in trace.detail
    assert len(rollout.images) == 2


def test_ten_images_in_one_turn(play):
    """More marks than images: an error the model is told of; the episode goes on."""
    many = boxes(*((i, [20, 30, 90, 100], f"o{i}") for i in range(1, 11)))
    trace, rollout, _ = play([many, answer()])
    assert trace.stop_reason is StopReason.ANSWERED
    assert len(rollout.images) == 1


def test_without_log_probabilities(play):
    _, rollout, _ = play([DRAW, answer()], logprobs=False)
    assert rollout.logprobs is None


def test_one_server_for_all_turns(play):
    """verl routes by it, and the server's prefix cache holds the earlier turns."""
    _, rollout, server = play([DRAW, answer()])
    assert {request["request_id"] for request in server.asked} == {rollout.request}
    assert [len(request["image_data"]) for request in server.asked] == [1, 2]
    assert rollout.versions == [0, 0]
