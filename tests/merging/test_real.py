"""Checkpoints of real FSDP processes: the result is verl's, bit for bit, in every layout verl writes."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.merging.conftest import Damage
from tests.merging.jobs import JOBS
from vilasr.checkpoints import inspect_checkpoint
from vilasr.profile_checks import ProfileError
from vilasr.prompts import PROFILE_NAME, load_profile

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("name", [job.name for job in JOBS if not job.lora and job.verl_can_merge])
def test_bit_for_bit_what_verl_makes(checkpoints: Path, tmp_path: Path, name: str) -> None:
    from tests.merging.folders import assert_same, merged

    merged(checkpoints / name / "actor", tmp_path / "out", max_shard_size=500_000)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 3
    assert_same(tmp_path / "out", checkpoints / name / "verl")
    config, verls = (
        json.loads((at / "config.json").read_text()) for at in (tmp_path / "out", checkpoints / name / "verl")
    )
    assert config == verls


def test_sharded_tensors_that_verl_cannot_merge(checkpoints: Path, tmp_path: Path) -> None:
    from tests.merging.folders import assert_same, merged

    merged(checkpoints / "fsdp-flat-2" / "actor", tmp_path / "out")
    assert_same(tmp_path / "out", checkpoints / "fsdp-2" / "verl")


def test_it_is_the_model_the_training_started_from(checkpoints: Path, nano: Path, tmp_path: Path) -> None:
    """These trainings took no step, so names and values are those of the folder that was loaded."""
    from tests.merging.folders import assert_same, merged
    from vilasr.merging.planning import Dtype

    merged(checkpoints / "fsdp2-2-bfloat16" / "actor", tmp_path / "kept", dtype=Dtype.KEEP)
    assert_same(tmp_path / "kept", nano)
    merged(checkpoints / "fsdp-flat-2" / "actor", tmp_path / "rounded")
    assert_same(tmp_path / "rounded", nano)


def test_files_written_on_gpus_and_by_an_older_torch(copied: Damage, checkpoints: Path, tmp_path: Path) -> None:
    """The first differ in the names of devices, the second in how a mesh is kept; no such machine is needed to read
    them."""
    import torch

    from tests.merging.folders import assert_same, merged

    actor = copied("fsdp2-2")
    for file in actor.glob("*.pt"):
        with zipfile.ZipFile(file) as old:
            records = {entry.filename: old.read(entry) for entry in old.infolist()}
        with zipfile.ZipFile(file, "w") as new:
            for name, content in records.items():
                if name.endswith("data.pkl"):
                    assert b"X\x03\0\0\0cpu" in content
                    content = content.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0")
                new.writestr(name, content)
    merged(actor, tmp_path / "gpu")
    assert_same(tmp_path / "gpu", checkpoints / "fsdp2-2" / "verl")

    shutil.rmtree(actor)
    actor = copied("fsdp-2")
    for file in actor.glob("*.pt"):
        state = torch.load(file, weights_only=False)
        for mesh in {id(value.device_mesh): value.device_mesh for value in state.values()}.values():
            ranks = mesh._rank_map
            for key in ("_layout", "_rank_map", "_rank"):
                del mesh.__dict__[key]
            mesh.__dict__["mesh"] = ranks
        torch.save(state, file)
    merged(actor, tmp_path / "older")
    assert_same(tmp_path / "older", checkpoints / "fsdp-2" / "verl")


def test_names_of_older_versions_of_transformers(copied: Damage, checkpoints: Path, tmp_path: Path) -> None:
    import torch

    from tests.merging.folders import assert_same, merged

    actor = copied("fsdp-1")
    (file,) = actor.glob("*.pt")
    state = torch.load(file)
    renamed = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): tensor
        for name, tensor in state.items()
    }
    assert "visual.patch_embed.proj.weight" in renamed
    torch.save(renamed, file)
    merged(actor, tmp_path / "out")
    assert_same(tmp_path / "out", checkpoints / "fsdp-1" / "verl")


def test_the_result_is_a_checkpoint_beside_its_profile(copied: Damage, nano: Path) -> None:
    from tests.merging.folders import assert_no_model, merged

    actor = copied("fsdp2-2")
    shutil.copy(nano / PROFILE_NAME, actor / "huggingface")
    assert_no_model(actor / "huggingface")
    done = merged(actor.parent, None)
    assert done.folder == actor / "huggingface"
    assert inspect_checkpoint(done.folder).context == inspect_checkpoint(nano).context
    assert load_profile(done.folder / PROFILE_NAME) == load_profile(nano / PROFILE_NAME)
    assert json.loads((done.folder / "config.json").read_text())["dtype"] == "bfloat16"
    listed = json.loads((done.folder / "merge_manifest.json").read_text())
    assert (listed["checkpoint"], listed["processes"], listed["dtype"]) == ("global_step_7", 2, "bfloat16")
    assert not (done.folder / ".merging").exists()


def test_a_profile_can_be_given_and_must_be_one(checkpoints: Path, nano: Path, tmp_path: Path) -> None:
    from tests.merging.folders import merged
    from vilasr.tasks import DataError

    actor = checkpoints / "fsdp2-1" / "actor"
    assert not (actor / "huggingface" / PROFILE_NAME).exists()
    merged(actor, tmp_path / "a", profile=nano / PROFILE_NAME)
    assert (tmp_path / "a" / PROFILE_NAME).read_bytes() == (nano / PROFILE_NAME).read_bytes()
    assert not (tmp_path / "a" / "README.md").exists()
    again = merged(actor, tmp_path / "a")  # of weights that are complete the small files are brought up to date
    assert again.again
    (tmp_path / "bad.yaml").write_text("system: 3")
    with pytest.raises(ProfileError):
        load_profile(tmp_path / "bad.yaml")
    with pytest.raises(DataError, match=r"bad\.yaml"):
        merged(actor, tmp_path / "b", profile=tmp_path / "bad.yaml")
