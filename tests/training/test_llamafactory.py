"""Conformance: the tokens LLaMA-Factory trains on equal the tokens of our vLLM session, for every golden trace."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

import pytest

from tests.golden import Golden, golden_traces
from vilasr.maze_files import DATASET_ENTRY
from vilasr.messages import Picture
from vilasr.training.lengths import TokenCounter

pytestmark = pytest.mark.engine

GOLDEN = {golden.name: golden for golden in golden_traces()}


def write_sharegpt(folder: Path) -> None:
    """The golden traces as LLaMA-Factory reads them."""
    items = []
    for golden in GOLDEN.values():
        episode = golden.run()
        images = []
        for picture in (part for m in episode.messages for part in m.parts if isinstance(part, Picture)):
            path = folder / f"{golden.name}_{picture.index}.png"
            picture.image.save(path)
            images.append(path.name)
        conversation = [{"role": m.role, "content": m.text()} for m in episode.messages]
        items.append({"conversations": conversation, "images": images})
    (folder / "golden.json").write_text(json.dumps(items))
    info = {"golden": {**DATASET_ENTRY, "file_name": "golden.json"}}
    (folder / "dataset_info.json").write_text(json.dumps(info))


@pytest.fixture(scope="module")
def trained(nano: Path, tmp_path_factory) -> dict[str, dict]:
    """What LLaMA-Factory makes of the golden traces: input_ids, labels and image_grid_thw by name."""
    from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    folder = tmp_path_factory.mktemp("golden")
    write_sharegpt(folder)
    arguments = {
        "model_name_or_path": str(nano),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset_dir": str(folder),
        "dataset": "golden",
        "template": "qwen2_vl",
        "cutoff_len": 100_000,
        "image_max_pixels": 448 * 28 * 28,
        "image_min_pixels": 4 * 28 * 28,
        "output_dir": str(folder / "out"),
        "overwrite_cache": True,
        "use_cpu": True,
        "report_to": "none",
    }
    model_args, data_args, training_args, _, _ = get_train_args(arguments)
    module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    dataset = get_dataset(template, model_args, data_args, training_args, stage="sft", **module)["train_dataset"]
    collator = SFTDataCollatorWith4DAttentionMask(template=template, **module)
    names = list(GOLDEN)
    assert len(dataset) == len(names), "LLaMA-Factory dropped a trace"
    result = {}
    for name, row in zip(names, dataset, strict=True):
        grid = collator([dict(row)])["image_grid_thw"]
        result[name] = {"ids": row["input_ids"], "labels": row["labels"], "grid": grid.tolist()}
    return result


def session_tokens(engine, golden: Golden) -> tuple[list[int], list[list[int]], int]:
    """(token ids as vLLM expands them, image grids, our own count) of a session that is told the golden replies."""
    session = engine.session(0)
    replies = iter(golden.replies)
    numbers = itertools.count()

    def turn(messages) -> None:
        engine.extend(session, messages)
        ids = engine.chat.text(next(replies))
        engine.keep(session, ids if next(numbers) in golden.truncated else [*ids, engine.chat.end])

    golden.run(turn)
    seen = asyncio.run(engine.as_seen(session))
    return seen.ids, seen.grids, session.state.expanded


@pytest.mark.parametrize("name", GOLDEN)
def test_sft_tokens_equal_session_tokens(name, trained, vllm):
    ids, grids, counted = session_tokens(vllm, GOLDEN[name])
    newline = vllm.chat.text("\n")
    assert trained[name]["ids"] == ids + newline  # LLaMA-Factory also ends the last turn's line
    assert trained[name]["grid"] == grids
    assert counted == len(ids), "our own count of expanded tokens"


@pytest.mark.parametrize("name", GOLDEN)
def test_lengths_are_counted_without_opening_an_image(name, trained, nano):
    episode = GOLDEN[name].run()
    sizes = [picture.image.size for message in episode.messages for picture in message.pictures]
    counted = TokenCounter(str(nano)).count([(m.role, m.text()) for m in episode.messages], sizes)
    assert counted == len(trained[name]["ids"])


@pytest.mark.parametrize("name", GOLDEN)
def test_labels_are_the_assistant_turns(name, trained, vllm):
    """Every token of a reply, its end of turn and the newline after it; nothing of ours."""
    newline = vllm.chat.text("\n")
    expected = [[*vllm.chat.text(reply), vllm.chat.end, *newline] for reply in GOLDEN[name].replies]
    labels = [label for label in trained[name]["labels"] if label != -100]
    assert labels == [token for turn in expected for token in turn]
