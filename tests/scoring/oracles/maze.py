"""Mazes come with the published ViLaSR code alone; its rule for a choice: AntResearchNLP/ViLaSR, eval/evaluate.py.

The reply is what stands in the first <answer>, else all of it; its first character is the choice, without case. An
empty reply stops the program.
"""

from __future__ import annotations

from tests.scoring.oracles import Outcome

TASKS = ("maze",)


def published(answer: str, truth: str) -> Outcome:
    said, right = _inside(answer).strip(), _inside(truth).strip()
    if not said or not right:
        return "IndexError"
    return 1.0 if said[0].lower() == right[0].lower() else 0.0


def _inside(text: str) -> str:
    _, opening, rest = text.partition("<answer>")
    inside, closing, _ = rest.partition("</answer>")
    return inside.strip() if opening and closing else text
