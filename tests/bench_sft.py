"""Measures fine-tuning on GPUs: the nano recipe on 1 and 2, and what the 7B recipe takes. Results: docs/results/sft.md.

python -m tests.bench_sft nano OUT         samples a second and losses: one and two GPUs, with and without ZeRO-3,
                                           and a run that is killed and resumed
python -m tests.bench_sft memory OUT       a model of the 7B shape with random weights, conversations of 4,000 to
                                           16,000 tokens: memory a GPU beside the estimate, seconds a sample
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from PIL import Image

from vilasr.episode import Done, Episode
from vilasr.messages import Reply
from vilasr.prompts import Budget, default_profile
from vilasr.sft_files import DATASET_ENTRY
from vilasr.tasks import Example, QuestionType
from vilasr.training.lengths import TokenCounter

ROOT = Path(__file__).resolve().parents[1]
NANO = ROOT / "train/cold_start/nano/train_cold_start.sh"
FULL = ROOT / "train/cold_start/vilasr_full_qwen2.5_vl_7b_8gpu/train_cold_start.sh"
ZERO = f"deepspeed={ROOT / 'train/deepspeed_zero3.json'}"
GPUS = os.environ.get("BENCH_GPUS", "0,1").split(",")  # "" stands for the CPU
LENGTHS = tuple(int(n) for n in os.environ.get("BENCH_LENGTHS", "4000,8000,16000").split(","))


def tool(*arguments: object) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, check=True, stdout=sys.stderr)


def launch(script: Path, log: Path, gpus: int, batch: int, *overrides: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHON": sys.executable, "GLOBAL_BATCH": str(batch), "NPROC_PER_NODE": str(gpus)}
    if GPUS != [""]:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(GPUS[:gpus])
    command = ["bash", str(script), *overrides]
    return subprocess.Popen(command, env=environment, stdout=log.open("wb"), stderr=subprocess.STDOUT)


def losses(folder: Path) -> list[float]:
    path = folder / "trainer_log.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [record["loss"] for record in records if "loss" in record]


def nano(out: Path) -> None:
    mazes, model = out / "mazes", out / "nano"
    steps = int(os.environ.get("BENCH_STEPS", "60"))
    make = ("--out", mazes, "--split", "train", "--count", 32 * steps, "--sizes", "3-4", "--image-size", 168)
    tool(
        "tools/make_mazes.py", *make, "--formats", "cold_start", "--profile", "vilasr/profiles/nano.yaml", "--overwrite"
    )
    tool("tools/make_nano.py", "--out", model, "--corpus", mazes / "cold_start/maze.json")
    cpu = GPUS == [""]
    common = [f"model_name_or_path={model}", f"dataset_dir={mazes}", "logging_steps=1", f"max_steps={steps}"]
    common += ["per_device_train_batch_size=16", f"use_cpu={str(cpu).lower()}", f"bf16={str(not cpu).lower()}"]
    runs = {"1 GPU": (1, []), "1 GPU again": (1, []), "2 GPUs": (2, [])}
    if not cpu:
        runs |= {"1 GPU ZeRO-3": (1, [ZERO]), "2 GPUs ZeRO-3": (2, [ZERO])}
    curves = {}
    for name, (gpus, extra) in runs.items():
        folder = out / name.replace(" ", "-")
        process = launch(NANO, out / f"{folder.name}.log", gpus, 32, *common, *extra, f"output_dir={folder}")
        status, result = process.wait(), folder / "train_results.json"
        curves[name] = losses(folder)
        rate = json.loads(result.read_text())["train_samples_per_second"] if result.is_file() else None
        print(json.dumps({"run": name, "status": status, "samples/s": rate, "losses": curves[name]}), flush=True)
    save = max(1, steps // 3)
    name, gpus, extra = ("killed and resumed", 1, []) if cpu else ("killed and resumed", 2, [ZERO])
    folder = out / "killed"
    common += [f"output_dir={folder}", f"save_steps={save}", *extra]
    process = launch(NANO, out / "killed-1.log", gpus, 32, *common)
    while process.poll() is None and not (folder / f"checkpoint-{save}" / "trainer_state.json").is_file():
        time.sleep(0.05)
    time.sleep(1)
    kill_tree(process.pid)
    process.wait()
    reached = losses(folder)
    status = launch(NANO, out / "killed-2.log", gpus, 32, *common).wait()
    print(json.dumps({"run": name, "status": status, "before": reached, "losses": losses(folder)}), flush=True)


def kill_tree(pid: int) -> None:
    """SIGKILL a process and all below it."""
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if Path(f"/proc/{pid}").exists() else []
    os.kill(pid, signal.SIGKILL)
    for child in below:
        kill_tree(int(child))


def memory(out: Path) -> None:
    mazes, tiny, model = out / "mazes", out / "tiny", out / "7b"
    make = ("--out", mazes, "--split", "train", "--count", 8, "--formats", "cold_start", "--overwrite")
    tool("tools/make_mazes.py", *make)
    tool("tools/make_nano.py", "--out", tiny, "--corpus", mazes / "cold_start/maze.json")
    tool("-m", "tests.full_shape", tiny, model)
    gpus = len(GPUS)
    for length in LENGTHS:
        data, folder = out / f"data-{length}", out / f"out-{length}"
        real = conversations(data, length, TokenCounter(str(tiny)))
        overrides = [f"model_name_or_path={model}", f"dataset_dir={data}", "dataset=long", f"output_dir={folder}"]
        overrides += ["max_steps=4", "save_strategy=no", "logging_steps=1", "skip_memory_metrics=false"]
        overrides += ["preprocessing_num_workers=4", "cutoff_len=20000"]
        log = out / f"memory-{length}.log"
        with Peak() as peak:
            status = launch(FULL, log, gpus, 2 * gpus, *overrides).wait()
        path = folder / "train_results.json"
        results = json.loads(path.read_text()) if path.is_file() else {}
        estimated = [
            line.split(None, 1)[1] for line in log.read_text(errors="replace").splitlines() if "memory  " in line
        ]
        report = {"tokens": real, "status": status, "GPUs": gpus, "peak used GiB (nvidia-smi)": peak.gib}
        report |= {"estimate": estimated, "results": results, "losses": losses(folder)}
        print(json.dumps(report), flush=True)
        shutil.rmtree(folder, ignore_errors=True)


def conversations(out: Path, length: int, counter: TokenCounter) -> int:
    """32 conversations of about `length` tokens that draw a box a turn; returns the exact number."""
    profile = replace(default_profile(), budget=Budget(calls=200, images=200))
    image = Image.effect_noise((588, 588), 60).convert("RGB")
    example = Example("x", "How many?", (), "3", ("x.png",), QuestionType.NUMERICAL, frames=(image,))
    episode, number, sizes = Episode(example, profile), 0, [(588, 588)]
    while counter.count([(m.role, m.text()) for m in episode.messages], sizes) < length - 600:
        number += 1
        box = {"index": number, "bbox_2d": [number, number, number + 100, number + 80], "label": f"part {number}"}
        call = f"Action: Object Mapper\n```json\n{json.dumps([box])}\n```"
        step = episode.advance(Reply(f"<think> I look at image {number} and mark what I see there. </think> {call}"))
        assert not isinstance(step, Done), step
        sizes.append((588, 588))
    episode.advance(Reply("<think> Three. </think> Action: Answer\n<answer> 3 </answer>"))
    (out / "images").mkdir(parents=True, exist_ok=True)
    pictures = [picture for message in episode.messages for picture in message.pictures]
    for picture in pictures:
        picture.image.save(out / "images" / f"{picture.index}.png")
    turns = [(message.role, message.text()) for message in episode.messages]
    item = {
        "conversations": [{"role": role, "content": content} for role, content in turns],
        "images": [f"images/{picture.index}.png" for picture in pictures],
    }
    (out / "long.json").write_text(json.dumps([item] * 32))
    (out / "dataset_info.json").write_text(json.dumps({"long": {"file_name": "long.json", **DATASET_ENTRY}}))
    return counter.count(turns, sizes)


class Peak:
    """The most memory used on any GPU while it is open, in GiB, as nvidia-smi tells it."""

    def __enter__(self) -> Peak:
        self.gib, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        while not self._stop.wait(0.3):
            if shutil.which("nvidia-smi"):
                done = subprocess.run(command, capture_output=True, text=True)
                self.gib = max([self.gib, *(int(line) / 1024 for line in done.stdout.split())])


if __name__ == "__main__":
    target = Path(sys.argv[2]).absolute()
    target.mkdir(parents=True, exist_ok=True)
    {"nano": nano, "memory": memory}[sys.argv[1]](target)
