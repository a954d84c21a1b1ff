"""LoRA checkpoints of real processes: merged as PEFT merges, apart as verl writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.merging.conftest import Damage
from vilasr.tasks import DataError

pytestmark = pytest.mark.engine
LORA = "fsdp-2-lora"
ADAPTER = "lora_adapter"


def test_merged_is_what_peft_merges(checkpoints: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    from tests.merging.folders import merged
    from vilasr.merging import loading
    from vilasr.merging.merging import Lora
    from vilasr.merging.planning import Dtype

    actor = checkpoints / LORA / "actor"
    done = merged(actor, tmp_path / "merged", dtype=Dtype.KEEP)
    loading.verify(done.folder, done.weights)
    apart = merged(actor, tmp_path / "apart", dtype=Dtype.KEEP, lora=Lora.APART)
    base = loading.load(apart.folder)
    peft = PeftModel.from_pretrained(base, str(apart.folder / ADAPTER)).merge_and_unload().state_dict()
    ours = loading.load(done.folder).state_dict()
    original = loading.load(apart.folder).state_dict()
    assert ours.keys() == peft.keys()
    changed = [name for name in ours if not torch.equal(ours[name], original[name])]
    assert len(changed) == 3 * base.config.text_config.num_hidden_layers  # q_proj, v_proj and down_proj of each
    for name in ours:
        torch.testing.assert_close(ours[name], peft[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [LORA, "fsdp2-2-bfloat16-lora"])
def test_apart_is_what_verl_writes(checkpoints: Path, tmp_path: Path, name: str) -> None:
    from tests.merging.folders import assert_same, merged
    from vilasr.merging.merging import Lora

    done = merged(checkpoints / name / "actor", tmp_path / "out", lora=Lora.APART, max_shard_size=10**6)
    assert_same(done.folder, checkpoints / name / "verl")
    assert_same(done.folder / ADAPTER, checkpoints / name / "verl" / ADAPTER)
    ours, verls = (
        json.loads((at / ADAPTER / "adapter_config.json").read_text())
        for at in (done.folder, checkpoints / name / "verl")
    )
    for key in ("peft_type", "task_type", "r", "lora_alpha", "bias", "fan_in_fan_out"):
        assert ours[key] == verls[key]
    assert ours["target_modules"] == ["down_proj", "q_proj", "v_proj"] or all("." in m for m in ours["target_modules"])


def test_bfloat16_weights_are_rounded_once(checkpoints: Path, tmp_path: Path) -> None:
    import torch

    from tests.merging.folders import merged, tensors
    from vilasr.merging.merging import Lora
    from vilasr.merging.planning import Dtype

    actor = checkpoints / "fsdp2-2-bfloat16-lora" / "actor"
    done = tensors(merged(actor, tmp_path / "merged", dtype=Dtype.KEEP).folder)
    apart = merged(actor, tmp_path / "apart", dtype=Dtype.KEEP, lora=Lora.APART).folder
    base, adapter = tensors(apart), tensors(apart / ADAPTER)
    name = "layers.1.mlp.down_proj"
    down, up = (
        adapter[f"base_model.model.model.language_model.{name}.lora_{side}.weight"].float() for side in ("A", "B")
    )
    exact = base[f"model.{name}.weight"].float() + 2 * up @ down
    assert done[f"model.{name}.weight"].dtype == torch.bfloat16
    # half a unit in the last of 8 bits, and the order of the sum
    torch.testing.assert_close(done[f"model.{name}.weight"].float(), exact, rtol=2**-8, atol=1e-6)


def test_merged_in_the_place_of_apart_leaves_no_adapter(checkpoints: Path, tmp_path: Path) -> None:
    from tests.merging.folders import merged
    from vilasr.merging.merging import Lora

    actor = checkpoints / LORA / "actor"
    merged(actor, tmp_path, lora=Lora.APART)
    assert len(list((tmp_path / ADAPTER).iterdir())) == 2
    merged(actor, tmp_path)
    assert not list((tmp_path / ADAPTER).iterdir())


def test_adapters_alone_are_written_apart(checkpoints: Path, tmp_path: Path) -> None:
    from tests.merging.folders import assert_same, merged
    from vilasr.merging.merging import Lora

    actor = checkpoints / "fsdp2-2-lora-only" / "actor"
    with pytest.raises(DataError, match="holds adapters alone"):
        merged(actor, tmp_path / "merged")
    done = merged(actor, tmp_path / "out", lora=Lora.APART)
    assert_same(done.folder / ADAPTER, checkpoints / LORA / "verl" / ADAPTER)


def test_what_cannot_be_merged(copied: Damage, tmp_path: Path) -> None:
    import torch

    from tests.merging.folders import merged

    actor = copied(LORA)
    meta = actor / "lora_train_meta.json"
    meta.write_text(json.dumps({"r": 8, "lora_alpha": 8}))
    with pytest.raises(DataError, match="says rank 8, and the adapters are of rank 4"):
        merged(actor, tmp_path / "out")
    meta.unlink()
    with pytest.raises(DataError, match=r"names no lora_alpha above 0; give .* by --lora-alpha"):
        merged(actor, tmp_path / "out")
    merged(actor, tmp_path / "given", lora_alpha=8.0)
    for wrong, message in (
        ("lora_A.second", "only LoRA of linear layers under the name 'default'"),
        ("lora_magnitude_vector.default", "only LoRA of linear layers"),
        (None, r"layers\.0\.self_attn\.q_proj\.lora_A\.default\.weight': is missing"),
    ):
        damaged = actor.parent / "damaged"
        for file in actor.glob("*.pt"):
            state = torch.load(file, weights_only=False)
            name = next(name for name in state if name.endswith("q_proj.lora_A.default.weight"))
            tensor = state.pop(name)
            if wrong:
                state[name.replace("lora_A.default", wrong)] = tensor
            damaged.mkdir(exist_ok=True)
            torch.save(state, damaged / file.name)
        if not (damaged / "huggingface").exists():
            (damaged / "huggingface").symlink_to(actor / "huggingface")
        with pytest.raises(DataError, match=message):
            merged(damaged, tmp_path / "out", lora_alpha=8.0)
