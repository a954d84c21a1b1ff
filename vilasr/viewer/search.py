"""What the page's search finds beside ids and answers: the words of questions, options and prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vilasr.traces import Trace
from vilasr.viewer.choice import Entry

_UNUSABLE = (TypeError, ValueError, AttributeError, KeyError, IndexError)


def prompt(trace: Trace) -> list[list[str]]:
    """Role and text of the messages before the first reply."""
    opening = []
    for message in trace.conversation:
        if message.get("role") == "assistant":
            break
        opening.append([str(message.get("role", "")), str(message.get("content", ""))])
    return opening


def search_texts(entries: Sequence[Entry]) -> dict[str, Any]:
    """Every distinct line once (`lines`), every distinct text as the numbers of its lines (`texts`), and each trace's
    text by its number (`of`): runs, samples and templates repeat most of it.

    A line that the prompt of every trace of a run has, such as the instructions, would find all of them: it is left
    out.
    """
    prompts = [_prompt_lines(entry) for entry in entries]
    common: dict[int, set[str]] = {}
    for entry, opening in zip(entries, prompts, strict=True):
        if opening:
            common[entry.run] = common.get(entry.run, set(opening)).intersection(opening)
    lines: dict[str, int] = {}
    texts: dict[tuple[int, ...], int] = {}
    of = []
    for entry, opening in zip(entries, prompts, strict=True):
        told = [*_question_lines(entry), *(line for line in opening if line not in common[entry.run])]
        text = tuple(sorted({lines.setdefault(line, len(lines)) for line in told}))
        of.append(texts.setdefault(text, len(texts)))
    return {"lines": list(lines), "texts": list(map(list, texts)), "of": of}


def _question_lines(entry: Entry) -> Iterator[str]:
    example = entry.result.example
    for text in (example.question, *example.options) if example is not None else ():
        yield from _lines(text)


def _prompt_lines(entry: Entry) -> list[str]:
    if entry.result.trace is None:
        return []
    try:
        return [line for _, text in prompt(entry.result.trace) for line in _lines(text)]
    except _UNUSABLE:
        return []  # such a trace is told by details()


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]
