"""Launches a supervised fine-tuning recipe on LLaMA-Factory: checks first, resumes by itself, keeps the batch size.

    python -m vilasr.training.sft config_cold_start.yaml [key=value ...]

From the environment: NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT, NPROC_PER_NODE as for torchrun; GLOBAL_BATCH, the
samples of one optimizer step on any number of GPUs; PREFLIGHT=off skips the checks, PREFLIGHT=only stops after them,
PREFLIGHT=full looks at every item instead of a sample.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vilasr.data_check.dataset_info import Dataset, read_dataset_info
from vilasr.prompts import ProfileError
from vilasr.tasks import DataError
from vilasr.training.carry_profile import carry_profile
from vilasr.training.cluster import Cluster, accumulation_steps, read_cluster, whole_number
from vilasr.training.processes import visible_gpus, wait_for
from vilasr.training.recipe import ROOT, read_config, read_overrides
from vilasr.training.resume import (
    check_output,
    choose_checkpoint,
    claim,
    complete_processor,
    look,
    prepare_output,
    settings_of,
)

log = logging.getLogger(__name__)

PREFLIGHTS = ("on", "only", "full", "off")
VARLEN = "torch_flash_varlen"  # vilasr.training.varlen_attention.NAME, whose module needs torch
_ATTENTIONS = ("auto", "disabled", "sdpa", "fa2", "fa3", VARLEN)


@dataclass(frozen=True)
class Plan:
    """What will run: LLaMA-Factory's configuration, on which processes, from which checkpoint."""

    config: Mapping[str, Any]
    cluster: Cluster
    global_batch: int
    settings: Mapping[str, Any]

    @property
    def output(self) -> Path:
        return Path(self.config["output_dir"])

    @property
    def resume(self) -> Path | None:
        """The checkpoint to go on from, found here or named by the user."""
        checkpoint = self.config.get("resume_from_checkpoint")
        return Path(checkpoint) if checkpoint else None

    @property
    def fresh(self) -> bool:
        return self.config["overwrite_output_dir"]


def make_plan(path: Path, overrides: Sequence[str], environment: Mapping[str, str], gpus: int | None = None) -> Plan:
    """Everything decided before a process starts; nothing is written. `gpus` are those of this machine, by default as
    many as torch sees. Raises DataError."""
    config = read_config(path, overrides)
    for key in ("model_name_or_path", "dataset_dir", "dataset", "output_dir"):
        if not isinstance(config.get(key), str) or not config[key]:
            raise DataError(f"key {key!r} must be given in {path} or as {key}=...")
    if config.get("use_cpu"):
        gpus = 0
    elif gpus is None:
        gpus = visible_gpus()
    cluster = read_cluster(environment, gpus)
    if not config.get("use_cpu") and not gpus:
        raise DataError("no GPU is visible on this machine; a small model trains on the CPU with use_cpu=true")
    _check_attention(config)
    datasets = chosen_datasets(config)
    per_device = _whole(config, "per_device_train_batch_size", 8)
    batch = whole_number(environment, "GLOBAL_BATCH", 32, 1, 1_000_000)
    if "gradient_accumulation_steps" in read_overrides(overrides):
        batch = per_device * cluster.world * _whole(config, "gradient_accumulation_steps", 1)
    else:
        config["gradient_accumulation_steps"] = accumulation_steps(batch, per_device, cluster.world)
    if config.get("use_cpu") and cluster.world > 1:
        config["ddp_backend"] = "gloo"
    _check_deepspeed(config)
    # a job that Slurm starts again goes on, whatever its first start was told
    fresh = bool(config.get("overwrite_output_dir")) and not environment.get("SLURM_RESTART_COUNT")
    config["overwrite_output_dir"] = fresh
    check_output(config, fresh)
    # what is trained on belongs to the settings: a resumed run must see the same data
    data = {dataset.name: _digest(dataset.file) for dataset in datasets if dataset.file}
    settings = {**settings_of(config, batch), "data": data}
    if not fresh and not config.get("resume_from_checkpoint"):
        resume = choose_checkpoint(Path(config["output_dir"]), settings, cluster.world)
        if resume is not None and config.get("ddp_backend") == "gloo":
            raise DataError(
                f"{resume}: torch cannot resume on a CPU with several processes; set NPROC_PER_NODE=1 NNODES=1"
            )
        if resume is not None:
            config["resume_from_checkpoint"] = str(resume)
    return Plan(config, cluster, batch, settings)


def chosen_datasets(config: Mapping[str, Any]) -> list[Dataset]:
    """The data files a recipe names. Raises DataError for one that is not listed or not there."""
    folder = Path(config["dataset_dir"])
    known = read_dataset_info(folder)
    chosen = []
    for name in (part.strip() for part in str(config["dataset"]).split(",")):
        if name not in known:
            raise DataError(
                f"dataset: {name!r} is not in {folder / 'dataset_info.json'}, which lists {', '.join(known)}"
            )
        file = known[name].file
        if file is not None and not file.exists():
            raise DataError(
                f"dataset: {name!r}: {file} does not exist; unpack the archives with unzip.py, or fix dataset_dir"
            )
        chosen.append(known[name])
    return chosen


def _whole(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DataError(f"{key}: must be a whole number from 1, not {value!r}")
    return value


def _check_attention(config: Mapping[str, Any]) -> None:
    name = config.get("flash_attn", "auto")
    if name not in _ATTENTIONS:
        raise DataError(f"flash_attn: {name!r} is not known; it may be {', '.join(_ATTENTIONS)}")
    if name == VARLEN and config.get("neat_packing"):
        raise DataError(f"neat_packing: needs a mask that {VARLEN} does not take; give flash_attn=auto")


def _check_deepspeed(config: Mapping[str, Any]) -> None:
    given = config.get("deepspeed")
    if not given:
        return
    if isinstance(given, str) and not Path(given).is_file():
        raise DataError(f"deepspeed: no file {given}")
    if importlib.util.find_spec("deepspeed") is None:
        raise DataError(
            "deepspeed: the package is not installed; run bash setup.sh on a machine with a GPU (DEVICE=cuda)"
        )


def _digest(path: Path) -> str:
    """Of a file, or of all in a folder that is one dataset."""
    whole = hashlib.sha256()
    for part in sorted(path.iterdir()) if path.is_dir() else [path]:
        with part.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


def command(plan: Plan, config_file: Path) -> list[str]:
    """torchrun for all but one process on a CPU: LLaMA-Factory refuses several visible GPUs without it. The arguments
    are a list, so that any path works."""
    cluster = plan.cluster
    start = [sys.executable, "-m"]
    if cluster.world > 1 or not plan.config.get("use_cpu") or plan.config.get("deepspeed"):
        start += ["torch.distributed.run", "--nnodes", str(cluster.nodes), "--node-rank", str(cluster.rank)]
        start += ["--nproc-per-node", str(cluster.processes)]
        start += ["--master-addr", cluster.address, "--master-port", str(cluster.port), "-m"]
    module = "vilasr.training.llamafactory" if plan.config.get("flash_attn") == VARLEN else "llamafactory.launcher"
    return [*start, module, str(config_file)]


def process_environment(plan: Plan, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the processes; what the user has set stays."""
    found = dict(environment)
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    found["PYTHONPATH"] = os.pathsep.join(paths)
    found.setdefault("TOKENIZERS_PARALLELISM", "false")
    found.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin make a busy laptop ten times slower
    if Path(plan.config["model_name_or_path"]).is_dir():
        found.setdefault("HF_HUB_OFFLINE", "1")
    if plan.config.get("use_cpu"):
        found["CUDA_VISIBLE_DEVICES"] = ""  # else LLaMA-Factory prepares for the GPUs it sees
        found.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // plan.cluster.processes)))
    else:  # as LLaMA-Factory's own launcher does
        found.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
        found.setdefault("TORCH_NCCL_AVOID_RECORD_STREAMS", "1")
    return found


def known_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with nothing that LLaMA-Factory refuses: it does not know our attention, which its entry sets."""
    return {**config, "flash_attn": "auto"} if config.get("flash_attn") == VARLEN else dict(config)


def trainer_config(plan: Plan) -> dict[str, Any]:
    """The configuration as LLaMA-Factory gets it.

    A resumed run also loads its model from the checkpoint. Left to itself, transformers 5.5.4 takes the weights by the
    names they have in memory, Qwen2.5-VL's are saved under others, and it goes on with the language model it started
    from, with no more than a warning. DeepSpeed restores its own copy, in full precision.
    """
    config = known_keys(plan.config)
    if plan.resume is not None and not config.get("deepspeed") and (plan.resume / "config.json").is_file():
        config["model_name_or_path"] = str(plan.resume)
    return config


def run(plan: Plan) -> int:
    """Train; returns the exit status. The profile is put beside the weights when all is done."""
    with ExitStack() as stack:
        held = []
        if plan.cluster.rank == 0:
            held = [stack.enter_context(claim(plan.output))]
            prepare_output(plan.output, plan.settings, plan.fresh, plan.resume)
            if plan.resume is not None:
                complete_processor(plan.resume, plan.config["model_name_or_path"])
        return _train(plan, held)


def _train(plan: Plan, held: Sequence[int]) -> int:
    with tempfile.TemporaryDirectory(prefix="vilasr-sft-") as folder:
        config_file = Path(folder) / "config.yaml"
        config_file.write_text(yaml.safe_dump(trainer_config(plan), allow_unicode=True), encoding="utf-8")
        status = wait_for(command(plan, config_file), process_environment(plan, os.environ), held)
    if status:
        last = look(plan.output).checkpoint
        how = "the same command without overwrite_output_dir" if plan.fresh else "the same command"
        again = f"{how} goes on from {last}" if last else "no checkpoint was written yet"
        log.error("training ended with status %d; %s", status, again)
    elif plan.cluster.rank == 0:
        log.info("profile: %s", carry_profile(plan.config))
    return status


def main(arguments: Sequence[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not arguments or arguments[0].startswith("-"):
        log.error("usage: python -m vilasr.training.sft CONFIG [key=value ...]")
        return 2
    checks = os.environ.get("PREFLIGHT") or "on"
    try:
        if checks not in PREFLIGHTS:
            raise DataError(f"PREFLIGHT is {checks!r}; it may be {', '.join(PREFLIGHTS)}")
        plan = make_plan(Path(arguments[0]), arguments[1:], os.environ)
        if look(plan.output).finished and not plan.fresh and checks != "only":
            log.info("%s is trained already; overwrite_output_dir=true starts over", plan.output)
            return 0
        if checks != "off":
            from vilasr.training.preflight import preflight

            if not preflight(plan, whole=checks == "full"):
                log.error("nothing was started; PREFLIGHT=off would start nevertheless")
                return 1
        return 0 if checks == "only" else run(plan)
    except (DataError, ProfileError, OSError) as exc:
        log.error("%s: error: %s", Path(arguments[0]).name, exc)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
