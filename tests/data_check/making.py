"""Small SFT and question files, clean or broken in one place."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from tests.golden import answer, boxes, picture
from vilasr.data_check import Limits, Options, Report, check, of_folder
from vilasr.prompts import PROFILE_NAME, Profile, default_profile
from vilasr.sft_files import DATASET_ENTRY

LIMITS = Limits(351232, 3136)
SIZE = (168, 140)


@cache
def our_profile() -> Profile:
    return default_profile()


def caption(index: int, size: tuple[int, int] = SIZE) -> str:
    return f"<image>\nImage {index}: {size[0]} wide, {size[1]} high."


def drawn(index: int, parent: int, size: tuple[int, int] = SIZE) -> str:
    profile = our_profile()
    line = profile.feedback["drawn"].format(image="<image>", index=index, parent=parent, width=size[0], height=size[1])
    return f"{line}\nGo on."


def opening(size: tuple[int, int] = SIZE) -> str:
    question = "Which is nearest?\nA. chair\nB. table\nC. lamp"
    return f"{caption(1, size)}\n{question}\nAnswer with the letter of the right option."


def item(name: str = "one", size: tuple[int, int] = SIZE, **changes: Any) -> dict[str, Any]:
    """A clean item; `changes` are other fields."""
    turns = [
        ("system", our_profile().system),
        ("user", opening(size)),
        ("assistant", boxes((1, [10, 10, 60, 60], "chair"))),
        ("user", drawn(2, 1, size)),
        ("assistant", answer("B")),
    ]
    return {
        "id": name,
        "conversations": [{"role": role, "content": text} for role, text in turns],
        "images": [f"images/{name}_1.png", f"images/{name}_2.png"],
        **changes,
    }


def with_turn(record: dict[str, Any], number: int, **values: Any) -> dict[str, Any]:
    """The item with other values in one of its turns."""
    turns = [dict(turn) for turn in record["conversations"]]
    turns[number] |= values
    return {**record, "conversations": turns}


def question(name: str = "q", **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "question": "Which is nearest?",
        "options": ["chair", "table", "lamp"],
        "answer": "B",
        "image_path": [f"images/{name}.png"],
        "question_type": "multiple choice",
        "data_type": "vqa",
        **changes,
    }


def save_images(folder: Path, names: list[str], size: tuple[int, int] = SIZE) -> None:
    for path in dict.fromkeys(folder / name for name in names):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(*size, seed=3).save(path)


def write(folder: Path, items: list[Any] | str, *, images: bool = True, size: tuple[int, int] = SIZE) -> Path:
    """`sft.json` with its images, dataset_info.json and profile; the file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_info.json").write_text(json.dumps({"sft": {**DATASET_ENTRY, "file_name": "sft.json"}}))
    (folder / PROFILE_NAME).write_text(our_profile().source)
    if images and isinstance(items, list):
        for one in items:
            names = one.get("images") if isinstance(one, dict) else None
            found = [name for name in names if isinstance(name, str) and name] if isinstance(names, list) else []
            save_images(folder, found, size)
    path = folder / "sft.json"
    path.write_text(items if isinstance(items, str) else json.dumps(items, ensure_ascii=False), encoding="utf-8")
    return path


def run(folder: Path, **options: Any) -> Report:
    return check(of_folder(folder), Options(**({"limits": LIMITS} | options)))


def told(report: Report) -> list[tuple[str, int | None, str]]:
    """(code, item, field) of every problem."""
    return [(problem.code, problem.item, problem.field) for problem in report.problems]
