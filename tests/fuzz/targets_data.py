"""Data files: questions, conversations, dataset_info.json, and the reader below them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from tests.data_check import making
from tests.fuzz.contract import Target, Violation, check_message
from tests.fuzz.mutation import bytes_mutator, json_mutator
from vilasr.data_check import check, of_folder
from vilasr.data_check.dataset_info import read_dataset_info
from vilasr.data_check.options import Options
from vilasr.profile_checks import ProfileError
from vilasr.prompts import default_profile
from vilasr.records import BadLine, read_records
from vilasr.sft_files import DATASET_ENTRY
from vilasr.tasks import BrokenItem, DataError, Example, parse_example, read_examples

_QUESTIONS = [
    {
        "id": "q1", "question": "Which is nearer?", "options": ["A. chair", "B. table"], "answer": "B", "grid_size": 3,
        "image_path": ["a.png", "b.png"], "problem_type": "multiple choice", "original_question_type": "rel_distance",
        "data_type": "multi_view",
    },
    {"question": "How many? A. 1\nB. 2", "answer": 3, "image_path": "a.png", "question_type": "multiple choice"},
    {"question": "How far?", "answer": "<answer>2.5</answer>", "image_path": ["a.png"], "question_type": "regression"},
    {"question": "Move?", "answer": "move_right:1", "image_path": ["a"], "problem_type": "vci", "grid_size": [4, 4]},
]  # fmt: skip


def _lines(values: list) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def _question_seeds() -> tuple[bytes, ...]:
    return (json.dumps(_QUESTIONS).encode(), _lines(_QUESTIONS), json.dumps(_QUESTIONS, indent=1).encode())


def record(data: bytes, _: Path) -> object:
    """One item as it comes out of a file."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    try:
        example = parse_example(value, "maze-000001", "maze")
    except DataError as exc:
        check_message(str(exc), None)
        return str(exc)
    return _use(example)


def _use(example: Example) -> tuple[str, ...]:
    """What everything does with an item."""
    return example.id, example.digest(), example.caption_kind, str(example.is_maze)


def question_file(data: bytes, folder: Path) -> object:
    path = folder / "maze.json"
    path.write_bytes(data)
    found = []
    for item in read_examples(path):
        if isinstance(item, BrokenItem):
            check_message(item.error, folder)
            found.append(item.error)
        else:
            found.append(_use(item))
    return found


def records(data: bytes, folder: Path) -> object:
    """Read piece by piece it is what `json.loads` makes of it, however small the pieces."""
    path = folder / "list.json"
    path.write_bytes(data)
    got, error = [], ""
    try:
        got = [value for value in read_records(path, chunk=1 + sum(data[:8]) % 40)]
    except (ValueError, RecursionError) as exc:
        error = type(exc).__name__
    text = None
    try:
        text = data.decode("utf-8-sig")
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, list) and text is not None and (error or repr(got) != repr(whole)):
        raise Violation(f"{error or got!r:.200} where json.loads gives {whole!r:.200}")
    if text is not None and text.lstrip(" \t\r\n").startswith("[") and whole is None and not error:
        raise Violation(f"takes what json.loads refuses: {got!r:.300}")
    return [value.message if isinstance(value, BadLine) else value for value in got], error


@cache
def _sft() -> tuple[bytes, ...]:
    items = [making.item("one"), making.item("two", images=["images/one_1.png", "images/one_2.png"])]
    return json.dumps(items).encode(), _lines(items), json.dumps(items, indent=1, ensure_ascii=False).encode()


@cache
def _picture() -> bytes:
    import io

    from tests.golden import picture

    file = io.BytesIO()
    picture(168, 140, 1).save(file, "PNG")
    return file.getvalue()


def _lay_out(folder: Path) -> None:
    """All the files of a data folder, once; the fuzzed one is written over them."""
    if not (folder / "images").is_dir():
        (folder / "images").mkdir(parents=True)
        for name in ("one_1.png", "one_2.png", "q.png"):
            (folder / "images" / name).write_bytes(_picture())
        (folder / "vilasr_profile.yaml").write_text(default_profile().source)
    (folder / "dataset_info.json").write_text(json.dumps({"sft": {**DATASET_ENTRY, "file_name": "sft.json"}}))


def _report(folder: Path) -> object:
    report = check(of_folder(folder), Options(limits=making.LIMITS))
    told = []
    for problem in report.problems:
        if len(problem.message) > 4000:
            raise Violation(f"{problem.code}: a message of {len(problem.message)} characters")
        told.append((problem.code, problem.item, problem.field, problem.message))
    json.dumps(report.to_json({}))
    return told


def sft_file(data: bytes, folder: Path) -> object:
    _lay_out(folder)
    (folder / "sft.json").write_bytes(data)
    return _report(folder)


def rl_file(data: bytes, folder: Path) -> object:
    _lay_out(folder)
    (folder / "sft.json").write_bytes(b"[]")
    (folder / "rl").mkdir(exist_ok=True)
    (folder / "rl" / "vilasr_rl_data.jsonl").write_bytes(data)
    return _report(folder)


def _rl() -> tuple[bytes, ...]:
    items = [
        making.question("q"),
        making.question("r", image_path=["images/q.png"], question_type="numerical", answer=3),
    ]
    return _lines(items), json.dumps(items).encode()


def dataset_info(data: bytes, folder: Path) -> object:
    _lay_out(folder)
    (folder / "sft.json").write_bytes(_sft()[0])
    (folder / "dataset_info.json").write_bytes(data)
    entries = read_dataset_info(folder)
    told = []
    for name in entries:
        try:
            told.append(repr(entries[name]))
        except DataError as exc:
            check_message(str(exc), folder)
            told.append(str(exc))
        entries.file(name)
    return told, _report(folder)


def _infos() -> tuple[bytes, ...]:
    plain = {"file_name": "sft.json"}
    return (
        json.dumps(
            {"sft": {**DATASET_ENTRY, "file_name": "sft.json"}, "b": plain, "c": {"hf_hub_url": "x/y"}}
        ).encode(),
        json.dumps({"a_cold_start": {**DATASET_ENTRY, "file_name": "../sft.json", "formatting": "alpaca"}}).encode(),
    )


TARGETS = (
    Target(
        "question-record", lambda: tuple(json.dumps(one).encode() for one in _QUESTIONS), record, json_mutator, often=20
    ),
    Target("question-file", _question_seeds, question_file, json_mutator, (DataError,), often=3),
    Target("question-bytes", _question_seeds, question_file, bytes_mutator, (DataError,), often=4),
    Target("records", _question_seeds, records, json_mutator, often=5, named=False),
    Target("records-bytes", _question_seeds, records, bytes_mutator, often=8, named=False),
    Target("sft-file", _sft, sft_file, json_mutator, (DataError, ProfileError), often=0.3),
    Target("sft-bytes", _sft, sft_file, bytes_mutator, (DataError, ProfileError), often=0.3),
    Target("rl-file", _rl, rl_file, json_mutator, (DataError, ProfileError), often=0.4),
    Target("dataset-info", _infos, dataset_info, json_mutator, (DataError, ProfileError), often=0.3),
)
