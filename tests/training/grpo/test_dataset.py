"""The RL file as verl's dataset: what is read, left out, held out."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from vilasr.tasks import DataError
from vilasr.training.grpo.item import Item

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def tokenizer(nano):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(nano)


@pytest.fixture
def load(mazes, nano, tokenizer):
    """load(validation=False, **keys of data) -> RLDataset over the mazes."""
    from omegaconf import OmegaConf

    from vilasr.training.grpo.dataset import RLDataset

    def load(validation: bool = False, max_samples: int = -1, **keys):
        defaults = {
            "train_files": str(mazes / "train/rl/vilasr_rl_data.jsonl"),
            "val_files": None,
            "held_out": 10,
            "data_root": None,
            "model": str(nano),
            "profile": None,
            "max_pixels": None,
            "max_prompt_length": 1024,
        }
        config = OmegaConf.create({**defaults, **keys})
        files = config.val_files if validation else config.train_files
        return RLDataset(files, tokenizer, config, max_samples=max_samples)

    return load


def records(mazes: Path) -> list[dict]:
    return [json.loads(line) for line in (mazes / "train/rl/vilasr_rl_data.jsonl").read_text().splitlines()]


@pytest.fixture
def write(mazes, tmp_path):
    """write(records) -> a file of them whose image paths work from anywhere."""

    def write(items: list, name: str = "rl.jsonl") -> str:
        folder = mazes / "train/rl"
        for item in items:
            if isinstance(item, dict) and isinstance(item.get("image_path"), list):
                item["image_path"] = [str(folder / path) for path in item["image_path"]]
        lines = [item if isinstance(item, str) else json.dumps(item) for item in items]
        text = "\n".join(lines) if name.endswith("l") else f"[{','.join(lines)}]"
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def ids(dataset) -> list[str]:
    return [item.example.id for item in dataset.items]


def test_every_question_once_in_training_or_held_out(load, mazes):
    train, held_out = load(), load(validation=True)
    assert len(held_out) == 10
    assert sorted(ids(train) + ids(held_out)) == sorted(record["id"] for record in records(mazes))
    assert {item.held_out for item in held_out.items} == {True}
    assert {item.held_out for item in train.items} == {False}
    assert ids(load(validation=True)) == ids(held_out)


def test_an_item_has_what_verl_and_the_agent_loop_need(load):
    dataset = load()
    fields = dataset[3]
    item = Item.from_json(fields["item"])
    assert item == dataset.items[3]
    assert (fields["index"], fields["data_source"]) == (3, "maze")
    assert fields["reward_model"]["ground_truth"] == item.example.answer
    assert "frames" not in fields, "no pixel before its episode begins"


def test_a_batch_goes_through_verls_own_collation(load):
    from verl.utils import tensordict_utils
    from verl.utils.dataset.rl_dataset import collate_fn

    dataset = load()
    batch = tensordict_utils.get_tensordict(collate_fn([dataset[n] for n in range(4)]))
    assert [Item.from_json(text).example.id for text in batch["item"]] == ids(dataset)[:4]


def test_json_list_as_well(load, write, mazes):
    assert len(load(train_files=write(records(mazes), "rl.json"))) == 54


def test_what_cannot_be_used_is_left_out_and_counted(load, write, mazes, caplog):
    items = records(mazes)[:20]
    items[0]["question_type"] = "riddle"
    items[1]["question_type"], items[1]["answer"] = "regression", "many"
    items[2]["question"] = "Which way? " * 2000
    with caplog.at_level(logging.WARNING):
        dataset = load(train_files=write([*items, "{broken"]), held_out=0)
    assert dict(dataset.left_out) == {"unreadable": 2, "truth unreadable": 1, "too long": 1}
    assert len(dataset) == 20 - 3
    for word in ("'riddle'", "many", "more than max_prompt_length=1024", "line 21 is not JSON"):
        assert word in caplog.text


def test_length_filter_can_be_switched_off(load, write, mazes):
    items = records(mazes)[:8]
    items[0]["question"] = "Which way? " * 2000
    assert len(load(train_files=write(items), held_out=2, filter_overlong_prompts=False)) == 6


def test_validation_files_are_never_trained_on(load, write, mazes):
    train, val = write(records(mazes), "train.jsonl"), write(records(mazes)[:6], "val.jsonl")
    kept = load(train_files=train, val_files=val)
    assert len(kept) == 64 - 6
    assert len(load(validation=True, train_files=train, val_files=val)) == 6
    with pytest.raises(DataError, match="no question is left for training"):
        load(train_files=train, val_files=train)


def test_samples_are_limited(load):
    assert len(load(max_samples=5)) == 5


def test_a_missing_file_is_named(load, tmp_path):
    with pytest.raises(DataError, match=r"nothing\.jsonl: cannot be read"):
        load(train_files=str(tmp_path / "nothing.jsonl"))


def test_an_empty_list_of_validation_files_is_none(load):
    assert len(load(validation=True, val_files=[])) == 10
    assert len(load(val_files=[])) == 54


def test_a_missing_image_is_found_by_its_episode(load, write, mazes):
    items = records(mazes)[:8]
    items[0]["image_path"] = ["gone.png"]
    assert len(load(train_files=write(items), held_out=2)) == 6
