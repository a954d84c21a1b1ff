"""Checkpoints that are damaged, mixed up or harmful: each is refused with one line that says what and where, and what
is in the folder then is no model."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.merging.conftest import Damage
from vilasr.archives.files import OutputError
from vilasr.tasks import DataError

pytestmark = pytest.mark.engine

NORM = "model.language_model.norm.weight"
EMBED = "model.language_model.embed_tokens.weight"


class Harmful:
    """Runs a program when it is unpickled the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def shards(actor: Path) -> list[Path]:
    return sorted(actor.glob("model_*.pt"))


def edit(actor: Path, change: Callable[[dict[str, Any], int], None], ranks: tuple[int, ...] = (0, 1)) -> None:
    """Change the content of shards as torch itself reads and writes them."""
    import torch

    for rank in ranks:
        file = shards(actor)[rank]
        state = torch.load(file, weights_only=False)
        change(state, rank)
        torch.save(state, file)


def local(value: Any) -> Any:
    return value._local_tensor


def with_local(value: Any, tensor: Any) -> Any:
    """A DTensor of the same distribution. Computing with one would ask for the other processes."""
    from dataclasses import replace

    from torch.distributed.tensor import DTensor

    meta = value._spec.tensor_meta._replace(dtype=tensor.dtype)
    return DTensor(tensor, replace(value._spec, tensor_meta=meta), requires_grad=False)  # type: ignore[call-arg]


def swap(actor: Path) -> None:
    one, two = shards(actor)
    one.rename(actor / "x")
    two.rename(one)
    (actor / "x").rename(two)


def other_world(actor: Path) -> None:
    one, two = shards(actor)
    two.unlink()
    one.rename(actor / "model_world_size_1_rank_0.pt")
    (actor / "fsdp_config.json").unlink()


def cut_off(actor: Path) -> None:
    os.truncate(shards(actor)[1], shards(actor)[1].stat().st_size // 2)


def flip_a_bit(actor: Path) -> None:
    with shards(actor)[1].open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))


def hole(actor: Path) -> None:
    """As an interrupted copy may leave it."""
    with shards(actor)[0].open("r+b") as file:
        file.seek(800_000)
        file.write(bytes(200_000))


def put(name: str, number: float, rank: int) -> Callable[[Path], None]:
    def change(state: dict[str, Any], _: int) -> None:
        local(state[name]).view(-1)[7] = number

    return lambda actor: edit(actor, change, (rank,))


def extra(actor: Path) -> None:
    edit(actor, lambda state, _: state.update({"value_head.weight": state[NORM]}))


def missing(actor: Path) -> None:
    edit(actor, lambda state, _: state.pop(NORM))


def missing_in_one(actor: Path) -> None:
    edit(actor, lambda state, _: state.pop(NORM), (1,))


def round_norm(state: dict[str, Any], _: int) -> None:
    state[NORM] = with_local(state[NORM], local(state[NORM]).bfloat16())


def other_dtype_in_one(actor: Path) -> None:
    edit(actor, round_norm, (1,))


def other_config(actor: Path) -> None:
    path = actor / "huggingface" / "config.json"
    config = json.loads(path.read_text())
    config["text_config"]["intermediate_size"] *= 2
    path.write_text(json.dumps(config))


def other_local_shape(actor: Path) -> None:
    def change(state: dict[str, Any], _: int) -> None:
        state[NORM]._local_tensor = local(state[NORM])[:-1].clone()

    edit(actor, change, (1,))


def other_whole_shape(actor: Path) -> None:
    import torch

    def change(state: dict[str, Any], rank: int) -> None:
        state[NORM] = torch.ones(64 + rank)

    edit(actor, change)


def whole_but_different(actor: Path) -> None:
    import torch

    def change(state: dict[str, Any], rank: int) -> None:
        state[NORM] = torch.full(state[NORM].shape, 1.0 + rank)

    edit(actor, change)


def untied(actor: Path) -> None:
    edit(actor, lambda state, _: state.update({"lm_head.weight": with_local(state[EMBED], -local(state[EMBED]))}))


def partial(actor: Path) -> None:
    from torch.distributed.tensor import Partial

    def change(state: dict[str, Any], _: int) -> None:
        state[NORM]._spec.placements = (Partial(),)

    edit(actor, change)


def harmful(actor: Path) -> None:
    edit(actor, lambda state, _: state.update({"x": Harmful(actor.parent / "was-run")}), (1,))


def no_state(actor: Path) -> None:
    import torch

    torch.save([1, 2], shards(actor)[0])


def no_tensor(actor: Path) -> None:
    edit(actor, lambda state, _: state.update({NORM: "x"}), (0,))


def text_file(actor: Path) -> None:
    shards(actor)[0].write_text("version https://git-lfs.github.com/spec/v1\n")


def architecture(actor: Path) -> None:
    path = actor / "huggingface" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": ["MyOwnModel"]}))


DAMAGES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda actor: shards(actor)[1].unlink(), r"model_world_size_2_rank_1\.pt: missing; copy it from the node"),
    (lambda actor: (actor / "fsdp_config.json").write_text('{"world_size": 4}'), "but fsdp_config.json says 4"),
    (cut_off, r"rank_1\.pt: is cut off or not written by torch\.save"),
    (text_file, r"rank_0\.pt: is cut off or not written by torch\.save"),
    (swap, r"rank_0\.pt: was written by process 1, and its name says 0"),
    (other_world, r"rank_0\.pt: was written by one of 2 processes, and its name says 1"),
    (flip_a_bit, r"rank_1\.pt: record '\d+': is damaged \(its CRC-32 is another one\)"),
    (hole, r"rank_0\.pt: record '\d+': is damaged"),
    (put(NORM, float("nan"), 1), rf"rank_1\.pt: tensor '{NORM}': holds NaN; the training diverged"),
    (put(EMBED, float("-inf"), 0), rf"rank_0\.pt: tensor '{EMBED}': holds Inf"),
    (extra, r"holds 'value_head\.weight', unknown to Qwen2_5_VLForConditionalGeneration"),
    (missing, rf"lacks '{NORM}' of Qwen2_5_VLForConditionalGeneration"),
    (missing_in_one, rf"rank_1\.pt: lacks tensor '{NORM}', which is in model_world_size_2_rank_0\.pt"),
    (other_dtype_in_one, rf"rank_1\.pt: tensor '{NORM}': is bfloat16, and float32 in"),
    (other_config, r"is of shape \[512, 128\], and Qwen2_5_VLForConditionalGeneration wants \[1024, 128\]"),
    (other_local_shape, r"process 1 of 2 must hold \[64\] of \[128\], and the file holds \[63\]"),
    (other_whole_shape, rf"rank_1\.pt: tensor '{NORM}': is of shape \[65\], and of \[64\] in"),
    (whole_but_different, rf"rank_1\.pt: tensor '{NORM}': differs from that in model_world_size_2_rank_0\.pt"),
    (untied, r"'lm_head\.weight' differ, and huggingface/config\.json says that they are the same"),
    (partial, r"rank_0\.pt: needs torch\.distributed\.tensor\.placement_types\.Partial to be read"),
    (harmful, r"rank_1\.pt: needs posix\.system to be read, which no checkpoint of an FSDP training should; nothing"),
    (no_state, r"rank_0\.pt: holds no state dict"),
    (no_tensor, rf"rank_0\.pt: entry '{NORM}' is no tensor"),
    (lambda actor: (actor / "huggingface" / "config.json").unlink(), r"config\.json: is missing; the trainer writes"),
    (lambda actor: (actor / "huggingface" / "config.json").write_text("{"), "is no configuration that transformers"),
    (architecture, r"field 'architectures' is \['MyOwnModel'\], and must name one model class"),
    (lambda actor: (actor / "huggingface" / "tokenizer.json").unlink(), "huggingface: holds no tokenizer"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[message[-40:] for _, message in DAMAGES])
def test_damage_is_named(copied: Damage, damage: Callable[[Path], Any], message: str) -> None:
    from tests.merging.folders import assert_no_model, merged

    actor = copied("fsdp2-2")
    damage(actor)
    with pytest.raises(DataError, match=message) as caught:
        merged(actor, None)
    assert "\n" not in str(caught.value)
    assert str(actor) in str(caught.value)
    assert_no_model(actor / "huggingface")
    assert not (actor.parent / "was-run").exists()


def test_the_harmful_file_is_harmful(copied: Damage) -> None:
    """Or the test above would show nothing."""
    import torch

    actor = copied("fsdp2-2")
    harmful(actor)
    torch.load(shards(actor)[1], weights_only=False)
    assert (actor.parent / "was-run").exists()


def test_a_repaired_checkpoint_takes_nothing_from_the_damaged(copied: Damage, checkpoints: Path) -> None:
    from tests.merging.folders import assert_same, merged

    actor = copied("fsdp2-2")
    whole = shards(actor)[1].read_bytes()
    flip_a_bit(actor)
    with pytest.raises(DataError, match="CRC-32"):
        merged(actor, None, max_shard_size=300_000)
    shards(actor)[1].write_bytes(whole)
    assert_same(merged(actor, None, max_shard_size=300_000).folder, checkpoints / "fsdp2-2" / "verl")


def test_mixed_dtypes_are_asked_about(copied: Damage, tmp_path: Path) -> None:
    from tests.merging.folders import merged, tensors
    from vilasr.merging.planning import Dtype

    actor = copied("fsdp2-2")
    edit(actor, round_norm)
    with pytest.raises(DataError, match=rf"mixes float32 \('.*'\) and bfloat16 \('{NORM}'\); choose one with --dtype"):
        merged(actor, tmp_path / "out", dtype=Dtype.KEEP)
    merged(actor, tmp_path / "out", dtype=Dtype.FLOAT32)
    assert {str(tensor.dtype) for tensor in tensors(tmp_path / "out").values()} == {"torch.float32"}


def test_numbers_that_do_not_fit(copied: Damage, tmp_path: Path) -> None:
    from tests.merging.folders import assert_no_model, merged
    from vilasr.merging.planning import Dtype

    actor = copied("fsdp2-2")
    put(NORM, 1e6, 1)(actor)
    with pytest.raises(DataError, match=r"'model\.norm\.weight': holds Inf as float16, .* choose another --dtype"):
        merged(actor, tmp_path / "out", dtype=Dtype.FLOAT16)
    assert_no_model(tmp_path / "out")
    merged(actor, tmp_path / "out", dtype=Dtype.BFLOAT16)


def test_weights_of_somebody_else_stay(copied: Damage) -> None:
    from tests.merging.folders import merged

    actor = copied("fsdp2-2")
    theirs = actor / "huggingface" / "model.safetensors"
    theirs.write_bytes(b"theirs")
    with pytest.raises(DataError, match=r"model\.safetensors: is there already, and no merge made it"):
        merged(actor, None)
    assert theirs.read_bytes() == b"theirs"


def test_a_disk_that_is_too_small_is_known_before(checkpoints: Path, tmp_path: Path) -> None:
    from tests.merging.folders import merged

    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount a small file system")
    try:
        with pytest.raises(OutputError, match=r"are to be written and .* are free; free some space"):
            merged(checkpoints / "fsdp2-2" / "actor", small)
        assert not list(small.glob("*.safetensors*"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_disk_that_runs_full_and_then_has_room(checkpoints: Path, tmp_path: Path) -> None:
    """By the limit on a file's size, which the system refuses in the same way and at the same place."""
    from tests.merging.folders import assert_no_model, assert_same, merged

    actor = checkpoints / "fsdp2-2" / "actor"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, before[1]))  # the embedding alone is larger
    try:
        with pytest.raises(OutputError, match=r"safetensors: cannot be written \(File too large\)|\.tmp: cannot be"):
            merged(actor, tmp_path, max_shard_size=200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / ".merging").glob("*.tmp"))
    assert_no_model(tmp_path)
    assert_same(merged(actor, tmp_path, max_shard_size=200_000).folder, checkpoints / "fsdp2-2" / "verl")


def test_a_second_run_waits_its_turn(checkpoints: Path, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    from tests.merging.folders import merged

    (tmp_path / ".merging").mkdir()
    with (tmp_path / ".merging" / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another run is merging into it"):
            merged(checkpoints / "fsdp2-2" / "actor", tmp_path)
    merged(checkpoints / "fsdp2-2" / "actor", tmp_path)
