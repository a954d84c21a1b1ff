"""Two processes load a model of the 7B kind, whose output layer is not its embedding: the second starts empty."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]

# One rank, as verl's FSDP2 engine loads a model. Says how it went, and whether every weight is that of the file.
RANK = """
    import json, os, sys
    import torch
    import verl  # loads the patches
    from transformers import Qwen2_5_VLForConditionalGeneration
    from verl.utils import fsdp_utils
    from verl.workers.engine.fsdp import transformer_impl
    from vilasr.training import compat

    torch.distributed.init_process_group("gloo", init_method=os.environ["STORE"],
                                         rank=int(os.environ["RANK"]), world_size=2)
    get_context, path = transformer_impl.get_init_weight_context_manager, os.environ["MODEL"]

    def load(get_context):
        with get_context(use_meta_tensor=True)():
            return Qwen2_5_VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32)

    try:
        load(compat.original_of(get_context))
        without = "works"
    except TypeError as exc:
        without = str(exc)
    model = load(get_context)
    found = {"without": without,
             "devices": sorted({p.device.type for p in model.parameters()}),
             "buffers": sorted({b.device.type for b in model.buffers()}),
             "trained": all(p.requires_grad for p in model.parameters())}
    whole = model.state_dict()
    fsdp_utils.apply_fsdp2(model, {"mesh": torch.distributed.device_mesh.init_device_mesh("cpu", (2,)),
                                   "reshard_after_forward": True}, {})
    fsdp_utils.fsdp2_load_full_state_dict(model, whole)
    wanted = Qwen2_5_VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32)
    found["same"] = all(torch.equal(value.full_tensor(), wanted.state_dict()[name])
                        for name, value in model.state_dict().items())
    found["halves"] = all(value.to_local().numel() < value.numel() for value in model.state_dict().values()
                          if value.shape[0] > 1)
    buffers = dict(wanted.named_buffers())
    found["same buffers"] = all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def untied(nano: Path, tmp_path_factory) -> Path:
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    config = AutoConfig.from_pretrained(nano)
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    path = tmp_path_factory.mktemp("untied") / "model"
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def ranks(untied: Path, tmp_path_factory) -> list[dict[str, Any]]:
    environment = os.environ | {
        "VERL_PLATFORM": "cpu",
        "VERL_USE_EXTERNAL_MODULES": "vilasr.training.compat,vilasr.training.cpu_platform",
        "PYTHONPATH": str(ROOT),
        "MODEL": str(untied),
        "STORE": (tmp_path_factory.mktemp("store") / "ranks").as_uri(),
    }
    command = [sys.executable, "-c", textwrap.dedent(RANK)]
    processes = [
        subprocess.Popen(command, env=environment | {"RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    try:
        ends = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(processes, ends, strict=True):
        assert process.returncode == 0, errors.decode()
    return [json.loads(out.splitlines()[-1]) for out, _ in ends]


@pytest.mark.engine
def test_the_second_rank_fails_without_the_patch(ranks):
    assert ranks[0]["without"] == "works"
    assert "_is_hf_initialized" in ranks[1]["without"], "the library works without it: remove the patch"


@pytest.mark.engine
def test_both_ranks_get_the_weights_of_the_file(ranks):
    assert [rank["devices"] for rank in ranks] == [["cpu"], ["meta"]]
    for rank in ranks:
        assert rank["buffers"] == ["cpu"]
        for what in ("trained", "same", "halves", "same buffers"):
            assert rank[what], what
