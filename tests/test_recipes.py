"""Every recipe says what it is for and loads through the library that runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SFT = sorted((ROOT / "train" / "cold_start").glob("*/*.yaml"))


@pytest.mark.parametrize("path", SFT, ids=lambda path: path.parent.name)
def test_it_opens_with_purpose_launch_and_override(path):
    head = path.read_text().split("\n\n")[0]
    assert head.startswith("# ")
    assert f"bash {path.parent.relative_to(ROOT)}/train_cold_start.sh" in head
    assert "override" in head


@pytest.mark.engine
@pytest.mark.parametrize("path", SFT, ids=lambda path: path.parent.name)
def test_llamafactory_reads_it(path, nano, tmp_path):
    from llamafactory.hparams import get_train_args

    config = yaml.safe_load(path.read_text())
    config |= {"model_name_or_path": str(nano), "output_dir": str(tmp_path)}
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(config)
    assert data_args.template == "qwen2_vl"
    assert finetuning_args.stage == "sft"
    assert model_args.image_max_pixels >= 448 * 28 * 28 >= 56 * 56 >= model_args.image_min_pixels
    assert training_args.do_train
