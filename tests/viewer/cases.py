"""Results to look at: the golden traces, and one whose every text is an attack."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.golden import Golden, answer, boxes, golden_traces, lines, make_example
from vilasr.episode import Episode
from vilasr.prompts import default_profile
from vilasr.results import broken_row, result_row
from vilasr.traces import StopReason
from vilasr.viewer import FrameOptions, Frames, collect, write_page

BIDI = "\u202egnp.exe\u2066\u200f\u0000\u001b[31m\u2028"
ATTACKS = (
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "<svg/onload=window.hacked=1>",
    "\"' onmouseover=window.hacked=1 x='",
    "javascript:window.hacked=1",
    "<!--<script>window.hacked=1//",
    "]]><iframe srcdoc='<script>parent.hacked=1</script>'>",
    "{{constructor.constructor('window.hacked=1')()}}",
    "<style>*{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=http://example.invalid/'>",
    "<link rel=stylesheet href=http://example.invalid/x.css>",
    "a" * 30_000,
    "\u0301" * 500,
)
ATTACK = "\n".join((*ATTACKS, BIDI))


def golden_rows(folder: Path, goldens: Sequence[Golden] = ()) -> list[dict[str, Any]]:
    """Rows of the traces, with the questions' images saved in the folder."""
    rows = []
    for golden in goldens or golden_traces():
        files = []
        for name, frame in zip(golden.example.image_paths, golden.example.frames, strict=True):
            frame.save(folder / name)
            files.append(str(folder / name))
        rows.append(result_row(golden.example, golden.run().trace(), "c", tuple(files)))
    return rows


def failed_rows() -> list[dict[str, Any]]:
    """An item that could not be read, and one whose engine failed."""
    example = make_example("engine_error", [(56, 56)])
    episode = Episode(example, default_profile())
    episode.close(StopReason.ENGINE_ERROR, "refused")
    return [
        broken_row("unread", "", "maze", "c", "maze.json: item 3: image_path: is missing"),
        result_row(example, episode.trace(), "c"),
    ]


def hostile_row(folder: Path) -> dict[str, Any]:
    """Every text that a model, a data file or a hand-made results file could bring is an attack."""
    short = [attack[:80] for attack in ATTACKS]
    golden = Golden(
        "hostile",
        make_example("hostile", [(168, 168)], question=ATTACK, options=tuple(ATTACKS), task=ATTACKS[0]),
        (
            boxes(*((1, [5.0 * i, 5.0 * i, 5.0 * i + 60, 5.0 * i + 60], label) for i, label in enumerate(short))),
            lines((1, [3, 3], [150, 150], BIDI.replace("\0", "") or "x"), thought=ATTACK),
            ATTACK,
            answer(ATTACKS[1] + BIDI, thought=ATTACK),
        ),
    )
    (row,) = golden_rows(folder, [golden])
    row["id"] = ATTACKS[1] + BIDI
    row["truth"] = ATTACKS[2]
    row["detail"] = ATTACK
    row["feedback"] = ATTACKS[3]
    row["steps"][2] |= {"error": ATTACKS[0], "departures": [ATTACKS[4]], "finish_reason": ATTACKS[5]}
    row["steps"][1]["action"] = ATTACKS[6]
    row["events"].append({"step": 2, "kind": "clamped", "detail": ATTACK})
    return row


def write_rows(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """The folder with these rows as its results."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def answered_rows(folder: Path, answers: Mapping[str, Sequence[str]], **fields: Any) -> list[dict[str, Any]]:
    """Rows of items that draw one box and answer; an answer for each sample, B is right. `fields` are of all items."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for item, samples in answers.items():
        example = make_example(item, [(168, 168)], **fields)
        for number, letter in enumerate(samples):
            replies = (boxes((1, [20, 20, 80, 80], f"box of {item}"), thought=f"I think {letter}."), answer(letter))
            rows += [{**row, "sample": number} for row in golden_rows(folder, [Golden(item, example, replies)])]
    return rows


def write_report(path: Path, folders: Sequence[Path], **options: Any) -> Path:
    report = collect(folders)
    write_page(path, report, Frames(report, FrameOptions(**options)), "runs")
    return path
