"""The model's turns: their format, their marks, their answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vilasr.data_check.conversation import Conversation, Seen
from vilasr.data_check.limits import Size
from vilasr.data_check.problems import Code, Finding, Severity, finding
from vilasr.drawing.marks import Mark
from vilasr.drawing.parser import DrawCall, ErrorCode, FinalAnswer, Malformed, ReplyError, parse_reply
from vilasr.drawing.scene import ImageNode, Scene
from vilasr.prompts import Profile
from vilasr.scoring.answers import choice_letter
from vilasr.tasks import letters_in_question

_UNKNOWN = 10**9  # the side of an image that could not be read: nothing lies outside it
_THOUSANDTHS = 1000
_LETTERED_LINE = re.compile(r"^[ \t]*[(（]?[A-Ha-h][.):：、．）]\s*\S", re.MULTILINE)


def check_replies(conversation: Conversation, profile: Profile | None) -> Iterator[Finding]:
    """What is wrong with the assistant's turns."""
    turns = conversation.turns
    last = max(number for number, turn in enumerate(turns) if turn.role == "assistant")
    shown = 0
    for number, turn in enumerate(turns):
        if turn.role != "assistant":
            shown += turn.places if turn.role == "user" else 0
            continue
        parsed = parse_reply(turn.text)
        if isinstance(parsed, Malformed):
            yield finding(parsed.error.code, turn.field, parsed.error.message)
            continue
        if parsed.departures:
            names = ", ".join(parsed.departures)
            yield finding(Code.DEPARTURE, turn.field, f"departs from the format: {names}")
        if isinstance(parsed, FinalAnswer):
            if number != last:
                yield finding(Code.ANSWER_NOT_LAST, turn.field, "answers before the last turn; nothing may follow it")
            else:
                yield from _check_answer(conversation, parsed.answer, turn.field, profile)
            continue
        wrong = _check_marks(parsed.marks, conversation, shown, turn.field, profile)
        if wrong:
            yield wrong
        if number == last:
            yield finding(Code.NO_FINAL_ANSWER, turn.field, "the last turn draws; it must answer")
        elif wrong is None or wrong.code == Code.CLAMPED:
            yield from _check_drawn(parsed, turns[number + 1].text, turns[number + 1].field, profile)


def _check_marks(
    marks: Sequence[Mark], conversation: Conversation, shown: int, field: str, profile: Profile | None
) -> Finding | None:
    images = conversation.images[:shown] if conversation.fits else ()
    thousandths = profile is not None and profile.coordinates == "thousandths"
    meant = [(_THOUSANDTHS, _THOUSANDTHS) if thousandths else image.frame for image in images]
    result = _scene(meant, shown).resolve(marks)
    if isinstance(result, ReplyError):
        if result.code is ErrorCode.OUT_OF_IMAGE and not thousandths and (wider := _wider(images, marks, shown)):
            return finding(Code.FRAME_MARKS, field, wider)
        return finding(result.code, field, result.message)
    if result[1]:
        return finding(Code.CLAMPED, field, f"{result[1]} of {len(marks)} marks lie a little outside and are clamped")
    return None


def _wider(images: Sequence[Seen], marks: Sequence[Mark], shown: int) -> str:
    """Told where the marks fit the files' own sizes, and no size is stated of an image that is shown at another."""
    own = [image.size if image.statement.size is None else image.frame for image in images]
    if isinstance(_scene(own, shown).resolve(marks), ReplyError):
        return ""
    touched = {mark.index for mark in marks}
    for image in images:
        if image.index in touched and image.statement.size is None and image.size and image.shown != image.size:
            shown_at = f"{image.shown[0]} x {image.shown[1]}" if image.shown else "nothing"
            return (
                f"marks lie outside image {image.index} as it is shown ({shown_at}), but inside its file "
                f"({image.size[0]} x {image.size[1]}): raise image_max_pixels, or resize images and coordinates"
            )
    return ""


def _scene(sizes: Sequence[Size | None], shown: int) -> Scene:
    """The images shown so far, without their pixels."""
    scene = Scene(())
    sizes = [*sizes, *[None] * (shown - len(sizes))]
    for index, size in enumerate(sizes, 1):
        width, height = size or (_UNKNOWN, _UNKNOWN)
        scene.nodes.append(ImageNode(index, index, None, width, height))
    return scene


def _check_drawn(call: DrawCall, text: str, field: str, profile: Profile | None) -> Iterator[Finding]:
    """The turn after a drawing should show one image for each image drawn on."""
    expected, given = len({mark.index for mark in call.marks}), text.count("<image>")
    if given == expected:
        return
    if not given and profile is not None and any(profile.feedback[key] in text for key in ("repeated", "image_budget")):
        return
    yield finding(Code.DRAWN_IMAGES, field, f"the reply before it draws on {expected} images, {given} are shown")


def _check_answer(conversation: Conversation, answer: str, field: str, profile: Profile | None) -> Iterator[Finding]:
    """The answer of what clearly is a multiple-choice question is one of its options."""
    opening = next((turn.text for turn in conversation.turns if turn.role == "user"), "")
    asked = _asks_for_letter(opening, profile)
    if asked is False or (asked is None and len(_LETTERED_LINE.findall(opening)) < 2):
        return
    options = letters_in_question(opening)
    if len(options) >= 2 and choice_letter(answer, options) is None:
        letters = ", ".join(option[0] for option in options)
        severity = Severity.ERROR if asked else Severity.WARNING
        yield finding(Code.ANSWER_NOT_AN_OPTION, field, f"{answer[:60]!r} is none of the options {letters}", severity)


def _asks_for_letter(opening: str, profile: Profile | None) -> bool | None:
    """Whether the wording of a multiple-choice question stands in the turn; None where that cannot be told."""
    if profile is None:
        return None
    wordings = {kind: text for kind, text in profile.suffix.items() if text.strip()}
    choice = wordings.get("multiple choice", "")
    if choice and choice in opening:
        return True if list(wordings.values()).count(choice) == 1 else None
    return False if any(text in opening for text in wordings.values()) else None
