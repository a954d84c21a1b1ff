"""In the place of EasyR1's reward manager, which reads the text between the first token and as many as were sampled:
text of the environment, and no late turn. Here the rows bring their reward, by the evaluation's own functions."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch

from vilasr.training.easyr1.batch import REWARD, SCORES


class RecordReward:
    """With the constructor and the method that EasyR1 calls."""

    def __init__(self, config: Any = None, tokenizer: Any = None) -> None:
        pass

    def compute_reward(self, data: Any) -> tuple[torch.Tensor, dict[str, list[float]]]:
        """(B, R): each row's reward on its last sampled token, or its last token where none was; and the numbers of
        `vilasr.training.grpo.record.Record.scores`, with `overall`, the name that EasyR1 filters by."""
        mask = data.batch["response_mask"]
        attention = data.batch["attention_mask"][:, -mask.shape[1] :]
        rewards = torch.zeros(mask.shape, dtype=torch.float32)
        numbers: dict[str, list[float]] = defaultdict(list)
        for row, (value, scores) in enumerate(
            zip(data.non_tensor_batch[REWARD], data.non_tensor_batch[SCORES], strict=True)
        ):
            tokens = mask[row] if mask[row].any() else attention[row]
            rewards[row, int(tokens.nonzero().max())] = value
            for name, number in {"overall": value, **scores}.items():
                numbers[name].append(number)
        return rewards, dict(numbers)
