"""Which questions of a file are held out for validation: the same ones on every machine and in every run."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from vilasr.tasks import Example


def plan_split(examples: Sequence[Example], held_out: int) -> tuple[list[int], list[int]]:
    """(numbers to train on, numbers held out), each in order. Questions on the same first image stay together, so that
    no picture of the validation set is trained on; at least `held_out` questions are held out, if there are as many,
    chosen by a hash of that image's path."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        groups[example.image_paths[0]].append(number)
    chosen: list[int] = []
    for name in sorted(groups, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()):
        if len(chosen) >= held_out:
            break
        chosen += groups[name]
    out = set(chosen)
    return [number for number in range(len(examples)) if number not in out], sorted(out)
