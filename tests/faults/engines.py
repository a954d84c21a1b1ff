"""Jobs with a model: against one vLLM server, with an engine of their own, and with a pool of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.engines.conftest import end_group, free_port, server_command, server_environment, wait_until_healthy
from tests.faults.cheap import tool
from tests.faults.hurting import DISK, SIGNALS, Fault
from tests.faults.job import Items, Job, digest, files_of
from vilasr.prompts import profile_for_checkpoint
from vilasr.results import read_lines

NAMES = ("infer_served", "sample_served", "infer_engine", "infer_pool", "infer_nodes")


class Stage:
    """The server, started when a job asks for its address; killed and started again at the same one by `restart`.
    `model` is the checkpoint: the environment's CKPT, a nano model that draws."""

    def __init__(self, made: Path) -> None:
        self.model = Path(os.environ.get("CKPT", made / "model")).resolve()
        self._log = made / "server.txt"
        self._process: subprocess.Popen | None = None
        self._port = free_port()

    @property
    def url(self) -> str:
        if self._process is None:
            self._start()
            wait_until_healthy(f"http://127.0.0.1:{self._port}", self._running, self._log)
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def _running(self) -> subprocess.Popen:
        assert self._process is not None
        return self._process

    def _start(self) -> None:
        """One request at a time and no cache of prefixes: float sums depend on who shares a batch, and here answers
        must be the same in every run."""
        words = server_command(self.model, profile_for_checkpoint(self.model).image, self._port)
        words[words.index("--max-num-seqs") + 1] = "1"
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [*words, "--no-enable-prefix-caching"],
                env=server_environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def restart(self) -> None:
        """Killed, and started again at once; the clients must wait."""
        os.killpg(self._running.pid, 9)
        self._running.wait()
        self._start()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self._process is not None:
            end_group(self._process)


def rows(folder: Path) -> Items:
    """Each episode without what differs from run to run."""
    found: Items = {}
    for path in sorted((folder / "out").rglob("results.jsonl")):
        for _, row in read_lines(path):
            key = f"{path.parent.name}/results.jsonl::{row['id']}-{row['sample']}"
            said = [row["stop_reason"], row["answer"], [step["text"] for step in row.get("steps", [])], row["config"]]
            found.setdefault(key, []).append(digest(repr(said).encode()))
    return found


def _sampled(folder: Path) -> Items:
    """The episodes, and the data of training with its pictures."""
    data = files_of(folder / "out/reflective_rejection_sampling")
    info = files_of(folder / "out", "dataset_info.json")
    return rows(folder) | {f"data/{name}": seen for name, seen in (data | info).items() if ".part" not in name}


def jobs(made: Path, stage: Stage) -> list[Job]:
    """The questions lie in the environment's QUESTIONS, a folder that tools/make_mazes.py made with RL data. On a CPU
    vLLM has no process of its own: Fault.ENGINE needs a GPU, and is asked for with --kinds."""
    questions = Path(os.environ.get("QUESTIONS", made / "questions")).resolve()
    how = ("--data", "in/rl/vilasr_rl_data.jsonl", "--concurrency", "3", "--turn-tokens", "96")
    extra = ("--extra-body", '{"skip_special_tokens": false, "spaces_between_special_tokens": false}')
    profile = ("--profile", str(stage.model / "vilasr_profile.yaml"))
    served = ("--base-url", stage.url, *profile, *extra) if _wanted("_served") else ()
    own = ("--checkpoint", str(stage.model), "--max-model-len", "4096", "--gpu-memory-utilization", "0.2")
    infer = tool("eval/infer.py", *how, "--output", "out")
    sample = tool("tools/sample_traces.py", "--preset", "reflective", "--no-benchmark-check", "--samples", "2",
                  "--temperature", "0.5", *how, "--output", "out")  # fmt: skip
    images = (*SIGNALS, *DISK, Fault.IMAGE)
    own_time = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1"}
    served_limits = {"seconds": 300.0, "again": ("--retry-errors",)}
    return [
        Job("infer_served", questions, (*infer, *served), rows, (*images, Fault.SERVER), **served_limits),
        Job("sample_served", questions, (*sample, *served), _sampled, (*SIGNALS, *DISK), **served_limits),
        Job("infer_engine", questions, (*infer, *own, "--engines", "1"), rows, SIGNALS,
            seconds=400, again=("--retry-errors",), environment=own_time),
        Job("infer_pool", questions, (*infer, *own, "--engines", "2"), rows,
            (*SIGNALS, Fault.ACTOR, Fault.NODE), seconds=500, again=("--retry-errors",),
            environment=own_time),
    ]  # fmt: skip


def _wanted(word: str) -> bool:
    """Whether the command line names such a job: the server is started for those alone."""
    return any(word in name for name in sys.argv[1:])
