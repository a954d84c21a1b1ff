"""One trace as one picture: its images from left to right, and below each what the model said when it saw it."""

from __future__ import annotations

import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vilasr.images import ImageError, load_image, to_rgb
from vilasr.results import Result
from vilasr.scoring import corrected_accuracy
from vilasr.tasks import DataError, QuestionType
from vilasr.traces import Step, Trace, redraw

_PANEL = 336  # width of an image on the sheet
_GAP = 16
_FONT = ImageFont.load_default(15)
_LINE = 20
_MAX_TEXT = 24  # lines under an image


def load_roots(result: Result) -> list[Image.Image]:
    """The question's images at the size the model saw. Raises DataError naming the item."""
    if result.trace is None:
        raise DataError(f"item {result.id}: was not run ({result.detail})")
    roots = [node for node in result.trace.images if node.parent is None]
    try:
        images = [to_rgb(load_image(Path(name))) for name in result.image_files]
    except ImageError as exc:
        raise DataError(f"item {result.id}: {exc}") from exc
    if len(images) != len(roots):
        raise DataError(f"item {result.id}: {len(roots)} images were shown, {len(images)} files are named")
    return [
        image if image.size == (node.width, node.height) else image.resize((node.width, node.height), 3)
        for image, node in zip(images, roots, strict=True)
    ]


def trace_sheet(result: Result) -> Image.Image:
    """Raises DataError if an image is missing."""
    frames = load_roots(result)
    trace, example = result.trace, result.example
    assert trace is not None
    assert example is not None
    said = _said(trace)
    images = enumerate(redraw(trace, frames), 1)
    columns = [(_fit(image), _title(result, number), said[number]) for number, image in images]
    options = "   ".join(f"{chr(65 + i)}. {option}" for i, option in enumerate(example.options))
    head = _wrap(f"{example.question}   {options}", max(1, len(columns)) * 42)
    truth = example.answer
    if example.question_type is QuestionType.MULTIPLE_CHOICE and trace.answer is not None:
        try:
            truth += " - right" if corrected_accuracy(example, trace.answer) else " - wrong"
        except ValueError:
            truth += " - not one of the options"
    foot = [f"answer: {trace.answer or 'none'}   truth: {truth}   ending: {trace.stop_reason}"]
    width = _GAP + len(columns) * (_PANEL + _GAP)
    top = _GAP + (len(head) + len(foot)) * _LINE + _GAP
    tallest = max(image.height for image, _, _ in columns)
    lines = max(len(text) for _, _, text in columns)
    sheet = Image.new("RGB", (width, top + tallest + (lines + 2) * _LINE + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(head + foot):
        draw.text((_GAP, _GAP + number * _LINE), line, fill="black", font=_FONT)
    for number, (image, title, text) in enumerate(columns):
        x = _GAP + number * (_PANEL + _GAP)
        sheet.paste(image, (x, top))
        for row, line in enumerate([title, *text]):
            draw.text((x, top + tallest + 4 + row * _LINE), line, fill="black" if row else "gray", font=_FONT)
    return sheet


def _title(result: Result, number: int) -> str:
    """What was drawn is shown, whatever the model was shown instead."""
    instead = result.feedback != "real" and number > len(result.image_files)
    return f"image {number}" + (f" (the model saw: {result.feedback})" if instead else "")


def _said(trace: Trace) -> dict[int, list[str]]:
    """For each image, the lines of the replies that were given while it was the newest."""
    said: dict[int, list[str]] = {node.index: [] for node in trace.images}
    newest = len([node for node in trace.images if node.parent is None])
    for step in trace.steps:
        said[newest] += _spoken(step)
        newest = max([newest, *step.new_images])
    return {index: lines[:_MAX_TEXT] for index, lines in said.items()}


def _spoken(step: Step) -> list[str]:
    marks = ", ".join(f"{mark.label} {[round(v) for point in mark.points for v in point]}" for mark in step.marks)
    text = step.thought or step.text
    if step.error:
        text += f"  [unusable: {step.error}]"
    elif step.answer is not None:
        text += f"  [answers {step.answer}]"
    elif marks:
        text += f"  [draws {marks}]"
    return [*_wrap(text, 44), ""]


def _fit(image: Image.Image) -> Image.Image:
    scale = _PANEL / image.width
    return image.resize((_PANEL, max(1, round(image.height * scale))), Image.Resampling.NEAREST)


def _wrap(text: str, width: int) -> list[str]:
    clean = "".join(c if c.isprintable() else " " for c in text)
    return textwrap.wrap(clean[:2000], width) or [""]
