"""The RL file as a dataset of verl (`data.custom_cls`): read as released, images opened when their episode begins.

Keys of `data` besides verl's own: `held_out`, `data_root`, `model`, `profile`, `max_pixels`; see
train/rl/config_grpo.yaml.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from vilasr.tasks import DataError, Example
from vilasr.training.grpo.item import Item
from vilasr.training.grpo.profile import chosen_profile
from vilasr.training.grpo.prompt_length import PromptLength
from vilasr.training.grpo.questions import each_question, files_of
from vilasr.training.grpo.split import plan_split
from vilasr.training.lengths import TokenCounter

log = logging.getLogger(__name__)

_SHOWN = 5  # questions left out that are logged one by one


class RLDataset(Dataset):
    """verl makes two: `data_files` are data.train_files, or data.val_files, which may be null. Then the validation set
    is `held_out` questions of the training files, which are not trained on; questions of given validation files are not
    trained on either. Raises DataError."""

    def __init__(
        self, data_files: Any, tokenizer: Any, config: Any, processor: Any = None, max_samples: int = -1
    ) -> None:
        self.held_out = not files_of(data_files) or data_files != config.train_files
        self.data_root = str(config.data_root) if config.get("data_root") else None
        self.left_out: Counter[str] = Counter()
        self.items = self._choose(files_of(data_files), config)
        if config.get("filter_overlong_prompts", True):
            counter = TokenCounter(tokenizer.backend_tokenizer)
            profile = chosen_profile(config.get("profile"), config.model, config.get("max_pixels"))
            fits = PromptLength(profile, counter, int(config.max_prompt_length)).why_not
            self.items = self._without(self.items, "too long", fits)
        if max_samples > 0:
            self.items = self.items[:max_samples]
        name = "validation" if self.held_out else "training"
        log.warning("%s: %d questions%s", name, len(self.items), _counts(self.left_out))
        if not self.items:
            raise DataError(f"data: no question is left for {name} of {data_files or config.train_files}")

    def _choose(self, files: Sequence[Path], config: Any) -> list[Item]:
        train = self._read(files_of(config.train_files))
        if not files_of(config.val_files):
            kept, held_out = plan_split([item.example for item in train], int(config.held_out))
            chosen = held_out if self.held_out else kept
            return [replace(train[number], held_out=self.held_out) for number in chosen]
        if self.held_out:
            return [replace(item, held_out=True) for item in self._read(files)]
        there = {_content(item.example) for item in self._read(files_of(config.val_files))}
        self.left_out.clear()
        return self._without(
            train, "in the validation set", lambda item: "" if _content(item.example) in there else None
        )

    def _read(self, files: Sequence[Path]) -> list[Item]:
        items = []
        for found in each_question(files, self.data_root):
            if isinstance(found, Item):
                items.append(found)
            else:
                self._leave_out(*found)
        return items

    def _without(self, items: list[Item], reason: str, why_not: Any) -> list[Item]:
        kept = []
        for item in items:
            why = why_not(item)
            if why is None:
                kept.append(item)
            else:
                self._leave_out(reason, f"{item.file}: item {item.example.id}: {why}" if why else "")
        return kept

    def _leave_out(self, reason: str, message: str) -> None:
        self.left_out[reason] += 1
        if message and self.left_out[reason] <= _SHOWN:
            log.warning("left out: %s", message)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> dict[str, Any]:
        item = self.items[number]
        return {
            "index": number,
            "item": item.to_json(),
            "data_source": item.example.data_type or item.example.source,
            "raw_prompt": [{"role": "user", "content": item.example.question}],  # for verl's own records
            "reward_model": {"style": "rule", "ground_truth": item.example.answer},
        }


def _content(example: Example) -> tuple[object, ...]:
    """A question by what is asked: numbers and names of files may differ."""
    return example.question, example.options, example.answer, example.image_paths


def _counts(left_out: Counter[str]) -> str:
    return "".join(f", {count} left out ({reason})" for reason, count in sorted(left_out.items()))
