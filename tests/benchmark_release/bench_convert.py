"""What converting a release costs, and that it survives being killed. Run by hand:

    python -m tests.benchmark_release.bench_convert [--folder /tmp/bench_convert] [--kills 20] [--scale 1]

Tables and videos have the shapes of the real ones: photographs of 640 x 480 as JPEG in row groups of 100 (SPAR-Bench)
or all in one row group (MMSI-Bench), H.264 videos of 640 x 480 (VSI-Bench). Prints the time with one worker and with
all, the peak of memory for a release and for one four times as long, and how many runs were killed (SIGKILL, at random
moments) before the last of them ended with the bytes of an undisturbed one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.benchmark_release import releases
from tests.conftest import ROOT
from vilasr.benchmark_release.spar import TASKS
from vilasr.benchmark_release.vsi import COUNTS


def photograph(number: int, width: int, height: int) -> Image.Image:
    """As much detail as a photograph has."""
    rng = np.random.default_rng(number)
    image = np.zeros((height, width, 3))
    for step in (4, 16, 64):
        coarse = rng.integers(0, 256, (height // step + 2, width // step + 2, 3), dtype=np.uint8)
        image += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) * (step / 84)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def unlike(shots: list[bytes], number: int) -> bytes:
    """One of them, with bytes behind its end that no other has: equal values would be kept once in a table."""
    return shots[number % len(shots)] + number.to_bytes(4, "little")


def spar(folder: Path, count: int, shots: list[bytes]) -> None:
    rows = releases.spar_rows([TASKS[number % len(TASKS)] for number in range(count)], images=False)
    for number, row in enumerate(rows):
        views = 3 if row["task"].endswith("_mv") else 1
        row["image"] = [{"bytes": unlike(shots, number * 3 + view), "path": None} for view in range(views)]
    releases.write_table(folder / "data/test-00000-of-00001.parquet", rows, releases.SPAR_TYPES, group=100)


def mmsi(folder: Path, count: int, shots: list[bytes]) -> None:
    rows = releases.mmsi(folder, count, images=False)
    for number, row in enumerate(rows):
        row["images"] = [unlike(shots, number * 2 + view) for view in range(2)]
    releases.write_table(folder / "MMSI_Bench.parquet", rows, releases.MMSI_TYPES, group=10**6)


def vsi(folder: Path, videos: int, frames: int) -> None:
    shots = [photograph(number, 704, 544) for number in range(4)]

    def draw(number: int) -> Image.Image:
        """A camera that moves over a photograph."""
        shift = number * 3 % 64
        return shots[number // 250 % 4].crop((shift, shift, shift + 640, shift + 480))

    scenes = [("scannet", f"scene{number:04d}_00") for number in range(videos)]
    rows = list(releases.vsi_rows(dict.fromkeys(COUNTS, videos), scenes))
    releases.write_table(folder / "test-00000-of-00001.parquet", rows, releases.VSI_TYPES)
    first = folder / "scannet" / f"{scenes[0][1]}.mp4"
    releases.mp4(first, frames, 640, 480, draw)
    for _, scene in scenes[1:]:
        shutil.copy(first, folder / "scannet" / f"{scene}.mp4")
    subprocess.run([sys.executable, "-m", "zipfile", "-c", "scannet.zip", "scannet"], cwd=folder, check=True)
    shutil.rmtree(folder / "scannet")


def command(name: str, source: Path, out: Path, workers: int) -> list[str]:
    tool = [sys.executable, str(ROOT / "tools/convert_benchmark.py"), name, str(source), "--out", str(out)]
    return [*tool, "--workers", str(workers), "--allow-other-counts"]


def timed(name: str, source: Path, out: Path, workers: int) -> tuple[float, float]:
    """Seconds, and the peak of resident memory in MiB."""
    shutil.rmtree(out, ignore_errors=True)
    began = time.monotonic()
    process = subprocess.Popen(command(name, source, out, workers), stderr=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:  # its own peak; that of wait4() starts with this process's size
        peak = max(peak, _peak(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0, f"{name} failed"
    return time.monotonic() - began, peak


def _peak(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return 0
    found = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(found[0].split()[1]) / 1024 if found else 0


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def killed(name: str, source: Path, out: Path, kills: int, seconds: float) -> None:
    """`seconds` is how long an undisturbed run takes."""
    rng, done = Random(name), 0
    for _ in range(kills):
        process = subprocess.Popen(command(name, source, out, 2), stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 0.8 + seconds / 6))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            done += 1
        process.wait()
    subprocess.run(command(name, source, out, 2), check=True, stderr=subprocess.DEVNULL)
    print(f"{name}: killed {done} times, then finished", end="", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/bench_convert"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--scale", type=float, default=1, help="of all sizes")
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    workers, scale, same = len(os.sched_getaffinity(0)), args.scale, True
    shots = [releases.encoded(photograph(n, 640, 480), "JPEG", quality=92) for n in range(16)]
    sizes = {"spar": int(300 * scale), "mmsi": int(520 * scale), "vsi": max(2, int(4 * scale))}
    for name, count in sizes.items():
        for factor in (1, 4):
            folder = args.folder / name / str(factor)
            if name == "vsi":
                vsi(folder, count * factor, 600)
            else:
                (spar if name == "spar" else mmsi)(folder, count * factor, shots)
        unit = "videos" if name == "vsi" else "items"
        out = args.folder / "out"
        for factor, number in ((1, 1), (1, workers), (4, workers)):
            seconds, peak = timed(name, args.folder / name / str(factor), out / name, number)
            print(f"{name}: {count * factor} {unit}, {number} workers: {seconds:.1f} s, {peak:.0f} MiB", flush=True)
        killed(name, args.folder / name / "4", out / f"{name} killed", args.kills, seconds)
        equal = digest(out / name) == digest(out / f"{name} killed")
        print(", the same bytes" if equal else ", OTHER BYTES")
        same &= equal
    shutil.rmtree(args.folder)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
