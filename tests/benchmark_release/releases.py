"""Small synthetic copies of the four releases: real parquet, JSON lines, zips and mp4, seeded."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vilasr.benchmark_release.mmsi import CATEGORIES
from vilasr.benchmark_release.spar import TASKS
from vilasr.benchmark_release.vsi import COUNTS
from vilasr.scoring.spar_bench import LOW, VIEW_CHANGE
from vilasr.scoring.vsi_bench import NUMBERS

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as `datasets` writes images
BITS = 8  # of a frame's number, as black and white columns
ODD = 'Größe? 距离 é\u2028 <image> <|im_start|> "A" {x} \\ \t 1,5'  # what must come through as it is


def picture(rng: Random, width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pictures(rng: Random, count: int) -> list[bytes]:
    sizes = [(rng.randint(30, 120), rng.randint(30, 120)) for _ in range(count)]
    return [encoded(picture(rng, *size), rng.choice(["PNG", "JPEG"])) for size in sizes]


def write_table(path: Path, rows: Sequence[dict], types: dict[str, pa.DataType], group: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(types.items())), path, row_group_size=group)


SPAR_TYPES = {
    "id": pa.int64(),
    "img_type": pa.string(),
    "format_type": pa.string(),
    "task": pa.string(),
    "source": pa.string(),
    "image": pa.list_(STRUCT),
    "question": pa.string(),
    "answer": pa.string(),
}


def spar_rows(tasks: Sequence[str], seed: int = 0, images: bool = True) -> list[dict]:
    rng, rows = Random(seed), []
    for number, task in enumerate(tasks):
        question, answer = f"{task} {ODD} {number}?", f"{rng.uniform(0.1, 9):.1f}"
        if task == VIEW_CHANGE:
            answer = f"move_right:{rng.uniform(0, 2):.1f},rotate_up:{rng.randint(0, 90)}"
        elif task in LOW:
            question += " Answer using a single number and nothing else."
        else:
            question += "\nA. left\nB. right\nC. up\nD. down\n"
            question += "Your answer can only include one of options A, B, C or D."
            answer = rng.choice("ABCD")
        count = rng.choice([2, 3]) if task.endswith("_mv") else 1
        cells = [{"bytes": data, "path": f"{number}_{n}.jpg"} for n, data in enumerate(pictures(rng, count))]
        rows.append(
            {
                "id": number,
                "img_type": "multi_view" if count > 1 else "single_view",
                "format_type": "fill" if task in LOW else "select",
                "task": task,
                "source": "scannet",
                "image": cells if images else [],
                "question": question,
                "answer": answer,
            }
        )
    return rows


def spar(folder: Path, tasks: Sequence[str] = TASKS, seed: int = 0, rows: list[dict] | None = None) -> list[dict]:
    """Two shards in `data/`."""
    rows = spar_rows(tasks, seed) if rows is None else rows
    half = len(rows) // 2
    for shard, part in enumerate((rows[:half], rows[half:])):
        write_table(folder / f"data/test-{shard:05d}-of-00002.parquet", part, SPAR_TYPES)
    return rows


MMSI_TYPES = {
    "id": pa.int64(),
    "images": pa.list_(pa.binary()),
    "question_type": pa.string(),
    "question": pa.string(),
    "answer": pa.string(),
    "thought": pa.string(),
}


def mmsi(folder: Path, count: int = 11, seed: int = 0, images: bool = True) -> list[dict]:
    rng, rows = Random(seed), []
    for number in range(count):
        category = CATEGORIES[number % len(CATEGORIES)]
        rows.append(
            {
                "id": number,
                "images": pictures(rng, 2 if category != "MSR" else 3) if images else [],
                "question_type": category,
                "question": f"Which way {number}? {ODD}\nOptions: A: left, B: right, C: back, D: front",
                "answer": rng.choice("ABCD"),
                "thought": "secret",
            }
        )
    write_table(folder / "MMSI_Bench.parquet", rows, MMSI_TYPES, group=1000)
    return rows


EVAL_TYPES = {
    "id": pa.string(),
    "text": pa.string(),
    "image": STRUCT,
    "oracle_answer": pa.string(),
    "oracle_option": pa.string(),
    "oracle_full_answer": pa.string(),
}


def spatialeval(folder: Path, count: int = 5, seed: int = 0, images: bool = True) -> list[dict]:
    """The three configurations; of `vqa` two shards, in which the real images stand among others."""
    rng, rows = Random(seed), []
    for number in range(2 * count):
        task = "spatialreal" if number % 2 else rng.choice(["spatialmap", "mazenav", "spatialgrid"])
        image = {"bytes": pictures(rng, 1)[0], "path": None} if images else None
        rows.append(
            {
                "id": f"{task}.{number}.0",
                "text": f"How many? {ODD} {number}\nAvailable options:\nA. 1\nB. 2\nC. 3",
                "image": image,
                "oracle_answer": "2",
                "oracle_option": rng.choice("ABC"),
                "oracle_full_answer": "B. 2",
            }
        )
    for shard, part in enumerate((rows[:count], rows[count:])):
        write_table(folder / f"vqa/test-{shard:05d}-of-00002.parquet", part, EVAL_TYPES)
    words = {key: value for key, value in EVAL_TYPES.items() if key != "image"}
    write_table(
        folder / "tqa/test-00000-of-00001.parquet",
        [{key: row[key] for key in words} | {"text": "in words"} for row in rows],
        words,
    )
    write_table(folder / "vtqa/test-00000-of-00001.parquet", [{**row, "text": "words"} for row in rows], EVAL_TYPES)
    return [row for row in rows if "spatialreal" in row["id"]]


def frame(number: int, width: int, height: int) -> Image.Image:
    """A frame that shows its number as columns of black and white, the lowest bit first."""
    columns = np.array([255 * (number >> bit & 1) for bit in range(BITS)], np.uint8)
    return Image.fromarray(columns[None]).resize((width, height), Image.Resampling.NEAREST).convert("RGB")


def number_in(image: Image.Image) -> int:
    """The number that a frame shows, after any coding and resizing."""
    grey, step = image.convert("L"), image.width / BITS
    return sum((grey.getpixel((int(step * (bit + 0.5)), image.height // 2)) > 127) << bit for bit in range(BITS))


def mp4(
    path: Path, frames: int, width: int = 96, height: int = 64, draw: Callable[[int], Image.Image] | None = None
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options={"crf": "20", "g": "12", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            image = draw(number) if draw else frame(number, width, height)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


SCENES = {("scannet", "scene0011_00"): 50, ("scannetpp", "09c1414f1b"): 20, ("arkitscenes", "41069021"): 7}


def vsi_rows(counts: dict[str, int], scenes: Sequence[tuple[str, str]], seed: int = 0) -> Iterator[dict]:
    rng, number = Random(seed), 0
    for task, count in counts.items():
        for _ in range(count):
            dataset, scene = scenes[number % len(scenes)]
            numeric = task in NUMBERS
            yield {
                "id": number,
                "dataset": dataset,
                "scene_name": scene,
                "question_type": task,
                "question": f"How far {number}? {ODD}",
                "ground_truth": f"{rng.uniform(1, 9):.1f}" if numeric else rng.choice("ABCD"),
                "options": None if numeric else ["A. chair", "B. table", f"C. {ODD}", "D. lamp"],
            }
            number += 1


def vsi(
    folder: Path, layout: str = "jsonl", zipped: bool = True, counts: dict[str, int] | None = None, seed: int = 0
) -> list[dict]:
    """`layout` of the table: "jsonl" or "parquet". Videos are of few frames, with their numbers to be seen."""
    rows = list(vsi_rows(counts or dict.fromkeys(COUNTS, 2), list(SCENES), seed))
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / "test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_table(folder / "test_debiased.parquet", rows[:3], VSI_TYPES)
    else:
        write_table(folder / "test-00000-of-00001.parquet", rows, VSI_TYPES)
    for (dataset, scene), frames in SCENES.items():
        path = folder / dataset / f"{scene}.mp4"
        mp4(path, frames)
        if zipped:
            with zipfile.ZipFile(folder / f"{dataset}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(path, f"{dataset}/{scene}.mp4")
            path.unlink()
            path.parent.rmdir()
    return rows


VSI_TYPES = {
    "id": pa.int64(),
    "dataset": pa.string(),
    "scene_name": pa.string(),
    "question_type": pa.string(),
    "question": pa.string(),
    "ground_truth": pa.string(),
    "options": pa.list_(pa.string()),
}
