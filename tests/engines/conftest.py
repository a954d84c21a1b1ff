"""A real vLLM server with the nano model; one serves all tests of a run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import CACHE
from vilasr.images import SizeRule

START_SECONDS = 240  # a busy machine; an idle one takes 30


@dataclass(frozen=True)
class Served:
    """Where it answers, under which name, and what its checkpoint is."""

    url: str
    model: str
    checkpoint: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server_command(checkpoint: Path, rule: SizeRule, port: int) -> list[str]:
    """What makes a server see and sample as `VllmEngine` does: sizes of images, no sampling of the checkpoint's own,
    whole prefills on a CPU."""
    pixels = {"min_pixels": rule.min_pixels, "max_pixels": rule.max_pixels}
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(checkpoint), "--served-model-name", "nano"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--max-model-len", "8192", "--max-num-seqs", "32", "--max-num-batched-tokens", "8192"),
        *("--enforce-eager", "--no-enable-chunked-prefill", "--skip-mm-profiling"),
        *("--gpu-memory-utilization", "0.3"),  # on a GPU the engine in the tests' own process needs its share
        *("--generation-config", "vllm"),
        *("--mm-processor-kwargs", json.dumps(pixels)),
        *("--limit-mm-per-prompt", json.dumps({"image": 42, "video": 0})),
        *("--disable-log-stats", "--disable-uvicorn-access-log"),
    ]


def server_environment() -> dict[str, str]:
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }
    if environment.pop("PYTHONDONTWRITEBYTECODE", None):  # three processes would each compile all of torch and vLLM
        environment.setdefault("PYTHONPYCACHEPREFIX", str(CACHE / "bytecode"))
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)  # set by the engine in this process
    return environment


def wait_until_healthy(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"no server after {START_SECONDS} s:\n{log.read_text()[-3000:]}")


def end_group(process: subprocess.Popen) -> None:
    """The server and its workers, which share its process group."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            return
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue


@pytest.fixture(scope="session")
def served(nano: Path, tmp_path_factory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    port = free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            server_command(nano, SizeRule(), port),
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process, log)
        yield Served(f"http://127.0.0.1:{port}/v1", "nano", nano)
    finally:
        end_group(process)
