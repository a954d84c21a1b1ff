"""The RL file for EasyR1's trainer: the questions that verl's dataset chooses, as rows that the rollout makes its own
prompts of."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (EasyR1's verl is not that of the environment that is checked)
from __future__ import annotations

import os
from typing import Any

import torch
from omegaconf import OmegaConf
from torch.utils.data import Dataset, RandomSampler, SequentialSampler
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.utils.dataset import collate_fn

from vilasr.tasks import DataError
from vilasr.training.easyr1.run_settings import RunSettings
from vilasr.training.grpo.dataset import RLDataset


class Rows(Dataset):
    """What EasyR1's trainer takes of a question. It takes its tensors only to put the rollout's in their place."""

    def __init__(self, questions: RLDataset) -> None:
        self._questions = questions

    def __len__(self) -> int:
        return len(self._questions)

    def __getitem__(self, number: int) -> dict[str, Any]:
        item = self._questions.items[number]
        one = torch.zeros(1, dtype=torch.long)
        return {
            "input_ids": one,
            "attention_mask": one,
            "position_ids": one,
            "raw_prompt_ids": [],
            "multi_modal_data": {"images": [], "item": item.to_json()},
            "ground_truth": str(item.example.answer),
        }


def make_dataset(config: Any, model: str, tokenizer: Any, settings: RunSettings, *, held_out: bool) -> Rows:
    """`config` is EasyR1's section `data`; its `val_files` may be empty. Raises DataError."""
    keys = {
        "train_files": config.train_files,
        "val_files": config.val_files or None,
        "held_out": settings.held_out,
        "data_root": settings.data_root,
        "profile": settings.profile,
        "max_pixels": settings.max_pixels,
        "model": model,
        "max_prompt_length": config.max_prompt_length,
        "filter_overlong_prompts": config.filter_overlong_prompts,
    }
    files = keys["val_files"] if held_out else keys["train_files"]
    return Rows(RLDataset(files, tokenizer, OmegaConf.create(keys)))


def create_dataloader(config: Any, tokenizer: Any, processor: Any) -> tuple[StatefulDataLoader, StatefulDataLoader]:
    """As EasyR1's, which this takes the place of. Raises DataError."""
    settings = RunSettings.from_environment(os.environ)
    model = tokenizer.name_or_path
    train = make_dataset(config, model, tokenizer, settings, held_out=False)
    validation = make_dataset(config, model, tokenizer, settings, held_out=True)
    size = config.mini_rollout_batch_size or config.rollout_batch_size
    if len(train) < size:
        raise DataError(f"data.rollout_batch_size: {size} questions a step, and {len(train)} to train on")
    if config.shuffle:
        chance = torch.Generator()
        chance.manual_seed(config.seed)
        sampler: Any = RandomSampler(data_source=train, generator=chance)
    else:
        sampler = SequentialSampler(data_source=train)
    most = len(validation) if config.val_batch_size == -1 else config.val_batch_size
    common: dict[str, Any] = {"num_workers": 0, "collate_fn": collate_fn, "pin_memory": False}
    return (
        StatefulDataLoader(dataset=train, batch_size=size, sampler=sampler, drop_last=True, **common),
        StatefulDataLoader(dataset=validation, batch_size=most, shuffle=False, drop_last=False, **common),
    )
