"""What to do about a file of which a repair would move most items aside: such a file has one cause for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from vilasr.data_check.problems import Code, Finding

_UNPACK = "unpack the images again"
_FRAMES = "raise image_max_pixels, or resize images and coordinates"
_ADVICE: dict[str, str] = {
    Code.BROKEN_JSON: "write the file again, as a JSON list or JSON lines in UTF-8",
    Code.BAD_ENCODING: "write the file as UTF-8",
    Code.BAD_ITEM: "write each turn with a text as its content, and images as a list of paths",
    Code.KEY_MISSING: "name the keys that the items have in tags and columns of dataset_info.json",
    Code.ROLE_NAME: "name the roles that the turns have in tags of dataset_info.json",
    Code.ROLE_ORDER: "join turns of one role that follow each other, and end with the assistant",
    Code.IMAGE_COUNT: "write one <image> for each image, and name the field of images in columns of dataset_info.json",
    Code.MEDIA_PLACEHOLDER: "take <video> and <audio> out of the turns",
    Code.IMAGE_MISSING: f"{_UNPACK}, or correct their paths",
    Code.IMAGE_UNREADABLE: _UNPACK,
    Code.IMAGE_TOO_BIG: "make the images smaller, with their coordinates",
    Code.IMAGE_ROTATED: "save the images upright",
    Code.TOO_LONG: "raise cutoff_len",
    Code.FRAME_RECIPE: _FRAMES,
    Code.FRAME_MARKS: _FRAMES,
    Code.FRAME_STATED: "correct the sizes stated, or unpack the right images",
}


def advice(reasons: Iterable[Iterable[Finding]]) -> str:
    """The most frequent cause among the items, of each its `reasons`, and what to do about it."""
    counts = Counter(code for findings in reasons for code in dict.fromkeys(f.code for f in findings))
    code, count = counts.most_common(1)[0]
    return f"{count} for {code}: {_ADVICE.get(code, 'correct the data, or name fewer codes to --reject')}"
