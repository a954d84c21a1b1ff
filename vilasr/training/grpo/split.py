"""Which questions of a file are held out for validation: the same ones on every machine and in every run."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from vilasr.tasks import Example


def plan_split(examples: Sequence[Example], held_out: int) -> tuple[list[int], list[int]]:
    """(numbers to train on, numbers held out), each in order. Questions that share an image, directly or through
    others, stay together, so that no picture of the validation set is trained on. At least `held_out` questions are
    held out, if there are as many, chosen by a hash of their images' paths."""
    groups = _sharing_images(examples)
    chosen: list[int] = []
    for name in sorted(groups, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()):
        if len(chosen) >= held_out:
            break
        chosen += groups[name]
    out = set(chosen)
    return [number for number in range(len(examples)) if number not in out], sorted(out)


def _sharing_images(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Numbers of the questions by the first, in the alphabet, of all paths of their group."""
    parent: dict[str, str] = {}

    def root(path: str) -> str:
        while parent.setdefault(path, path) != path:
            parent[path] = parent[parent[path]]
            path = parent[path]
        return path

    for example in examples:
        first = root(example.image_paths[0])
        for path in example.image_paths[1:]:
            one, other = sorted((first, root(path)))
            parent[other] = first = one
    groups: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        groups[root(example.image_paths[0])].append(number)
    return groups
