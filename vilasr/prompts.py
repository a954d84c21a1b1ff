"""Profiles: all wording and limits a model was trained with, in one YAML, and the messages made of it."""

from __future__ import annotations

import logging
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from vilasr.drawing.scene import DrawingPolicy, ImageNode
from vilasr.images import SizeRule
from vilasr.messages import Message, Picture, Text

log = logging.getLogger(__name__)

PROFILE_NAME = "vilasr_profile.yaml"
_IMAGE = "\x00image\x00"  # stands for {image} between formatting and splitting
_CONTROL = re.compile(r"<\|([^|<>\s]{1,40})\|>|<(image|video|audio)>")


class ProfileError(ValueError):
    """A profile that cannot be used; the message names the file and the key."""


def neutralise(text: str) -> str:
    """Data's text with control words broken up, so that no tokenizer or placeholder rule takes them for its own.

    `<|im_start|>` becomes `<| im_start |>`, `<image>` becomes `< image >`. Applied to all text that comes from data.
    """
    return _CONTROL.sub(lambda m: f"<| {m[1]} |>" if m[1] else f"< {m[2]} >", text.replace("\x00", " "))


@dataclass(frozen=True, slots=True)
class Budget:
    """Counted per episode. When one of them ends, the final answer is asked for."""

    calls: int = 10
    maze_calls: int = 20
    images: int = 42
    errors: int = 5
    turn_tokens: int = 1024


@dataclass(frozen=True)
class Profile:
    """A loaded profile. Templates are plain `str.format` templates with the fields named in the YAML's comments."""

    name: str
    system: str
    question: str
    option: str
    captions: Mapping[str, str]
    suffix: Mapping[str, str]
    feedback: Mapping[str, str]
    image: SizeRule
    coordinates: str
    policy: DrawingPolicy
    budget: Budget
    source: str = ""  # the YAML text, as read

    def system_message(self) -> Message | None:
        return Message("system", (Text(self.system),)) if self.system else None

    def question_message(
        self, question: str, options: Sequence[str], question_type: str, kind: str, pictures: Sequence[Picture]
    ) -> Message:
        """The first user turn. `kind` is "single", "multi" or "video"; options get letters unless they have them."""
        captions = "\n".join(
            self.captions[kind].format(
                image=_IMAGE,
                index=p.index,
                count=len(pictures),
                width=p.image.width,
                height=p.image.height,
            )
            for p in pictures
        )
        text = self.question.format(
            captions=captions,
            question=neutralise(question.strip()),
            options=self._options(options),
            suffix=self.suffix[question_type],
        )
        return _message(text.strip(), pictures)

    def _options(self, options: Sequence[str]) -> str:
        if options and all(option_letter(option) == chr(65 + i) for i, option in enumerate(options)):
            return "".join("\n" + neutralise(option.strip()) for option in options)
        return "".join(
            self.option.format(letter=chr(65 + i), option=neutralise(option.strip()))
            for i, option in enumerate(options)
        )

    def drawn_lines(self, nodes: Sequence[ImageNode]) -> list[str]:
        return [
            self.feedback["drawn"].format(image=_IMAGE, index=n.index, parent=n.parent, width=n.width, height=n.height)
            for n in nodes
        ]

    def error_line(self, error: str) -> str:
        return self.feedback["error"].format(error=neutralise(error))

    def feedback_message(self, lines: Sequence[str], pictures: Sequence[Picture]) -> Message:
        """A user turn of these lines; `pictures` fill their {image} places in order."""
        return _message("\n".join(lines), pictures)


def option_letter(option: str) -> str | None:
    """The letter an option carries itself, as in "B. left", "(B) left" or "B) left"; None without one."""
    match = re.match(r"\(?([A-Z])[.):](?:\s|$)", option.strip())
    return match[1] if match else None


def _message(text: str, pictures: Sequence[Picture]) -> Message:
    parts: list[Text | Picture] = []
    for number, piece in enumerate(text.split(_IMAGE)):
        if number:
            parts.append(pictures[number - 1])
        if piece:
            parts.append(Text(piece))
    return Message("user", tuple(parts))


_FIELDS = {
    "question": {"captions", "question", "options", "suffix"},
    "option": {"letter", "option"},
    "captions": {"image", "index", "count", "width", "height"},
    "feedback.drawn": {"image", "index", "parent", "width", "height"},
    "feedback.error": {"error"},
}
_CAPTIONS = ("single", "multi", "video")
_SUFFIXES = ("multiple choice", "numerical", "regression", "vci")
_FEEDBACK = ("drawn", "error", "repeated", "image_budget", "go_on", "final")
_KEYS = {"name", "system", "question", "option", "captions", "suffix", "feedback"}
_OPTIONAL = {"image", "coordinates", "policy", "budget"}


def default_profile() -> Profile:
    """Our own profile, as shipped."""
    text = resources.files("vilasr").joinpath("profiles/vilasr.yaml").read_text(encoding="utf-8")
    return parse_profile(text, "profiles/vilasr.yaml")


def load_profile(path: Path) -> Profile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ProfileError(f"{path}: cannot be read ({exc})") from exc
    return parse_profile(text, str(path))


def profile_for_checkpoint(checkpoint: str | Path) -> Profile:
    """The profile saved beside the weights; without one, ours, with a warning."""
    path = Path(checkpoint) / PROFILE_NAME
    if path.is_file():
        return load_profile(path)
    log.warning("%s has no %s: using the default profile; name another with --profile", checkpoint, PROFILE_NAME)
    return default_profile()


def parse_profile(text: str, where: str) -> Profile:
    """Check and build. Every error names the file and the key."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ProfileError(f"{where}: not YAML ({exc})") from exc
    if not isinstance(raw, dict):
        raise ProfileError(f"{where}: must hold a mapping of keys")
    for key in _KEYS - raw.keys():
        raise ProfileError(f"{where}: key {key!r} is missing")
    for key in raw.keys() - _KEYS - _OPTIONAL:
        raise ProfileError(f"{where}: unknown key {key!r}")
    for key in ("name", "system", "question", "option"):
        _text(raw[key], where, key)
    for key, names in (("captions", _CAPTIONS), ("suffix", _SUFFIXES), ("feedback", _FEEDBACK)):
        if not isinstance(raw[key], dict):
            raise ProfileError(f"{where}: key {key!r} must be a mapping")
        for name in names:
            if name not in raw[key]:
                raise ProfileError(f"{where}: key '{key}.{name}' is missing")
            _text(raw[key][name], where, f"{key}.{name}")
    for key in ("question", "option"):
        _check_fields(raw[key], _FIELDS[key], where, key)
    for name in _CAPTIONS:
        _check_fields(raw["captions"][name], _FIELDS["captions"], where, f"captions.{name}", image=True)
    for name in ("drawn", "error"):
        key = f"feedback.{name}"
        _check_fields(raw["feedback"][name], _FIELDS[key], where, key, image=name == "drawn")
    if raw.get("coordinates", "pixels") not in ("pixels", "thousandths"):
        raise ProfileError(f"{where}: key 'coordinates' must be 'pixels' or 'thousandths'")
    try:
        policy = DrawingPolicy(raw.get("policy", "revise"))
    except ValueError as exc:
        raise ProfileError(f"{where}: key 'policy' must be one of {[p.value for p in DrawingPolicy]}") from exc
    return Profile(
        name=raw["name"],
        system=raw["system"].strip(),
        question=raw["question"],
        option=raw["option"],
        captions=raw["captions"],
        suffix=raw["suffix"],
        feedback=raw["feedback"],
        image=_whole_numbers(SizeRule, raw.get("image"), where, "image"),
        coordinates=raw.get("coordinates", "pixels"),
        policy=policy,
        budget=_whole_numbers(Budget, raw.get("budget"), where, "budget"),
        source=text,
    )


def _text(value: object, where: str, key: str) -> None:
    if not isinstance(value, str):
        raise ProfileError(f"{where}: key {key!r} must be a text")
    if "\x00" in value or _CONTROL.search(value):
        raise ProfileError(f"{where}: key {key!r} must not hold control tokens; images are placed with {{image}}")


def _check_fields(template: str, allowed: set[str], where: str, key: str, image: bool = False) -> None:
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as exc:
        raise ProfileError(f"{where}: key {key!r} is not a template ({exc})") from exc
    for field in fields:
        if field not in allowed:
            raise ProfileError(f"{where}: key {key!r} has the unknown field {{{field}}}; known: {sorted(allowed)}")
    if image and fields.count("image") != 1:
        raise ProfileError(f"{where}: key {key!r} must place {{image}} exactly once")
    if key == "question" and fields.count("captions") != 1:
        raise ProfileError(f"{where}: key 'question' must place {{captions}} exactly once")


def _whole_numbers(cls: type, raw: object, where: str, key: str) -> Any:
    """A dataclass of positive whole numbers from a mapping; absent keys keep their defaults."""
    if raw is None:
        return cls()
    if not isinstance(raw, dict):
        raise ProfileError(f"{where}: key {key!r} must be a mapping")
    for name, value in raw.items():
        if name not in cls.__dataclass_fields__:
            raise ProfileError(f"{where}: unknown key '{key}.{name}'")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ProfileError(f"{where}: key '{key}.{name}' must be a positive whole number")
    return cls(**raw)
