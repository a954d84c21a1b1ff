"""Conformance without EasyR1: the golden traces are the same episodes as in verl's rollout."""

from __future__ import annotations

import math

import pytest

from tests.golden import golden_traces
from tests.training.easyr1.scripted import Cut, ScriptedSteps, item_of, load_chat, scrambled
from tests.training.grpo.test_conformance import builder, model, rollouts  # noqa: F401 (verl's, as fixtures)
from vilasr.episode import Limits
from vilasr.prompts import default_profile
from vilasr.reward import reward
from vilasr.training.easyr1.batch import grids
from vilasr.training.easyr1.play import Played, Settings, play
from vilasr.training.grpo.rollout import TokenLimits

pytestmark = pytest.mark.engine

GOLDEN = golden_traces()
NAMES = [golden.name for golden in GOLDEN]


@pytest.fixture(scope="module")
def played(nano, tmp_path_factory) -> dict[str, Played]:
    """All of them side by side, twice each, on an engine where nothing ends in order. The second of each."""
    chat, folder = load_chat(nano), tmp_path_factory.mktemp("golden")
    limits = {golden.example.id: golden.limits for golden in GOLDEN}

    def replies(number: int, turn: int):
        golden = GOLDEN[number // 2]
        text = golden.replies[turn]
        return Cut(text) if turn in golden.truncated else text

    items = [item_of(golden.example, folder, held_out=True) for golden in GOLDEN]
    settings = Settings(default_profile(), TokenLimits(prompt=20_000, response=20_000, turn=1024), 0.0, "golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Limits, "of", staticmethod(lambda profile, example, *, stop_on_repeat: limits[example.id]))
        made = play(items, 2, ScriptedSteps(chat, replies, **scrambled("golden")), chat, settings)
    for first, second in zip(made[::2], made[1::2], strict=True):
        assert (first.tokens.ids, first.tokens.mask) == (second.tokens.ids, second.tokens.mask)
    return dict(zip(NAMES, made[1::2], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_verls(name, played, rollouts):  # noqa: F811
    verl, _ = rollouts[name]
    ours = played[name].tokens
    assert ours.ids == verl.ids
    assert ours.prompt == verl.prompt
    assert ours.mask == verl.mask


@pytest.mark.parametrize("name", NAMES)
def test_log_probabilities_are_verls(name, played, rollouts):  # noqa: F811
    """Both engines give the n-th reply's tokens -1 - n. Where nothing was sampled verl has 0, we none."""
    verl, _ = rollouts[name]
    ours = played[name].tokens
    assert len(ours.logprobs) == len(verl.logprobs)
    assert [math.isnan(value) for value in ours.logprobs] == [mark == 0 for mark in verl.mask]
    assert [0.0 if math.isnan(value) else value for value in ours.logprobs] == verl.logprobs


@pytest.mark.parametrize("name", NAMES)
def test_images_are_verls(name, played, rollouts, model):  # noqa: F811
    verl, _ = rollouts[name]
    ours = played[name].tokens.images
    assert [(image.size, image.tobytes()) for image in ours] == [(image.size, image.tobytes()) for image in verl.images]
    processed = model.processor.image_processor(images=ours, return_tensors="pt")["image_grid_thw"]
    assert grids(ours, 14).tolist() == processed.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_rewards_are_verls_and_the_evaluations(name, played, rollouts):  # noqa: F811
    golden = GOLDEN[NAMES.index(name)]
    _, verl = rollouts[name]
    ours = played[name].record
    assert ours.reward == verl.reward == reward(golden.example, golden.run().trace())
    assert ours.scores() == verl.scores()
    assert ours.trace == verl.trace


def test_they_are_unlike_each_other(played):
    assert len({tuple(one.tokens.ids) for one in played.values()}) == len(NAMES)
    assert len({one.record.reward.total for one in played.values()}) > 1
    assert any(0 in one.tokens.mask for one in played.values())
