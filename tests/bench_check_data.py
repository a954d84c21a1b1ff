"""How fast `tools/check_data.py` checks a large SFT file: python -m tests.bench_check_data [--items 100000]

The items are conversations of four to eight images, drawn from a pool of real PNG files; nothing is wrong with them.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.data_check.making import caption, drawn, our_profile
from tests.golden import answer, boxes, picture
from vilasr.prompts import PROFILE_NAME
from vilasr.sft_files import DATASET_ENTRY

ROOT = Path(__file__).resolve().parents[1]
THOUGHT = "I look for the things named in the question and compare how far each of them is from the door. "


def conversation(rng: random.Random, number: int, names: list[str], size: tuple[int, int]) -> dict[str, Any]:
    count = rng.randint(4, 8)
    inputs = rng.choice((1, 2, 4)) if count > 4 else 1
    question = "Which of these is nearest to the door?\nA. chair\nB. table\nC. lamp\nD. sofa"
    captions = "\n".join(caption(index, size) for index in range(1, inputs + 1))
    turns = [
        ("system", our_profile().system),
        ("user", f"{captions}\n{question}\nAnswer with the letter of the right option."),
    ]
    for index in range(inputs + 1, count + 1):
        parent = rng.randint(1, index - 1)
        x, y = rng.randint(0, 80), rng.randint(0, 60)
        marks = [(parent, [x, y, x + 40, y + 40], f"thing {number} {index} {k}") for k in range(rng.randint(1, 4))]
        turns.append(("assistant", boxes(*marks, thought=THOUGHT * rng.randint(2, 6))))
        turns.append(("user", drawn(index, parent, size)))
    turns.append(("assistant", answer(rng.choice("ABCD"), THOUGHT * 3)))
    return {
        "id": f"item-{number}",
        "conversations": [{"role": role, "content": text} for role, text in turns],
        "images": rng.sample(names, count),
    }


def make(folder: Path, items: int, pool: int) -> tuple[int, int]:
    """(images named, bytes of the file)"""
    rng, size = random.Random(0), (168, 140)
    (folder / "images").mkdir()
    names = [f"images/{number:05d}.png" for number in range(pool)]
    for number, name in enumerate(names):
        picture(*size, number).save(folder / name, compress_level=1)
    (folder / "dataset_info.json").write_text(json.dumps({"big": {**DATASET_ENTRY, "file_name": "big.json"}}))
    (folder / PROFILE_NAME).write_text(our_profile().source)
    images = 0
    with (folder / "big.json").open("w") as file:
        for number in range(items):
            record = conversation(rng, number, names, size)
            images += len(record["images"])
            file.write(("[\n" if number == 0 else ",\n") + json.dumps(record))
        file.write("\n]\n")
    return images, (folder / "big.json").stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--pool", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, size = make(folder, args.items, args.pool)
        print(f"{args.items} items, {images} images named, {args.pool} files, {size / 1e6:.0f} MB of JSON", flush=True)
        for workers in args.workers:
            for _ in range(args.runs):
                once(folder, args.items, images, workers)


def once(folder: Path, items: int, images: int, workers: int) -> None:
    """One run of the script, which prints its own peak memory: the largest of its processes."""
    start = time.perf_counter()
    command = [sys.executable, "tools/check_data.py", str(folder), "--workers", str(workers), "image_max_pixels=351232"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"\b{items} items, {images} images", done.stdout), done.stdout
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{workers} workers: {seconds:.1f} s, {items / seconds:.0f} items/s, {images / seconds:.0f} images/s, "
        f"largest process so far {peak:.0f} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
