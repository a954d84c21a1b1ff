"""What LLaMA-Factory trains on for the golden traces; every other builder of tokens is compared with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.golden_tokens import GOLDEN, write_sharegpt


@pytest.fixture(scope="session")
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
