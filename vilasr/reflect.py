"""Reflection: a trace that revises one of its own marks (the paper's Eq. 5), and a stricter form beside it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from vilasr.drawing.marks import Box, Mark, geometry
from vilasr.traces import Trace


@dataclass(frozen=True, slots=True)
class Reflection:
    """`loose`: Eq. 5, the same label with another geometry at two different steps. `strict`: also on the same
    question image, of the same kind and, for boxes, overlapping; for lines, sharing the start."""

    loose: bool
    strict: bool


def reflection(trace: Trace) -> Reflection:
    roots = {node.index: node.root for node in trace.images}
    marked = [(number, mark) for number, step in enumerate(trace.steps) for mark in step.marks]
    loose = strict = False
    for (step_a, a), (step_b, b) in combinations(marked, 2):
        if step_a == step_b or a.label != b.label or geometry(a) == geometry(b):
            continue
        loose = True
        strict = strict or (roots.get(a.index) == roots.get(b.index) and _same_thing(a, b))
        if strict:
            break
    return Reflection(loose, strict)


def _same_thing(a: Mark, b: Mark) -> bool:
    if type(a) is not type(b):
        return False
    (ax1, ay1), (ax2, ay2) = a.points
    (bx1, by1), (bx2, by2) = b.points
    if isinstance(a, Box):
        return min(ax2, bx2) > max(ax1, bx1) and min(ay2, by2) > max(ay1, by1)
    return round(ax1) == round(bx1) and round(ay1) == round(by1)
