"""Which keys verl knows, found without importing it: a misspelt key of a recipe would be added and do nothing."""

from __future__ import annotations

import ast
import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_FIELDS_IN = ("workers/config", "trainer/config", "utils/profiler")  # of verl: the classes that `_target_` names
# What a recipe may hold besides: ours, and what goes on to Ray.
_OURS = ("vilasr", "ray_kwargs.ray_init", "data.data_root", "data.held_out", "data.max_pixels", "data.model")
_OURS += ("data.profile", "defaults")
# Keys of verl's YAML that nothing reads, and those that are read instead.
UNREAD = {"actor_rollout_ref.actor.grad_clip": "actor_rollout_ref.actor.optim.clip_grad"}


def leaves(tree: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all leaves; an empty mapping is a leaf."""
    for name, value in tree.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def unknown_keys(recipe: Mapping[Any, Any], base: Mapping[Any, Any], verl: Path) -> Iterator[str]:
    """Keys of `recipe` that neither verl's own YAML (`base`) nor its classes, read in the folder `verl`, have."""
    known = dict(leaves(base))
    folders = {key for key, value in known.items() if value == {}}  # verl hands what is there on to others
    for key, _ in leaves(recipe):
        path = [key, *_parents(key)]
        if key in known or any(part in folders or part in _OURS for part in path):
            continue
        if not any(_is_field(part, known, verl) for part in path):
            yield key


def near(key: str, known: Iterable[str]) -> str:
    """A question with the most similar key, or nothing."""
    found = difflib.get_close_matches(key, sorted(known), 1, 0.8)
    return f"; did you mean {found[0]!r}?" if found else ""


def _parents(key: str) -> Iterator[str]:
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _is_field(key: str, known: Mapping[str, Any], verl: Path) -> bool:
    above, _, name = key.rpartition(".")
    target = known.get(f"{above}._target_")
    if not isinstance(target, str):
        return False
    # a mapping of the YAML has fields of its own, whatever the class says of it
    return name in _fields_of(verl, target.rpartition(".")[2]) and not any(k.startswith(f"{key}.") for k in known)


def _fields_of(verl: Path, name: str) -> set[str]:
    bases, fields = _classes(verl).get(name, ((), frozenset()))
    return {*fields, *(field for base in bases for field in _fields_of(verl, base))}


@functools.cache
def _classes(verl: Path) -> dict[str, tuple[tuple[str, ...], frozenset[str]]]:
    """Of each class the names of its bases and of its own annotated fields."""
    found = {}
    for file in (file for folder in _FIELDS_IN for file in sorted((verl / folder).glob("*.py"))):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                bases = tuple(base.id for base in node.bases if isinstance(base, ast.Name))
                targets = (part.target for part in node.body if isinstance(part, ast.AnnAssign))
                found[node.name] = bases, frozenset(name.id for name in targets if isinstance(name, ast.Name))
    return found
