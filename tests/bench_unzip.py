"""unzip.py against `unzip -q` and `zipfile.extractall`: python -m tests.bench_unzip [--gigabytes 5] [--medium ext4]

Small images of 20 to 200 KB, deflated by a percent, as PNGs are. The three run in turn, each in a process, with the
archive in the page cache. Two times are told: until the program ends, and until everything is on the disk (`sync`);
unzip.py flushes the disk itself, so the second is the fair one. `--medium ext4` and `tmpfs` make a fresh file system
for each run (they need root): where files were just deleted ext4 is slow to make new ones, so runs would not be alike.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("unzip.py", "unzip -q", "extractall")


def make_archive(path: Path, size: int) -> int:
    """Returns the number of images."""
    random, written, number = Random(7), 0, 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        while written < size:
            length = random.randrange(20_000, 200_000)
            archive.writestr(f"vqa/{number // 500:04d}/{number:06d}.png", os.urandom(length) + bytes(length // 100))
            written, number = written + length, number + 1
    return number


class Medium:
    """Where to unpack to: an empty folder for each run."""

    def __init__(self, kind: str, work: Path, size: int) -> None:
        self.kind, self.work, self.size = kind, work, size
        self.folder = work / "out"
        self.image = work / "disk.img"

    def fresh(self) -> Path:
        self.clear()
        self.folder.mkdir()
        if self.kind == "ext4":
            with self.image.open("wb") as file:
                file.truncate(int(self.size * 1.15) + (1 << 28))
            options = "lazy_itable_init=0,lazy_journal_init=0"
            subprocess.run(["mkfs.ext4", "-q", "-E", options, str(self.image)], check=True)
            subprocess.run(["mount", "-o", "loop", str(self.image), str(self.folder)], check=True)
        elif self.kind == "tmpfs":
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={self.size * 2}", "none", str(self.folder)], check=True
            )
        os.sync()
        return self.folder

    def clear(self) -> None:
        if self.folder.exists():
            if self.folder.is_mount():
                subprocess.run(["umount", str(self.folder)], check=True)
            shutil.rmtree(self.folder)
        self.image.unlink(missing_ok=True)


def command(name: str, archive: Path, out: Path) -> list[str]:
    if name == "unzip.py":
        (out / "cold_start_part1.zip").symlink_to(archive)
        return [sys.executable, str(ROOT / "unzip.py"), str(out)]
    if name == "unzip -q":
        return ["unzip", "-q", str(archive), "-d", str(out)]
    code = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])"
    return [sys.executable, "-c", code, str(archive), str(out)]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--gigabytes", type=float, default=5)
    cli.add_argument("--runs", type=int, default=3)
    cli.add_argument("--medium", choices=("folder", "ext4", "tmpfs"), default="folder")
    cli.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is room for twice that"
    )
    args = cli.parse_args()
    names = [name for name in NAMES if name != "unzip -q" or shutil.which("unzip")]
    size = int(args.gigabytes * 1e9)
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="bench-unzip-") as work:
        archive, medium = Path(work) / "images.zip", Medium(args.medium, Path(work), size)
        count = make_archive(archive, size)
        print(
            f"{count:,} images, {size / 1e9:.1f} GB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True
        )
        ends: dict[str, list[float]] = {name: [] for name in names}
        synced: dict[str, list[float]] = {name: [] for name in names}
        try:
            for run in range(args.runs):
                for name in names[run % len(names) :] + names[: run % len(names)]:
                    out = medium.fresh()
                    arguments = command(name, archive, out)
                    started = time.perf_counter()
                    subprocess.run(arguments, check=True, stderr=subprocess.DEVNULL)
                    ends[name].append(time.perf_counter() - started)
                    os.sync()
                    synced[name].append(time.perf_counter() - started)
                    print(
                        f"run {run + 1}: {name}: {ends[name][-1]:.1f} s, on disk {synced[name][-1]:.1f} s", flush=True
                    )
        finally:
            medium.clear()
    for what, times in (("until it ends", ends), ("until it is on the disk", synced)):
        ours = statistics.median(times["unzip.py"])
        for name in names:
            median = statistics.median(times[name])
            print(
                f"{what}: {name}: median {median:.1f} s ({min(times[name]):.1f} to {max(times[name]):.1f}), "
                f"{size / median / 1e6:.0f} MB/s; unzip.py is {median / ours:.2f} times as fast"
            )


if __name__ == "__main__":
    main()
