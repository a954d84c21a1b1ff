"""Replies spelled by the grammar of `vilasr.drawing.parser`, for whoever speaks in the model's place."""

from __future__ import annotations

import json
from collections.abc import Sequence

from vilasr.drawing.marks import Box, Mark, mark_to_json
from vilasr.drawing.parser import Action


def spell_call(thought: str, marks: Sequence[Mark]) -> str:
    """A drawing call, of boxes alone or of lines alone."""
    action = Action.OBJECT_MAPPER if isinstance(marks[0], Box) else Action.PATH_TRACER
    content = json.dumps([mark_to_json(mark) for mark in marks], ensure_ascii=False)
    return f"<think> {thought} </think> Action: {action.value}\n```json\n{content}\n```"


def spell_answer(thought: str, answer: str) -> str:
    return f"<think> {thought} </think> Action: {Action.ANSWER.value}\n<answer> {answer} </answer>"
