"""The configuration of a merged model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vilasr.merging.companions import configuration

CONFIG = {"model_type": "qwen2_5_vl", "dtype": "float32", "text_config": {"dtype": "float32", "layers": 2}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def test_attention_of_the_training_is_forgotten(path):
    path.write_text(json.dumps({**CONFIG, "attn_implementation": "torch_flash_varlen"}))
    assert json.loads(configuration(path)) == CONFIG


def test_a_dtype_is_set_in_all_parts(path):
    path.write_text(json.dumps({**CONFIG, "attn_implementation": "sdpa"}))
    found = json.loads(configuration(path, torch.bfloat16))
    assert found == {**CONFIG, "dtype": "bfloat16", "text_config": {"dtype": "bfloat16", "layers": 2}}


def test_what_needs_no_change_keeps_its_bytes(path):
    path.write_text(json.dumps(CONFIG, indent=7))
    assert configuration(path) == path.read_text()
