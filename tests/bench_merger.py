"""utils/model_merger.py against verl's merger: python -m tests.bench_merger --model NANO [--shape 3b] [--runs 3]

Shards of a Qwen2.5-VL of the given shape with random weights, as FSDP2 saves them. The two programs merge them in turn,
each in a process of its own, imports and all; their results are compared tensor by tensor after the first run. Peak
memory is the kernel's (ru_maxrss), mapped files included. Two times are told: until the program ends, and until all is
on the disk (`sync`); ours flushes the disk itself. Needs verl, and room for the shards and twice the model.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.merging.synthetic import SHAPES, make_folder

ROOT = Path(__file__).resolve().parents[1]
VERL = {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "vilasr.training.compat,vilasr.training.cpu_platform",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
}
WARM = """
import verl.model_merger.fsdp_model_merger
import transformers; transformers.Qwen2_5_VLForConditionalGeneration
from vilasr.merging import merging
"""


@dataclass(frozen=True)
class Run:
    """Seconds and bytes."""

    ended: float
    synced: float
    cpu: float
    peak: int


def command(name: str, actor: Path, out: Path) -> list[str]:
    places = ["--local_dir", str(actor), "--target_dir", str(out)]
    if name == "ours":
        return [sys.executable, str(ROOT / "utils" / "model_merger.py"), *places]
    return [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp", *places]


def measure(arguments: list[str]) -> Run:
    os.sync()
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(arguments, env={**os.environ, **VERL}, stdout=log, stderr=log, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        ended = time.perf_counter() - started
        if process.returncode:
            log.seek(0)
            raise SystemExit(log.read().decode(errors="replace")[-3000:])
    os.sync()
    synced = time.perf_counter() - started
    return Run(ended, synced, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def compare(one: Path, other: Path) -> int:
    """The number of tensors, all equal in name, dtype and every bit."""
    from safetensors import safe_open

    def places(folder: Path) -> dict[str, Path]:
        found = {}
        for path in folder.glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                found |= dict.fromkeys(file.keys(), path)
        return found

    first, second = places(one), places(other)
    assert first.keys() == second.keys(), sorted(first.keys() ^ second.keys())[:5]
    for name in first:
        with safe_open(first[name], "pt") as a, safe_open(second[name], "pt") as b:
            x, y = a.get_tensor(name), b.get_tensor(name)
            assert (x.dtype, x.shape) == (y.dtype, y.shape), name
            assert x.equal(y), name
    return len(first)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--model", type=Path, required=True, help="a small model folder: tokenizer and processor of it")
    cli.add_argument("--shape", choices=list(SHAPES), default="3b")
    cli.add_argument("--world", type=int, default=4)
    cli.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of the shards")
    cli.add_argument("--runs", type=int, default=3)
    cli.add_argument("--only", choices=("ours", "verl"), help="where memory is too small for both")
    cli.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    args = cli.parse_args()
    names = [args.only] if args.only else ["ours", "verl"]
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="bench-merger-") as work:
        source = Path(work) / "global_step_1"
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(work) / "bytecode")  # as where a program was started before
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        subprocess.run([sys.executable, "-c", WARM], check=True, env={**os.environ, **VERL}, capture_output=True)
        make_folder(source, args.shape, args.model)
        for rank in range(args.world):
            maker = [sys.executable, "-m", "tests.merging.synthetic", source, rank, args.world, args.dtype]
            subprocess.run([*map(str, maker)], check=True, cwd=ROOT)
        size = sum(path.stat().st_size for path in (source / "actor").glob("*.pt"))
        print(f"{args.shape}, {args.world} x {args.dtype}: {size / 1e9:.1f} GB, {os.cpu_count()} cores, "
              f"load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
        results: dict[str, list[Run]] = {name: [] for name in names}
        for number in range(args.runs):
            for name in names if number % 2 == 0 else names[::-1]:
                out = Path(work) / name
                shutil.rmtree(out, ignore_errors=True)
                run = measure(command(name, source / "actor", out))
                results[name].append(run)
                print(f"run {number + 1}: {name}: {run.ended:.1f} s, on disk {run.synced:.1f} s, "
                      f"{run.cpu:.1f} s of CPU, peak {run.peak / 1e9:.2f} GB", flush=True)  # fmt: skip
            if len(names) == 2 and number == 0:
                # In a process of its own: a child's peak begins with the memory of the one that started it.
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    same = pool.apply(compare, (Path(work) / "ours", Path(work) / "verl"))
                print(f"{same} tensors, bit for bit the same", flush=True)
    for what in ("ended", "synced", "cpu", "peak"):
        medians = {name: statistics.median(getattr(run, what) for run in runs) for name, runs in results.items()}
        unit = 1e9 if what == "peak" else 1
        for name, runs in results.items():
            values = [getattr(run, what) / unit for run in runs]
            print(f"{what}: {name}: median {medians[name] / unit:.2f} ({min(values):.2f} to {max(values):.2f})")
        if len(medians) == 2:
            print(f"{what}: ours / verl = {medians['ours'] / medians['verl']:.2f}")


if __name__ == "__main__":
    main()
