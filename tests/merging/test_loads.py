"""The result in the libraries that use it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_tool
from vilasr.tasks import DataError

pytestmark = pytest.mark.engine


def test_transformers_computes_the_same(checkpoints: Path, nano: Path, tmp_path: Path) -> None:
    import torch

    from tests.merging.folders import merged
    from vilasr.merging import loading

    done = merged(checkpoints / "fsdp-4" / "actor", tmp_path / "out", max_shard_size=10**6)
    assert loading.verify(done.folder, done.weights) == 0
    before, after = loading.load(nano), loading.load(done.folder)
    inputs = loading.batch(nano, before.config)
    assert "pixel_values" in inputs
    with torch.inference_mode():
        assert torch.equal(before(**inputs).logits, after(**inputs).logits)


def test_weights_that_are_others_are_noticed(checkpoints: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from tests.merging.folders import merged
    from vilasr.merging import loading

    done = merged(checkpoints / "fsdp2-1" / "actor", tmp_path / "out")
    path = done.folder / "model.safetensors"
    weights = load_file(path)
    first, second = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"
    save_file({**weights, first: weights[second], second: weights[first]}, path, {"format": "pt"})
    with pytest.raises(DataError, match="its logits differ"):
        loading.verify(done.folder, done.weights)
    save_file({name: weight for name, weight in weights.items() if name != first}, path, {"format": "pt"})
    with pytest.raises(DataError, match=r"missing keys: model\.language_model\.layers\.0\.self_attn\.q_proj\.weight"):
        loading.verify(done.folder, done.weights)


def test_llamafactory_loads_it(checkpoints: Path, tmp_path: Path) -> None:
    """As a model to go on training; its loader is that of every stage."""
    import torch
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model, load_tokenizer

    from tests.merging.folders import merged
    from vilasr.merging.sources import whole

    done = merged(checkpoints / "fsdp2-2" / "actor", tmp_path / "out")
    arguments = {
        "model_name_or_path": str(done.folder),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "template": "qwen2_vl",
        "dataset": "none",
        "output_dir": str(tmp_path / "train"),
        "use_cpu": True,
        "bf16": True,
    }
    model_args, _, _, finetuning_args, _ = get_train_args(arguments)
    model = load_model(load_tokenizer(model_args)["tokenizer"], model_args, finetuning_args, is_trainable=False)
    state = model.state_dict()
    assert len(done.weights) + 1 == len(state)  # with the tied lm_head
    for name, source in done.weights.items():
        assert torch.equal(state[name].bfloat16(), whole(source).bfloat16()), name


def test_the_program(checkpoints: Path, tmp_path: Path) -> None:
    arguments = ("--local_dir", checkpoints / "fsdp2-2", "--target_dir", tmp_path / "out", "--max-shard-size", "1MB")
    done = run_tool("utils/model_merger.py", *arguments, "--verify-load")
    assert done.returncode == 0, done.stderr
    assert "its logits equal the checkpoint's" in done.stderr
    assert json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())["weight_map"]
    listed = json.loads((tmp_path / "out" / "merge_manifest.json").read_text())["files"]
    for name, file in listed.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == file["sha256"]


def test_what_the_program_cannot_do_is_one_line(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    spec = importlib.util.spec_from_file_location("model_merger", ROOT / "utils" / "model_merger.py")
    assert spec
    assert spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    actor = str(checkpoints / "fsdp2-2" / "actor")
    assert program.main(["--local_dir", str(tmp_path / "absent")]) == 1
    absent = (
        f"model_merger: {tmp_path / 'absent'}: no such folder; name the actor folder of a checkpoint by --local_dir"
    )
    assert caplog.messages == [absent]
    for wrong in (["--public"], ["--max-shard-size", "many"], ["--dtype", "int8"], ["--lora", "both"]):
        with pytest.raises(SystemExit) as ended:
            program.main(["--local_dir", actor, *wrong])
        assert ended.value.code == 2
    assert "'many' is no size; write 5GB, 500MB or a number of bytes" in capsys.readouterr().err
    assert not (checkpoints / "fsdp2-2" / "actor" / "huggingface" / "model.safetensors").exists()
