"""Coordinate frames: whether an image is shown at the size that the conversation states of it."""

from __future__ import annotations

from vilasr.data_check.conversation import Seen
from vilasr.data_check.limits import Limits, Size
from vilasr.data_check.problems import Code, Finding, Severity, finding
from vilasr.drawing.scene import CLAMP_SHARE

_ADVICE = "raise image_max_pixels, or resize images and coordinates"


def judge(image: Seen, limits: Limits) -> Finding | None:
    """What is wrong with the frame of an image whose size is stated. Marks that move by no more than is clamped
    anyway make a warning of it."""
    stated, own, shown = image.statement.size, image.size, image.shown
    if stated is None or own is None or shown is None or stated == shown:
        return None
    severity = Severity.WARNING if _near(stated, shown) else Severity.ERROR
    if stated != own:
        message = f"the conversation states {_by(stated)}, but the file has {_by(own)} and is shown at {_by(shown)}"
        if stated == (own[1], own[0]):
            message += "; width and height are swapped"
        return finding(Code.FRAME_STATED, image.field, message, severity)
    pixels, most, least = own[0] * own[1], limits.image_max_pixels, limits.image_min_pixels
    meant = f"{_by(shown)} of a {_by(own)} image whose coordinates are stated for {_by(stated)}"
    if most is not None and pixels > most:
        return finding(Code.FRAME_RECIPE, image.field, f"image_max_pixels={most} shows {meant}: {_ADVICE}", severity)
    if least is not None and pixels < least:
        message = f"image_min_pixels={least} shows {meant}: lower image_min_pixels, or resize images and coordinates"
        return finding(Code.FRAME_RECIPE, image.field, message, severity)
    rule = limits.processor
    if own[0] % rule.factor or own[1] % rule.factor:
        why = f"sides must be multiples of {rule.factor}"
    else:
        why = f"the processor takes {rule.min_pixels} to {rule.max_pixels} pixels"
    message = f"{why}, so the model is shown {meant}: resize images and coordinates"
    return finding(Code.FRAME_MULTIPLE, image.field, message, severity)


def plausible(size: Size, own: Size | None) -> bool:
    """Whether a size found by its usual forms can be that of the image, not of a thing in it: by its shape."""
    if own is None:
        return False
    ratios = (size[0] * own[1]) / (size[1] * own[0]), (size[1] * own[1]) / (size[0] * own[0])
    return any(abs(ratio - 1) <= 0.08 for ratio in ratios)


def _near(stated: Size, shown: Size) -> bool:
    return all(abs(a - b) <= CLAMP_SHARE * b for a, b in zip(stated, shown, strict=True))


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
