"""Checks the episodes of a GRPO run token by token: masks, replies, images and log-probabilities.

    python -m tests.exactness RUN_FOLDER [--least 200] [--model PATH]

The run must have been told to keep its tokens (tests/training/grpo/dumping.py); RUN_FOLDER is its
trainer.default_local_dir. Prints a table by step and one line of JSON; ends with 1 where anything is wrong or fewer
than --least episodes were found. Probabilities of sampler and trainer are compared, not judged.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.training.grpo.dumped import FOLDER, load
from tests.training.grpo.independent import Checked, Words, check

QUANTILES = (0.5, 0.9, 0.99, 0.999, 0.9999)
_LOGGED = "training/rollout_probs_diff_"
_SHOWN = 20  # notes


@dataclass(frozen=True)
class Step:
    """Of one step: its episodes, and what verl logged of the same probabilities (max, mean), where it did."""

    number: int
    checked: Sequence[Checked]
    logged: tuple[float | None, float | None]


def read_words(model: str) -> Words:
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    special = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|image_pad|>")
    start, end, end_of_text, pad = (tokenizer.convert_tokens_to_ids(token) for token in special)
    header = tuple(tokenizer("assistant\n", add_special_tokens=False).input_ids)
    merged = AutoConfig.from_pretrained(model).vision_config.spatial_merge_size ** 2
    return Words(start, end, end_of_text, pad, header, tokenizer.decode, merged)


def check_step(run: Path, file: Path, words: Words, logged: dict[str, float]) -> tuple[Step, list[str]]:
    number = int(file.stem.removeprefix("step_"))
    path = run / "rollouts/train" / file.stem / "results.jsonl"
    rows = {(row["id"], row["sample"]): row for row in map(json.loads, path.read_text().splitlines())}
    checked, notes = [], []
    episodes = load(file)
    if len(episodes) != len(rows):
        raise SystemExit(f"{file.stem}: {len(episodes)} episodes with tokens, {len(rows)} in {path.name}")
    for episode in episodes:
        found = check(episode, rows[episode.item, episode.sample], words)
        checked.append(found)
        notes += [f"step {number}, {episode.item}, sample {episode.sample}: {note}" for note in found.notes]
    return Step(number, checked, (logged.get(f"{_LOGGED}max"), logged.get(f"{_LOGGED}mean"))), notes


def summary(checked: Sequence[Checked]) -> dict[str, Any]:
    """Counts, and how far the probabilities of sampled tokens are apart."""
    ours, theirs = (np.concatenate([getattr(one, name) for one in checked]) for name in ("rollout", "trainer"))
    apart = np.abs(ours - theirs)
    spread = len(apart) > 1 and min(ours.std(), theirs.std()) > 0
    return {
        "episodes": len(checked),
        "failed": sum(one.failed for one in checked),
        "tokens": len(apart),
        "wrong masks": sum(one.masks for one in checked),
        "wrong replies": sum(one.replies for one in checked),
        "wrong images": sum(one.images for one in checked),
        "wrong places": sum(one.places for one in checked),
        "shifted": sum(one.shifted for one in checked),
        "mean": float(apart.mean()) if len(apart) else None,
        "max": float(apart.max()) if len(apart) else None,
        "quantiles": dict(zip(map(str, QUANTILES), np.quantile(apart, QUANTILES).tolist(), strict=True))
        if len(apart)
        else {},
        "pearson": float(np.corrcoef(ours, theirs)[0, 1]) if spread else None,
    }


def is_right(found: dict[str, Any], least: int) -> bool:
    wrong = sum(value for name, value in found.items() if name.startswith("wrong") or name == "shifted")
    return wrong == 0 and found["episodes"] - found["failed"] >= least


def table(steps: Sequence[Step]) -> list[str]:
    """One line a step, for a Markdown file."""
    head = ["step", "episodes", "failed", "tokens", "wrong masks", "wrong replies", "wrong images", "wrong places"]
    head += ["shifted", "mean", "max", "logged mean", "logged max"]
    lines = [head, ["---"] * len(head)]
    for step in steps:
        found = summary(step.checked)
        values = [step.number, *(found[name] for name in head[1:11]), step.logged[1], step.logged[0]]
        lines.append([f"{value:.3g}" if isinstance(value, float) else str(value) for value in values])
    return [f"| {' | '.join(line)} |" for line in lines]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--least", type=int, default=200, help="episodes that must have been checked")
    parser.add_argument("--model", help="whose tokenizer; default: the model the run started from")
    options = parser.parse_args(arguments)
    run: Path = options.run
    files = sorted((run / FOLDER).glob("step_*.npz"))
    if not files:
        raise SystemExit(f"{run}: no {FOLDER}/step_*.npz; tests/training/grpo/dumping.py tells how to get them")
    model = options.model or yaml.safe_load((run / "config.yaml").read_text())["actor_rollout_ref"]["model"]["path"]
    words = read_words(model)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = {line["step"]: line["data"] for line in metrics}
    steps, notes = [], []
    for file in files:
        step, found = check_step(run, file, words, logged.get(int(file.stem.removeprefix("step_")), {}))
        steps.append(step)
        notes += found
    total = summary([one for step in steps for one in step.checked])
    right = is_right(total, options.least)
    print("\n".join([*table(steps), *notes[:_SHOWN]]))
    print(json.dumps({**total, "least": options.least, "right": right}))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
