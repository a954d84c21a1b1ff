"""Rows of EasyR1's batch, against the same made cell by cell, and against transformers' own positions."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from PIL import Image

from tests.golden import golden_traces, make_example
from vilasr.training.easyr1.play import Played
from vilasr.training.easyr1.tokens import Tokens
from vilasr.training.grpo.record import Record
from vilasr.training.grpo.rollout import TokenLimits

pytestmark = pytest.mark.engine

torch = pytest.importorskip("torch")
from vilasr.training.easyr1 import batch  # noqa: E402 (needs torch)

P, R, PAD, PATCH = 9, 12, 777, 14
TALL = Image.new("RGB", (28, 84))
WIDE = Image.new("RGB", (112, 56))


def row(prompt: int, mask: list[int], first: int = 100, images=(TALL,), name: str = "one") -> Played:
    """Ids count up from `first`; log-probabilities of sampled tokens too, from -first."""
    tokens = Tokens(None, TokenLimits(P, R, R), 28 * 28)  # type: ignore[arg-type] # shows nothing
    tokens.conversation.expanded = list(range(first, first + prompt + len(mask)))
    tokens.conversation.images = list(images)
    tokens.prompt, tokens.mask = prompt, mask
    tokens.logprobs = [-float(first + k) if one else math.nan for k, one in enumerate(mask)]
    return Played(tokens, Record(make_example(name, [(56, 56)]), None, "not read"), {"drawing": float(first)})


def rope(ids, grids):
    """Numbers that tell where they are from: 1000 a row of positions, and the number of images."""
    base = torch.arange(len(ids)) * 3 + len(grids)
    return torch.stack([base + 1000, base + 2000, base + 3000])


def slowly(played: list[Played]) -> dict[str, list]:
    """Cell by cell."""
    names = ("input_ids", "attention_mask", "response_mask", "rollout_log_probs", "position_ids")
    made: dict[str, list] = {name: [] for name in names}
    for one in played:
        ids, prompt, mask = one.tokens.ids, one.tokens.prompt, one.tokens.mask
        start = P - prompt
        cells = {name: [] for name in ("input_ids", "attention_mask")}
        positions: list[list[int]] = [[], [], [], []]
        for column in range(P + R):
            at = column - start
            inside = 0 <= at < len(ids)
            cells["input_ids"].append(ids[at] if inside else PAD)
            cells["attention_mask"].append(1 if inside else 0)
            for line in range(4):
                if at < 0:
                    value = 0
                else:
                    last = min(at, len(ids) - 1)
                    value = last if line == 0 else 3 * last + len(one.tokens.images) + 1000 * line
                    value += at - last  # counts on behind the row
                positions[line].append(value)
        for name, values in cells.items():
            made[name].append(values)
        made["position_ids"].append(positions)
        made["response_mask"].append([mask[k] if k < len(mask) else 0 for k in range(R)])
        logprobs = one.tokens.logprobs
        made["rollout_log_probs"].append([logprobs[k] if k < len(logprobs) else math.nan for k in range(R)])
    return made


def random_rows() -> list[Played]:
    chance = random.Random(0)
    return [
        row(
            chance.randint(1, P),
            [chance.randint(0, 1) for _ in range(chance.randint(1, R))],
            first=100 * (number + 1),
            images=[TALL] * chance.randint(1, 3),
        )
        for number in range(20)
    ]


@pytest.mark.parametrize(
    "played",
    [
        [row(P, [1] * R)],
        [row(1, [0])],
        [row(P, [1], 100), row(1, [1] * R, 200), row(4, [1, 1, 0, 0, 1], 300)],
        random_rows(),
    ],
    ids=["full", "least", "edges", "random"],
)
def test_tensors(played):
    made = batch.make_tensors(played, P, R, PAD, rope, PATCH)
    expected = slowly(played)
    for name, values in expected.items():
        found = made[name]
        assert found.dtype == (torch.float32 if name == "rollout_log_probs" else torch.long)
        assert torch.equal(found.nan_to_num(nan=99.0), torch.tensor(values, dtype=found.dtype).nan_to_num(nan=99.0))
    assert torch.equal(made["prompts"], made["input_ids"][:, :P])
    assert torch.equal(made["responses"], made["input_ids"][:, P:])
    assert made.keys() == {*expected, "prompts", "responses"}
    shapes = {name: tuple(value.shape)[1:] for name, value in made.items()}
    assert shapes["position_ids"] == (4, P + R)
    assert shapes["responses"] == shapes["response_mask"] == shapes["rollout_log_probs"] == (R,)


def test_a_row_by_hand():
    """3 tokens of a question, 4 that followed, one of them not sampled."""
    made = batch.make_tensors([row(3, [1, 0, 1, 1], 50)], 5, 6, 0, rope, PATCH)
    assert made["prompts"].tolist() == [[0, 0, 50, 51, 52]]
    assert made["responses"].tolist() == [[53, 54, 55, 56, 0, 0]]
    assert made["attention_mask"].tolist() == [[0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0]]
    assert made["response_mask"].tolist() == [[1, 0, 1, 1, 0, 0]]
    assert [str(value) for value in made["rollout_log_probs"][0].tolist()] == [
        *("-50.0", "nan", "-52.0", "-53.0", "nan", "nan")
    ]
    assert made["position_ids"][0].tolist() == [
        [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        [0, 0, 1001, 1004, 1007, 1010, 1013, 1016, 1019, 1020, 1021],
        [0, 0, 2001, 2004, 2007, 2010, 2013, 2016, 2019, 2020, 2021],
        [0, 0, 3001, 3004, 3007, 3010, 3013, 3016, 3019, 3020, 3021],
    ]


def test_what_is_asked_of_the_rope():
    """The row's own ids without padding, and its images' patches: time, height, width."""
    seen = []
    made = [row(3, [1, 1], 10, images=[TALL, WIDE]), row(1, [1], 40, images=[WIDE])]
    batch.make_tensors(made, P, R, PAD, lambda ids, grids: seen.append((ids, grids)) or rope(ids, grids), PATCH)
    assert [ids.tolist() for ids, _ in seen] == [[10, 11, 12, 13, 14], [40, 41]]
    assert [grids.tolist() for _, grids in seen] == [[[1, 6, 2], [1, 4, 8]], [[1, 4, 8]]]


@pytest.mark.parametrize(("prompt", "followed"), [(P + 1, 1), (1, R + 1)])
def test_a_row_that_is_too_long(prompt, followed):
    played = [row(2, [1]), row(prompt, [1] * followed, name="long")]
    with pytest.raises(ValueError, match=rf"item long: {prompt} and {followed} tokens, of {P} and {R}"):
        batch.make_tensors(played, P, R, PAD, rope, PATCH)


def test_positions_are_those_of_transformers(nano):
    """The rope is asked row by row without padding; transformers finds the same of the padded batch as a whole."""
    from transformers import AutoConfig, Qwen2_5_VLModel

    with torch.device("meta"):
        model = Qwen2_5_VLModel(AutoConfig.from_pretrained(nano))
    pad = model.config.image_token_id

    def own(ids, grids):
        kinds = (ids == pad).int()
        return model.get_rope_index(ids[None], kinds[None], image_grid_thw=grids)[0][:, 0]

    def with_images(prompt: list, followed: list, images) -> Played:
        made = row(1, [1], images=images)
        made.tokens.conversation.expanded = [*prompt, *followed]
        made.tokens.prompt, made.tokens.mask = len(prompt), [1] * len(followed)
        made.tokens.logprobs = [0.0] * len(followed)
        return made

    tall, wide = [pad] * 3, [pad] * 8
    played = [
        with_images([1, *tall, 2, *wide, 3, 4], [5, 6, *wide, 7, 8], [TALL, WIDE, WIDE]),
        with_images([1, *wide, 2], [5, *tall, 6], [WIDE, TALL]),
        with_images([1, *tall], [5], [TALL]),
    ]
    made = batch.make_tensors(played, 16, 14, 0, own, PATCH)
    grids = torch.cat([batch.grids(one.tokens.images, PATCH) for one in played])
    attention = made["attention_mask"]
    ids = made["input_ids"]
    whole, _ = model.get_rope_index(ids, (ids == pad).int(), image_grid_thw=grids, attention_mask=attention)
    inside = attention.bool()
    for line in range(3):
        assert torch.equal(made["position_ids"][:, 1 + line][inside], whole[line][inside])
    counted = (attention.cumsum(-1) - 1)[inside]
    assert torch.equal(made["position_ids"][:, 0][inside], counted)
    # by hand: one token, then the tall image of 3 rows, then one token at 1 + 3
    assert made["position_ids"][2, :, 12:17].tolist() == [
        *([0, 1, 2, 3, 4], [0, 1, 1, 1, 4], [0, 1, 2, 3, 4], [0, 1, 1, 1, 4])
    ]


def test_objects():
    golden = [golden for golden in golden_traces() if golden.name in ("one_box", "error_budget")]
    played = [row(2, [1], images=[TALL, WIDE]), row(2, [1], 200)]
    for one, source in zip(played, golden, strict=True):
        one.record = Record(source.example, source.run().trace())
    made = batch.make_objects(played, "batch")
    assert all(isinstance(value, np.ndarray) and value.dtype == object for value in made.values())
    assert all(value.shape == (2,) for value in made.values())
    assert [value["images"] for value in made["multi_modal_data"]] == [[TALL, WIDE], [TALL]]
    assert made[batch.TRAJECTORY].tolist() == ["batch-0", "batch-1"]
    assert not set(made[batch.TRAJECTORY]) & set(batch.make_objects(played, "next")[batch.TRAJECTORY])
    assert made[batch.REWARD].tolist() == [1.0, 0.0]
    assert [scores["stop_answered"] for scores in made[batch.SCORES]] == [1.0, 0.0]
    assert [scores["boxes"] for scores in made[batch.SCORES]] == [1.0, 0.0]
    assert [json.loads(line) for line in made[batch.ROW]] == [one.record.row() for one in played]
    assert made[batch.SECONDS].tolist() == [{"drawing": 100.0}, {"drawing": 200.0}]


def test_objects_of_one_row():
    """A list of one must not become an array of its contents."""
    made = batch.make_objects([row(2, [1], images=[TALL, WIDE])], "batch")
    assert made["multi_modal_data"][0] == {"images": [TALL, WIDE]}
    assert made["multi_modal_data"].shape == (1,)
