"""The environment of verl's processes, here and on the other nodes of a Ray cluster."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vilasr.training import secret_values
from vilasr.training.grpo.config import MODEL, OUTPUT, value_of
from vilasr.training.grpo.metric_lines import METRICS
from vilasr.training.grpo.nodes import authentication
from vilasr.training.recipe import ROOT

_MODULES = "VERL_USE_EXTERNAL_MODULES"
_LOCAL = ("num_cpus", "num_gpus", "resources", "labels", "object_store_memory", "_temp_dir", "_system_config")


def variables(config: DictConfig) -> dict[str, str]:
    """What verl, vLLM and Ray need for this run, where the user has not set it."""
    output = Path(value_of(config, OUTPUT))
    found = {
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin make a busy machine ten times slower
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VERL_FILE_LOGGER_PATH": str(output / METRICS),
        "TENSORBOARD_DIR": str(output / "tensorboard"),
        "WANDB_DIR": str(output),
        "SWANLAB_LOG_DIR": str(output / "swanlog"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{output / 'mlruns.db'}",
    }
    if Path(value_of(config, MODEL)).is_dir():
        found |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if value_of(config, "trainer.device") == "cpu":
        found |= {
            "VERL_PLATFORM": "cpu",
            "VERL_ENGINE_DEVICE": "cuda",  # verl registers its engines for that name
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "TORCHDYNAMO_DISABLE": "1",
            "OMP_NUM_THREADS": str(os.cpu_count() or 1),
        }
    elif importlib.util.find_spec("flashinfer") is None:
        found["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
    return found


def process_environment(
    config: DictConfig, environment: Mapping[str, str], address: str | None = None, names: Path | None = None
) -> dict[str, str]:
    """Of the processes on this machine; what the user has set stays. `address` is that of a running Ray cluster,
    `names` a folder that gives a distribution its name (vilasr.training.vllm_name)."""
    cpu = value_of(config, "trainer.device") == "cpu"
    found = {**variables(config), **environment}
    paths = [str(ROOT), *([str(names)] if names else []), *filter(None, [environment.get("PYTHONPATH")])]
    found["PYTHONPATH"] = os.pathsep.join(paths)
    ours = ["vilasr.training.compat", *(["vilasr.training.cpu_platform"] if cpu else [])]
    theirs = [name for name in environment.get(_MODULES, "").split(",") if name and name not in ours]
    found[_MODULES] = ",".join([*ours, *theirs])
    found.pop("RAY_ADDRESS", None)
    if address is not None:
        found |= {"RAY_ADDRESS": address, **authentication(environment)}
    if cpu and found.get("CUDA_VISIBLE_DEVICES") == "":
        del found["CUDA_VISIBLE_DEVICES"]  # empty, it keeps Ray from the one GPU it is to believe in
    return found


def passed_on(config: DictConfig, environment: Mapping[str, str]) -> dict[str, str]:
    """Of `environment`, made by `process_environment`, what processes on other nodes need as well."""
    return secret_values.passed_on(environment, {*variables(config), "PYTHONPATH", _MODULES})


def for_cluster(config: DictConfig, environment: Mapping[str, str]) -> DictConfig:
    """The configuration for a Ray cluster that is running: ray.init may not be told its resources, and its workers get
    the environment from here (`runtime_env`); theirs is that of `ray start`."""
    made: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]  # a mapping stays one
    ray = made["ray_kwargs"]["ray_init"]
    for key in _LOCAL:
        ray.pop(key, None)
    runtime = ray["runtime_env"] = dict(ray.get("runtime_env") or {})
    runtime["env_vars"] = {**passed_on(config, environment), **(runtime.get("env_vars") or {})}
    return OmegaConf.create(made)
