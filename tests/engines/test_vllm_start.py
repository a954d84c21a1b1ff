"""How vLLM is told to start; no vLLM here."""

from __future__ import annotations

import os

import pytest

from vilasr.engines.vllm_start import VllmOptions, _environment, engine_arguments, prepare_environment
from vilasr.images import SizeRule


@pytest.mark.parametrize(
    ("gpu", "own_process", "before", "after"),
    [
        (True, True, None, "1"),
        (True, False, None, "0"),
        (False, True, None, "0"),
        (False, False, None, "0"),
        (True, True, "0", "0"),
        (False, False, "1", "1"),
    ],
)
def test_where_the_steps_run(monkeypatch, gpu, own_process, before, after):
    """What the user has set stays."""
    torch = pytest.importorskip("torch")
    for name in list(os.environ):
        if name.startswith("VLLM_") or name in ("TORCHDYNAMO_DISABLE", "TOKENIZERS_PARALLELISM", "OMP_WAIT_POLICY"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    if before is not None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = before
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert prepare_environment(3 * 2**30, own_process) is not gpu
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == after
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert os.environ.get("VLLM_CPU_KVCACHE_SPACE") == (None if gpu else "6"), "two episodes of full length"


@pytest.mark.engine
def test_what_is_set_is_what_vllm_reads():
    """vLLM ignores names that it does not know. One wrong letter, and its process was forked on CUDA, and died."""
    envs = pytest.importorskip("vllm.envs")
    ours = {name for on_cpu in (True, False) for name in _environment(on_cpu, 1, True) if name.startswith("VLLM_")}
    assert ours
    assert ours <= set(envs.environment_variables)


def test_prompts_are_prefilled_whole_on_a_cpu_alone():
    on_cpu, on_gpu = (engine_arguments(VllmOptions(), SizeRule(), 20_000, cpu) for cpu in (True, False))
    assert on_cpu["max_num_batched_tokens"] == 20_000
    assert on_cpu["enable_chunked_prefill"] is False
    assert not {"max_num_batched_tokens", "enable_chunked_prefill"} & on_gpu.keys(), "vLLM's own, by the GPU's size"
    assert on_gpu["mm_processor_kwargs"] == {"min_pixels": SizeRule().min_pixels, "max_pixels": SizeRule().max_pixels}


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan")])
def test_images_need_a_cache(size):
    with pytest.raises(ValueError, match="image_cache_gb"):
        VllmOptions(image_cache_gb=size)


@pytest.mark.parametrize(
    ("options", "on_cpu", "seconds", "graphs"),
    [
        (VllmOptions(), True, 0.0, None),
        (VllmOptions(), False, 0.004, None),
        (VllmOptions(gather_ms=0), False, 0.0, None),
        (VllmOptions(gather_ms=7.5, graph_tokens=1024), True, 0.0075, None),
        (VllmOptions(graph_tokens=1024), False, 0.004, {"max_cudagraph_capture_size": 1024}),
        (VllmOptions(vision_graphs=True), False, 0.004, {"cudagraph_mm_encoder": True}),
    ],
)
def test_what_is_for_gpus_alone(options, on_cpu, seconds, graphs):
    assert options.gather(on_cpu) == pytest.approx(seconds)
    assert engine_arguments(options, SizeRule(), 8192, on_cpu).get("compilation_config") == graphs


@pytest.mark.parametrize("wait", [-1.0, float("nan")])
def test_no_wait_is_negative(wait):
    with pytest.raises(ValueError, match="gather_ms"):
        VllmOptions(gather_ms=wait)


@pytest.mark.engine
def test_vllm_knows_what_it_is_told_of_graphs():
    compilation = pytest.importorskip("vllm.config.compilation")
    told = engine_arguments(VllmOptions(vision_graphs=True, graph_tokens=1024), SizeRule(), 8192, on_cpu=False)
    made = compilation.CompilationConfig(**told["compilation_config"])
    assert (made.cudagraph_mm_encoder, made.max_cudagraph_capture_size) == (True, 1024)
