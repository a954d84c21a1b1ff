"""How well copies of test pictures are found, and how fast: python -m tests.bench_leaks [--mazes 2000] [--imagehash]

Recall: each picture is changed in each way and looked for among the originals. False positives: mazes of the train
split against mazes of the test split, which share no layout, and scenes against other scenes: every match is false.
Scenes are drawn at random (smooth colours, shapes, noise of many scales with a fall-off as in photographs): there are
no photographs here. Speed: random thumbnails. `--imagehash` (which must be installed) counts, for its hashes, the false
pairs of mazes within the distance that finds 98 % of the copies. `--runs 20000`: what a second run, and others at the
same time, save by the cache.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from tests.golden import picture
from vilasr.data_engine.benchmarks import read_benchmarks
from vilasr.data_engine.image_hash import SIDE, PictureSet, thumbnail
from vilasr.data_engine.leaks import compare, make_index
from vilasr.data_engine.thumbnails import Thumbnails
from vilasr.maze_layouts import Maze, Split, around, tree_from
from vilasr.mazes import MazeQuestion, Plan, draw_question, make_question
from vilasr.tasks import Example, QuestionType

Change = Callable[[Image.Image], Image.Image]
MAZES = {84: (3, 4, 5, 6), 168: tuple(range(3, 9)), 588: tuple(range(3, 9))}  # cells a side; 84 holds no more


def noise(rng: np.random.Generator, width: int, height: int, fall: float) -> np.ndarray:
    """Of seven octaves, each `fall` times as strong as the one before."""
    total = np.zeros((height, width, 3))
    for octave in range(1, 8):
        small = rng.integers(0, 256, (2**octave, 2**octave, 3), dtype=np.uint8)
        large = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        total += (np.asarray(large, float) - 128) * fall**octave
    return total


def scene(seed: int, width: int = 640, height: int = 480) -> Image.Image:
    """One of four kinds: smooth colours, noise, noise with shapes, shapes with the noise of a sensor."""
    rng = np.random.default_rng(seed)
    if seed % 4 == 0:
        return picture(width, height, seed)
    texture = noise(rng, width, height, rng.uniform(0.35, 0.8))
    pixels = rng.integers(50, 206, 3) + texture * rng.uniform(15, 60) / texture.std()
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if seed % 4 > 1:
        draw = ImageDraw.Draw(image)
        for _ in range(rng.integers(5, 40)):
            x, y = int(rng.integers(width)), int(rng.integers(height))
            w, h = int(rng.integers(5, width // 3)), int(rng.integers(5, height // 3))
            colour = tuple(int(v) for v in rng.integers(0, 256, 3))
            (draw.rectangle if rng.random() < 0.5 else draw.ellipse)((x, y, x + w, y + h), fill=colour)
    if seed % 4 == 3:
        grain = rng.normal(0, rng.uniform(2, 12), (height, width, 1))
        image = Image.fromarray((np.asarray(image, float) + grain).clip(0, 255).astype(np.uint8))
    return image


def smooth(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """A wall, a sky: hardly more than a few shades."""
    rng = np.random.default_rng(seed)
    shades = noise(rng, width, height, rng.uniform(0.2, 0.35))
    pixels = rng.integers(60, 190) + shades.mean(2) * rng.uniform(15, 50) / shades.mean(2).std()
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")


def saved(image: Image.Image, format: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format, **options)
    return Image.open(file).convert("RGB")


def scaled(image: Image.Image, factor: float) -> Image.Image:
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC)


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Shares of the sides cut off."""
    w, h = image.size
    return image.crop((round(w * left), round(h * top), w - round(w * right), h - round(h * bottom)))


CHANGES: dict[str, Change] = {
    "JPEG 75": lambda image: saved(image, "JPEG", quality=75),
    "JPEG 50": lambda image: saved(image, "JPEG", quality=50),
    "PNG": lambda image: saved(image, "PNG"),
    "WebP 80": lambda image: saved(image, "WEBP", quality=80),
    "size x 0.5": lambda image: scaled(image, 0.5),
    "size x 0.75": lambda image: scaled(image, 0.75),
    "size x 1.5": lambda image: scaled(image, 1.5),
    "size x 0.5, JPEG 50": lambda image: saved(scaled(image, 0.5), "JPEG", quality=50),
    "squashed to 504 x 364": lambda image: image.resize((504, 364), Image.Resampling.BICUBIC),
    "2 % off the left": lambda image: cropped(image, 0.02, 0, 0, 0),
    "1 % off all sides": lambda image: cropped(image, 0.01, 0.01, 0.01, 0.01),
    "2 % off all sides": lambda image: cropped(image, 0.02, 0.02, 0.02, 0.02),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "brighter by 10 %": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "darker by 10 %": lambda image: ImageEnhance.Brightness(image).enhance(0.9),
    "contrast + 10 %": lambda image: ImageEnhance.Contrast(image).enhance(1.1),
}


def questions(split: Split, side: int, count: int) -> list[MazeQuestion]:
    return [make_question(Plan(split, 0, MAZES[side]), number) for number in range(count)]


def maze_pictures(split: Split, side: int, count: int) -> list[Image.Image]:
    return [draw_question(question, side) for question in questions(split, side, count)]


def one_wall_moved(maze: Maze, rng: Random) -> Maze:
    """The least by which two layouts differ: one passage closed, another opened."""
    cells = [(row, column) for row in range(maze.size) for column in range(maze.size)]
    walls = sorted({(min(a, b), max(a, b)) for a in cells for b in around(a, maze.size)} - maze.passages)
    while True:
        changed = Maze(maze.size, (maze.passages - {rng.choice(sorted(maze.passages))}) | {rng.choice(walls)})
        if len(tree_from(changed, cells[0])) == len(cells):
            return changed


def taken_for_copies(size: int, side: int, count: int) -> float:
    """The share of mazes of `size` cells a side that count as copies once a wall was moved."""
    found, rng = 0, Random(size)
    for number in range(count):
        question = make_question(Plan(Split.TEST, 0, (size,)), number)
        changed = replace(question, maze=one_wall_moved(question.maze, rng))
        one, other = (thumbnail(draw_question(each, side)) for each in (question, changed))
        found += len(PictureSet([one]).copies([other])[0])
    return found / count


def recall(images: Sequence[Image.Image], change: Change) -> float:
    known = PictureSet([thumbnail(image) for image in images])
    found = known.copies([thumbnail(change(image)) for image in images])
    return sum(any(one.number == n for one in near) for n, near in enumerate(found)) / len(images)


def false_pairs(ours: Sequence[Image.Image], others: Sequence[Image.Image]) -> int:
    found = PictureSet([thumbnail(image) for image in others])
    wanted = [thumbnail(image) for image in ours]
    return sum(len(near) for at in range(0, len(wanted), 64) for near in found.copies(wanted[at : at + 64]))


def as_example(question: MazeQuestion) -> Example:
    return Example(
        question.id, question.text, question.options, question.answer, (question.id,), QuestionType.MULTIPLE_CHOICE
    )


def words_alone(count: int) -> int:
    """Training mazes that would be dropped if no picture of the benchmark were there."""
    index = make_index((as_example(question), []) for question in questions(Split.TEST, 588, count))
    train = questions(Split.TRAIN, 588, count)
    return sum(compare(as_example(question), [], index) is not None for question in train)


def speed(pictures: int, wanted: int) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (pictures, 8, 8), dtype=np.uint8)
    thumbs = list(coarse.repeat(SIDE // 8, 1).repeat(SIDE // 8, 2))
    start = time.perf_counter()
    known = PictureSet(thumbs)
    print(f"{pictures} thumbnails in a set: {time.perf_counter() - start:.1f} s")
    for batch in (1, 16):
        start, done = time.perf_counter(), 0
        while done < wanted and time.perf_counter() - start < 20:
            assert all(near for near in known.copies(thumbs[done : done + batch]))
            done += batch
        rate = done / (time.perf_counter() - start)
        print(f"looked up by {batch}: {rate:.0f} pictures a second, each with one copy in the set")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.jpg" for number in range(64)]
        for number, path in enumerate(paths):
            scene(number).save(path, quality=90)
        cache = Path(folder) / "cache.npz"
        for name in ("read", "from the cache"):
            kept = Thumbnails([cache])
            start = time.perf_counter()
            kept.of(paths)
            print(f"640 x 480 JPEG files {name}: {len(paths) / (time.perf_counter() - start):.0f} a second")
            kept.save()


def runs(pictures: int, processes: int = 4) -> None:
    """A folder of so many pictures in questions of 16, read for the first time, again, and by several at once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        base = [scene(seed, 320, 240) for seed in range(64)]
        for number in range(pictures):  # each its own bytes
            base[number % 64].save(folder / "images" / f"{number}.jpg", quality=50 + number // 64 % 45)
        rows = [
            {
                "id": str(at), "question": f"How many ({at})?", "answer": "3", "problem_type": "regression",
                "image_path": [f"images/{n}.jpg" for n in range(at, min(at + 16, pictures))],
            }
            for at in range(0, pictures, 16)
        ]  # fmt: skip
        (folder / "videos.json").write_text(json.dumps(rows))
        cache = folder / "cache.npz"
        for told in ("first run", "second run"):
            start = time.perf_counter()
            decoded = read_benchmarks(folder, caches=[cache]).decoded
            print(f"{pictures} pictures of 320 x 240, {told}: {time.perf_counter() - start:.1f} s, {decoded} decoded")
        print(f"the cache: {cache.stat().st_size / 1e6:.1f} MB", flush=True)
        cache.unlink()
        start = time.perf_counter()
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            decoded = list(pool.map(_decoded, [folder] * processes, [cache] * processes))
        passed = time.perf_counter() - start
        print(f"{processes} processes at once, without a cache: {passed:.1f} s, {sorted(decoded)} decoded")


def _decoded(folder: Path, cache: Path) -> int:
    return read_benchmarks(folder, caches=[cache]).decoded


def with_imagehash(count: int) -> None:
    import imagehash  # type: ignore[import-not-found]  # no dependency: for whoever compares

    used = ("JPEG 50", "size x 0.5", "2 % off the left", "1 % off all sides", "brighter by 10 %")
    hashes = {
        f"{f.__name__} {n * n}": partial(f, hash_size=n) for f in (imagehash.phash, imagehash.dhash) for n in (8, 16)
    }
    for name, make in hashes.items():
        for side in MAZES:
            test = maze_pictures(Split.TEST, side, count)
            known = np.stack([make(image).hash.ravel() for image in test])
            train = np.stack([make(image).hash.ravel() for image in maze_pictures(Split.TRAIN, side, count)])
            away = np.stack([(row != known).sum(1) for row in train])
            some = test[:100]
            bits = [
                int(np.count_nonzero(make(CHANGES[change](image)).hash.ravel() != row))
                for change in used
                for image, row in zip(some, known, strict=False)
            ]
            limit = int(np.quantile(bits, 0.98))
            print(
                f"imagehash {name}, mazes of {side}: {limit} bits find 98 % of the copies, and {(away <= limit).sum()} "
                f"of {count}^2 pairs falsely, with {(away <= limit).any(1).sum()} of {count} training mazes"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mazes", type=int, default=2000, help="of each split and size")
    parser.add_argument("--scenes", type=int, default=1000, help="on each side")
    parser.add_argument("--copies", type=int, default=200, help="pictures that are changed")
    parser.add_argument("--index", type=int, default=90_000, help="test pictures, for the speed")
    parser.add_argument("--lookups", type=int, default=4000, help="at most so many, for the speed")
    parser.add_argument("--imagehash", action="store_true")
    parser.add_argument("--runs", type=int, metavar="PICTURES", help="only: a folder of so many, read again and again")
    args = parser.parse_args()
    if args.runs:
        runs(args.runs)
        return
    if args.imagehash:
        with_imagehash(args.mazes)
        return
    images = {"scenes": [scene(seed) for seed in range(args.copies)]}
    images["smooth"] = [smooth(seed) for seed in range(args.copies)]
    images |= {f"mazes {side}": maze_pictures(Split.TEST, side, args.copies) for side in MAZES}
    print(f"Copies found, of {args.copies}", *(f"{name:>10}" for name in images))
    for name, change in CHANGES.items():
        print(f"{name:21}", *(f"{recall(some, change):10.1%}" for some in images.values()), flush=True)
    print("False matches")
    for side in MAZES:
        number = false_pairs(*(maze_pictures(split, side, args.mazes) for split in Split))
        print(f"mazes of {side} pixels: {number} of {args.mazes}^2 pairs", flush=True)
    for side, sizes in MAZES.items():
        shares = [f"{size}: {taken_for_copies(size, side, 100):.0%}" for size in sizes]
        print(f"mazes of {side} pixels with one wall moved, by cells a side:", *shares, flush=True)
    drawn = [scene(seed, 320, 240) for seed in range(2 * args.scenes)]
    number = false_pairs(drawn[: args.scenes], drawn[args.scenes :])
    print(f"scenes: {number} of {args.scenes}^2 pairs", flush=True)
    drawn = [smooth(seed) for seed in range(2 * args.scenes)]
    number = false_pairs(drawn[: args.scenes], drawn[args.scenes :])
    print(f"smooth pictures: {number} of {args.scenes}^2 pairs", flush=True)
    print(f"mazes by words alone, were no test picture there: {words_alone(args.mazes)} of {args.mazes}", flush=True)
    speed(args.index, args.lookups)


if __name__ == "__main__":
    main()
