"""Episodes as the rows of EasyR1's batch: questions padded on the left, what followed on the right.

B episodes, P tokens of a question, R of what follows: `prompts` (B, P), `responses` and `response_mask` (B, R),
`input_ids` and `attention_mask` (B, P + R), `position_ids` (B, 4, P + R). A row's attention mask is 1 on all its
tokens, its response mask on those that were sampled. Of the four position ids one counts the tokens, three are time,
height and width (Qwen2-VL's rotary embedding).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from vilasr.training.easyr1.play import Played

Rope = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# What the reward manager and the trainer read of a row.
REWARD, SCORES, ROW, SECONDS, TRAJECTORY = (
    f"vilasr_{name}" for name in ("reward", "scores", "row", "seconds", "trajectory")
)


def grids(images: Sequence[Any], patch: int) -> torch.Tensor:
    """(images, 3): time, height and width in patches."""
    return torch.tensor([[1, image.height // patch, image.width // patch] for image in images])


def make_tensors(
    played: Sequence[Played], prompt: int, response: int, pad: int, rope: Rope, patch: int
) -> dict[str, torch.Tensor]:
    """`rope` gives the (3, length) positions of ids (length,) with images' grids; `patch` is in pixels. Raises
    ValueError for an episode that is too long: a longer row would move all others."""
    rows, width = len(played), prompt + response
    ids = torch.full((rows, width), pad, dtype=torch.long)
    attention = torch.zeros((rows, width), dtype=torch.long)
    mask = torch.zeros((rows, response), dtype=torch.long)
    logprobs = torch.full((rows, response), float("nan"))
    positions = torch.zeros((rows, 4, width), dtype=torch.long)
    for number, one in enumerate(played):
        tokens = one.tokens
        followed = len(tokens.mask)
        if tokens.prompt > prompt or followed > response:
            raise ValueError(
                f"item {one.record.example.id}: {tokens.prompt} and {followed} tokens, of {prompt} and {response}"
            )
        first, last = prompt - tokens.prompt, prompt + followed
        sequence = torch.tensor(tokens.ids)
        ids[number, first:last] = sequence
        attention[number, first:last] = 1
        mask[number, :followed] = torch.tensor(tokens.mask)
        logprobs[number, :followed] = torch.tensor(tokens.logprobs)
        spatial = rope(sequence, grids(tokens.images, patch))
        here = torch.cat([torch.arange(last - first)[None], spatial.long()])
        positions[number, :, first:last] = here
        positions[number, :, last:] = here[:, -1:] + torch.arange(1, width - last + 1)  # as EasyR1 counts on
    return {
        "prompts": ids[:, :prompt],
        "responses": ids[:, prompt:],
        "input_ids": ids,
        "attention_mask": attention,
        "response_mask": mask,
        "position_ids": positions,
        "rollout_log_probs": logprobs,
    }


def make_objects(played: Sequence[Played], name: str) -> dict[str, np.ndarray]:
    """What a row has besides tensors. `name` begins the names of trajectories: no two batches share one."""
    return {
        "multi_modal_data": _objects([{"images": one.tokens.images} for one in played]),
        TRAJECTORY: _objects([f"{name}-{number}" for number in range(len(played))]),
        REWARD: _objects([one.record.reward.total for one in played]),
        SCORES: _objects([one.record.scores() for one in played]),
        ROW: _objects([json.dumps(one.record.row()) for one in played]),
        SECONDS: _objects([one.seconds for one in played]),
    }


def _objects(values: Sequence[Any]) -> np.ndarray:
    return np.fromiter(values, dtype=object, count=len(values))
