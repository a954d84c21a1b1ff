"""Checkpoints of any shape without a training: what the processes of an FSDP2 run would have saved, one after another.

    python -m tests.merging.synthetic OUT RANK WORLD DTYPE        (OUT/actor/huggingface/config.json is there)

torch's fake process group stands for the others, so a file is a real one and takes memory for itself alone.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

# Of the published configurations; what is not here is as in Qwen2_5_VLConfig.
SHAPES = {
    "3b": {
        "text": {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
                 "num_key_value_heads": 2, "vocab_size": 151936},
        "vision": {"out_hidden_size": 2048},
        "tied": True,
    },
    "7b": {
        "text": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
                 "num_key_value_heads": 4, "vocab_size": 152064},
        "vision": {"out_hidden_size": 3584},
        "tied": False,
    },
}  # fmt: skip


def make_folder(out: Path, shape: str, model: Path) -> None:
    """Configuration of `shape`, tokenizer and processor of the small `model`."""
    from transformers import Qwen2_5_VLConfig

    folder = out / "actor" / "huggingface"
    folder.mkdir(parents=True)
    for path in model.iterdir():
        if path.suffix in (".json", ".jinja", ".yaml") and path.name != "config.json":
            shutil.copy(path, folder)
    chosen = SHAPES[shape]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    config = Qwen2_5_VLConfig(
        text_config={**chosen["text"], "rope_parameters": rope, "tie_word_embeddings": chosen["tied"]},
        vision_config={
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "depth": 32,
            "num_heads": 16,
            **chosen["vision"],
        },
        tie_word_embeddings=chosen["tied"],
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)


def save_rank(out: Path, rank: int, world: int, dtype_name: str) -> None:
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from transformers import AutoConfig, AutoModelForImageTextToText

    from vilasr.merging.layout import chunk

    dtype = getattr(torch, dtype_name)
    torch.distributed.init_process_group("fake", rank=rank, world_size=world, store=FakeStore())
    mesh = init_device_mesh("cpu", (world,), mesh_dim_names=("fsdp",))
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(out / "actor" / "huggingface"))
    noise = torch.randn(1 << 24, generator=torch.Generator().manual_seed(rank)).mul_(0.02).to(dtype)
    state = {}
    for name, tensor in model.state_dict().items():
        rows = chunk(tensor.shape[0], world, rank)[1]
        local = torch.empty((rows, *tensor.shape[1:]), dtype=dtype)
        flat = local.view(-1)
        for start in range(0, flat.numel(), len(noise)):
            piece = flat[start : start + len(noise)]
            piece.copy_(noise[: len(piece)])
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            state[name] = state["model.language_model.embed_tokens.weight"]
            continue
        state[name] = DTensor.from_local(
            local, mesh, [Shard(0)], run_check=False, shape=tensor.shape, stride=tensor.stride()
        )
    torch.save(state, out / "actor" / f"model_world_size_{world}_rank_{rank}.pt")
    if rank == 0:
        content = json.dumps({"FSDP_version": 2, "world_size": world})
        (out / "actor" / "fsdp_config.json").write_text(content)


if __name__ == "__main__":
    save_rank(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
