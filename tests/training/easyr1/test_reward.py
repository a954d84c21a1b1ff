"""What stands in the place of EasyR1's reward manager."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tests.golden import golden_traces
from vilasr.reward import reward
from vilasr.traces import StopReason
from vilasr.training.grpo.record import Record

pytestmark = pytest.mark.engine

torch = pytest.importorskip("torch")
from vilasr.training.easyr1.batch import REWARD, SCORES  # noqa: E402 (needs torch)
from vilasr.training.easyr1.reward import RecordReward  # noqa: E402

PROMPT = 4


def data(masks: list[list[int]], lengths: list[int], values: list[float], scores: list[dict] | None = None):
    """As EasyR1 hands it over: `lengths` are the tokens after each question."""
    width = len(masks[0])
    attention = [[0, 1, 1, 1] + [int(k < length) for k in range(width)] for length in lengths]
    objects = {
        REWARD: np.array(values, dtype=object),
        SCORES: np.array(scores or [{"acc": value} for value in values], dtype=object),
    }
    tensors = {"response_mask": torch.tensor(masks), "attention_mask": torch.tensor(attention)}
    return SimpleNamespace(batch=tensors, non_tensor_batch=objects)


@pytest.mark.parametrize(
    ("mask", "length", "at"),
    [
        ([1, 1, 1, 0, 0, 0], 3, 2),  # one reply
        ([1, 1, 0, 0, 1, 0], 5, 4),  # a late reply: neither the number of sampled tokens, nor the first gap
        ([1, 1, 0, 0, 0, 0], 5, 1),  # shown a turn after it, and not asked: the last that was sampled
        ([1, 1, 1, 1, 1, 1], 6, 5),  # full
        ([0, 0, 0, 0, 0, 0], 1, 0),  # nothing sampled: the last token
        ([0, 0, 0, 0, 0, 0], 4, 3),  # nothing of it trained
        ([0, 0, 0, 0, 0, 0], 6, 5),
    ],
)
def test_the_last_sampled_token(mask, length, at):
    rewards, _ = RecordReward().compute_reward(data([mask], [length], [0.75]))
    assert rewards.dtype == torch.float32
    assert rewards.tolist() == [[0.75 if k == at else 0.0 for k in range(6)]]


def test_each_row_has_its_own():
    masks = [[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    rewards, numbers = RecordReward().compute_reward(data(masks, [3, 2, 1], [1.0, 0.5, 0.25]))
    assert rewards.tolist() == [[0, 0, 1.0, 0], [0, 0.5, 0, 0], [0.25, 0, 0, 0]]
    assert numbers["overall"] == [1.0, 0.5, 0.25]


def test_numbers_of_golden_episodes():
    """By the evaluation's own function; every name for every row, also of one that could not be read."""
    golden = golden_traces()
    records = [Record(one.example, one.run().trace()) for one in golden] + [Record(golden[0].example, None, "gone")]
    values = [record.reward.total for record in records]
    scores = [record.scores() for record in records]
    width = 5
    masks = [[1] * width for _ in records]
    rewards, numbers = RecordReward(None, None).compute_reward(data(masks, [width] * len(records), values, scores))
    expected = [reward(one.example, one.run().trace()) for one in golden]
    assert len({one.total for one in expected}) > 1
    assert rewards.sum(-1).tolist() == [*(one.total for one in expected), 0.0]
    assert numbers["overall"] == [*(one.total for one in expected), 0.0]
    assert numbers["acc"] == [*(one.accuracy for one in expected), 0.0]
    assert numbers["format"] == [*(one.format for one in expected), 0.0]
    assert set(numbers) >= {"overall", "acc", "format", "boxes", *(f"stop_{reason}" for reason in StopReason)}
    assert {len(found) for found in numbers.values()} == {len(records)}
    assert numbers["stop_input_error"] == [0.0] * len(golden) + [1.0]
    assert type(numbers) is dict, "it travels between processes"


def test_what_easyr1_makes_of_the_constructor():
    assert RecordReward(config=object(), tokenizer=object()).compute_reward
