"""From an item to what verl gets of its episode."""

from __future__ import annotations

import asyncio
import json
import time
from pkgutil import resolve_name
from types import SimpleNamespace

import pytest

from tests.golden import answer, boxes, make_example
from tests.training.grpo.scripted import Server, output
from vilasr.results import parse_row
from vilasr.traces import StopReason
from vilasr.training.grpo.item import Item

pytestmark = pytest.mark.engine

DRAW = boxes((1, [20, 30, 90, 100], "chair"))
NEXT = boxes((2, [20, 30, 90, 100], "chair"))  # the same mark again, on the drawn image


@pytest.fixture(scope="module")
def parts(nano, profile):
    from transformers import AutoProcessor, AutoTokenizer
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    from vilasr.engines.chat import ChatTokens

    tokenizer, processor = AutoTokenizer.from_pretrained(nano), AutoProcessor.from_pretrained(nano)
    builder = create_continuous_token_builder(tokenizer, hf_model_type="qwen2_5_vl", processor=processor)
    return SimpleNamespace(tokenizer=tokenizer, builder=builder, chat=ChatTokens(tokenizer), profile=profile)


@pytest.fixture
def loop(parts):
    """loop(replies, ...) -> a DrawingAgentLoop of verl's, but for Ray: its server and configuration."""
    from vilasr.training.grpo.agent_loop import DrawingAgentLoop, Settings
    from vilasr.training.grpo.rollout import TokenLimits

    def make(*replies, limits=TokenLimits(20_000, 20_000, 1024)):
        said = [output([*parts.chat.text(r), parts.chat.end]) if isinstance(r, str) else r for r in replies]
        made = DrawingAgentLoop.__new__(DrawingAgentLoop)
        made.tokenizer = parts.tokenizer
        made.continuous_token_builder = parts.builder
        made.server_manager = Server(said)
        made.settings = Settings(parts.profile, limits, beta=0.0)
        return made

    return make


@pytest.fixture
def item(tmp_path):
    def make(held_out: bool = False, image: str = "one.png", **fields) -> str:
        example = make_example("one", [(168, 168)], **fields)
        example.frames[0].save(tmp_path / "one.png")
        plain = type(example)(**{**vars(example), "frames": (), "image_paths": (image,)})
        return Item(plain, str(tmp_path / "rl.jsonl"), held_out=held_out).to_json()

    return make


def run(loop, item: str, step: int = 7):
    return asyncio.run(loop.run({"temperature": 1.0, "logprobs": True}, item=item, session_id=3, global_steps=step))


def consistent(made) -> None:
    """What verl relies on, whatever the ending."""
    assert made.prompt_ids
    assert len(made.response_ids) == len(made.response_mask) == len(made.response_logprobs) > 0
    assert made.multi_modal_data["images"]
    extra = made.extra_fields
    assert isinstance(extra["min_global_steps"], int)
    assert set(extra["reward_extra_info"]) >= {"acc", "format", "stop_answered"}
    assert made.as_dict()["rm_scores"].sum() == made.reward_score


def test_a_right_answer(loop, item):
    made = run(loop(DRAW, answer("B")), item())
    consistent(made)
    assert made.reward_score == 1.0
    assert made.num_turns == 4
    assert len(made.multi_modal_data["images"]) == 2
    row = json.loads(made.extra_fields["row"])
    assert (row["stop_reason"], row["sample"], row["reward"]["total"]) == ("answered", 3, 1.0)
    assert row["usage"]["sampled"] == sum(made.response_mask)
    assert parse_row(row).trace.boxes == 1


def test_a_missing_image(loop, item):
    made = run(loop(), item(image="gone.png"))
    consistent(made)
    assert made.reward_score == 0.0
    assert made.response_mask == [0]
    assert (made.extra_fields["min_global_steps"], made.extra_fields["max_global_steps"]) == (6, 6)
    row = json.loads(made.extra_fields["row"])
    assert row["stop_reason"] == StopReason.INPUT_ERROR
    assert "gone.png" in row["detail"]


def test_a_question_too_long(loop, item):
    from vilasr.training.grpo.rollout import TokenLimits

    made = run(loop(limits=TokenLimits(50, 100, 10)), item())
    consistent(made)
    assert made.response_mask == [0]
    assert json.loads(made.extra_fields["row"])["stop_reason"] == StopReason.CONTEXT_OVERFLOW


def test_nothing_of_an_episode_that_the_engine_failed_is_trained(loop, item):
    made = run(loop(DRAW, RuntimeError("gone")), item())
    consistent(made)
    assert set(made.response_mask) == {0}
    assert made.reward_score == 0.0
    assert json.loads(made.extra_fields["row"])["usage"]["sampled"] > 0


def test_a_forbidden_token_at_once(loop, item, parts):
    made = run(loop(output([parts.chat.image_pad])), item())
    consistent(made)
    assert made.response_mask == [0]
    assert parts.chat.image_pad not in made.response_ids


def test_a_defect_of_ours_ends_the_episode_alone(loop, item, monkeypatch):
    from vilasr.episode import Episode

    monkeypatch.setattr(Episode, "advance", lambda self, reply: 1 // 0)
    made = run(loop(DRAW), item())
    consistent(made)
    row = json.loads(made.extra_fields["row"])
    assert row["stop_reason"] == StopReason.ENGINE_ERROR
    assert "ZeroDivisionError" in row["detail"]


def test_a_repeated_mark_ends_training_episodes_and_not_validation(loop, item):
    trained = run(loop(DRAW, NEXT), item())
    assert json.loads(trained.extra_fields["row"])["stop_reason"] == StopReason.REPEATED_MARK
    assert trained.reward_score == 0.0
    validated = run(loop(DRAW, NEXT, answer("B")), item(held_out=True))
    assert json.loads(validated.extra_fields["row"])["stop_reason"] == StopReason.ANSWERED
    assert validated.reward_score == 1.0


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "calls"),
    [
        ("generating", "tests.training.grpo.scripted.Server", "generate", 2),
        ("building", "vilasr.training.grpo.rollout.VerlEngine", "_add", 2),
        ("drawing", "vilasr.drawing.scene.Scene", "draw", 1),
        ("drawing", "vilasr.episode.Episode", "advance", 2),
        ("reward", "vilasr.training.grpo.record", "reward", 1),
    ],
)
def test_seconds_are_counted_where_they_are_spent(loop, item, monkeypatch, name, owner, attribute, calls):
    original = getattr(resolve_name(owner), attribute)

    def slow(*args, **kwargs):
        time.sleep(0.3)
        return original(*args, **kwargs)

    monkeypatch.setattr(f"{owner}.{attribute}", slow)
    seconds = run(loop(DRAW, answer("B")), item()).extra_fields["seconds"]
    assert 0.3 * calls <= seconds.pop(name) < 0.3 * calls + 0.3
    assert len(seconds) == 3
    assert all(0 < others < 0.3 for others in seconds.values())


def test_what_never_began_took_no_time(loop, item):
    seconds = run(loop(), item(image="gone.png")).extra_fields["seconds"]
    assert seconds.pop("reward") < 0.1
    assert seconds == {"generating": 0, "building": 0, "drawing": 0}
