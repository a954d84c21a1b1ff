"""Measures torch_flash_varlen against sdpa in a vision tower: error and time. Results: docs/results/grpo.md.

python -m tests.bench_attention [--shape 7b|nano] [--images 16] [--side 448] [--repeats 5]

Random weights and images. Reference: sdpa in float32. Error: norm of the difference over the norm of the reference, of
the output and of all gradients together. Time: median of the repeats, forward and backward, after two to warm up.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time

import torch
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from vilasr.training import varlen_attention

SHAPES = {
    "7b": {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": 3584},
    "nano": {"depth": 4, "hidden_size": 128, "num_heads": 4, "intermediate_size": 256, "out_hidden_size": 128},
}
PATCH = 14


def tower(shape: str, dtype: torch.dtype, device: str) -> torch.nn.Module:
    torch.manual_seed(0)
    full = [SHAPES[shape]["depth"] - 1] if shape == "nano" else [7, 15, 23, 31]
    config = Qwen2_5_VLVisionConfig(**SHAPES[shape], window_size=112, fullatt_block_indexes=full)
    return Qwen2_5_VisionTransformerPretrainedModel(config).to(device, dtype)


def sync(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def once(model: torch.nn.Module, pixels: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    model.zero_grad(set_to_none=True)
    out = model(pixels, grid_thw=grid).pooler_output
    out = torch.cat(list(out)) if isinstance(out, (tuple, list)) else out
    (out.float() ** 2).mean().backward()
    return out.detach().float()


def gradients(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.float().flatten() for p in model.parameters() if p.grad is not None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--side", type=int, default=448, help="pixels")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    varlen_attention.register()
    patches = arguments.side // PATCH
    grid = torch.tensor([[1, patches, patches]] * arguments.images, device=device)
    pixels = torch.randn(arguments.images * patches**2, 3 * 2 * PATCH**2, device=device)
    exact, reference = None, None
    for dtype in (torch.float32, torch.bfloat16):
        base = tower(arguments.shape, dtype, device)
        for name in ("sdpa", varlen_attention.NAME):
            model = copy.deepcopy(base)
            model.config._attn_implementation = name
            seconds = []
            found = torch.empty(0)
            for _ in range(2 + arguments.repeats):
                started = sync(device)
                found = once(model, pixels.to(dtype), grid)
                seconds.append(sync(device) - started)
            if exact is None or reference is None:
                exact, reference = found, gradients(model)
            row = {
                "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
                "shape": arguments.shape,
                "images": f"{arguments.images} x {arguments.side} px",
                "dtype": str(dtype).removeprefix("torch."),
                "attention": name,
                "ms": round(1000 * statistics.median(seconds[2:]), 1),
                "ms_range": [round(1000 * edge(seconds[2:]), 1) for edge in (min, max)],
                "error": float((found - exact).norm() / exact.norm()),
                "gradient_error": float((gradients(model) - reference).norm() / reference.norm()),
            }
            print(json.dumps(row), flush=True)
            del model


if __name__ == "__main__":
    main()
