"""Profiles: all wording and limits a model was trained with, in one YAML, and the messages made of it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import yaml

from vilasr.drawing.scene import DrawingPolicy, ImageNode
from vilasr.images import SizeRule
from vilasr.messages import Message, Picture, Text
from vilasr.profile_checks import (
    CONTROL,
    FEEDBACK,
    FEEDBACK_OPTIONAL,
    KINDS,
    SUFFIXES,
    ProfileError,
    check_template,
    check_text,
    check_texts,
    whole_numbers,
)

log = logging.getLogger(__name__)

PROFILE_NAME = "vilasr_profile.yaml"
_IMAGE = "\x00image\x00"  # stands for {image} between formatting and splitting
_SYSTEM_FIELD = re.compile(r"\{(width|height)\}")
_TURN = "{lines}\n{request}"


def neutralise(text: str) -> str:
    """Data's text with control words broken up, so that no tokenizer or placeholder rule takes them for its own.

    `<|im_start|>` becomes `<| im_start |>`, `<image>` becomes `< image >`. Applied to all text that comes from data.
    """
    return CONTROL.sub(lambda m: f"<| {m[1]} |>" if m[1] else f"< {m[2]} >", text.replace("\x00", " "))


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
    """A loaded profile. Templates are plain `str.format` templates with the fields named in the YAML's comments.

    `question` has a template for each kind of pictures. `notes` are additions by task or benchmark, `remove` texts
    taken out of questions and options. Where `strip` is off, everything is placed exactly as written.
    """

    name: str
    system: str
    question: Mapping[str, str]
    option: str
    captions: Mapping[str, str]
    suffix: Mapping[str, str]
    feedback: Mapping[str, str]
    image: SizeRule
    coordinates: str
    policy: DrawingPolicy
    budget: Budget
    source: str = ""  # the YAML text, as read
    notes: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    strip: bool = True

    def system_message(self, width: int, height: int) -> Message | None:
        """Size of the first image. The fields are replaced literally: the text may hold JSON with its braces."""
        sizes = {"width": width, "height": height}
        text = _SYSTEM_FIELD.sub(lambda match: str(sizes[match[1]]), self.system)
        return Message("system", (Text(text),)) if text else None

    def question_message(
        self,
        question: str,
        options: Sequence[str],
        question_type: str,
        kind: str,
        pictures: Sequence[Picture],
        *,
        task: str = "",
        source: str = "",
    ) -> Message:
        """The first user turn. `kind` is "single", "multi" or "video"; options get letters unless they have them.
        `task` and `source` (the benchmark) choose a note, the task's before the benchmark's."""
        first = pictures[0].image
        captions = self.captions.get("separator", "\n").join(
            self.captions[kind].format(
                image=_IMAGE,
                index=p.index,
                count=len(pictures),
                width=p.image.width,
                height=p.image.height,
                first_width=first.width,
                first_height=first.height,
            )
            for p in pictures
        )
        text = self.question[kind].format(
            captions=captions,
            question=self._of_data(question),
            options=self._options(options),
            note=self.notes.get(task, self.notes.get(source, "")),
            suffix=self.suffix.get(question_type, ""),  # only free-form may have none
            count=len(pictures),
            width=first.width,
            height=first.height,
        )
        return _message(text.strip() if self.strip else text, pictures)

    def _options(self, options: Sequence[str]) -> str:
        if options and all(option_letter(option) == chr(65 + i) for i, option in enumerate(options)):
            return "".join("\n" + self._of_data(option) for option in options)
        return "".join(
            self.option.format(letter=chr(65 + i), option=self._of_data(option)) for i, option in enumerate(options)
        )

    def _of_data(self, text: str) -> str:
        """A question or an option, ready to be placed."""
        for unwanted in self.remove:
            text = text.replace(unwanted, "")
        return neutralise(text.strip() if self.strip else text)

    def drawn_lines(self, nodes: Sequence[ImageNode]) -> list[str]:
        """A text for each of the images drawn in one turn."""
        drawn = self.feedback["drawn"]
        if len(nodes) > 1:
            drawn = self.feedback.get("drawn_several", drawn)
        return [
            drawn.format(image=_IMAGE, index=n.index, parent=n.parent, width=n.width, height=n.height) for n in nodes
        ]

    def error_line(self, error: str) -> str:
        return self.feedback["error"].format(error=neutralise(error))

    def feedback_message(self, lines: Sequence[str], final: bool, pictures: Sequence[Picture]) -> Message:
        """A user turn of these lines and the request to go on, or to answer where `final`; `pictures` fill the
        {image} places of the lines in order."""
        turn = self.feedback.get("turn", _TURN)
        if len(pictures) > 1:
            turn = self.feedback.get("turn_several", turn)
        joined = self.feedback.get("separator", "\n").join(lines)
        return _message(turn.format(lines=joined, request=self.feedback["final" if final else "go_on"]), pictures)


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


_KEYS = {"name", "system", "question", "option", "captions", "suffix", "feedback"}
_OPTIONAL = {"image", "coordinates", "policy", "budget", "notes", "remove", "strip"}


def default_profile() -> Profile:
    """Our own profile, as shipped."""
    text = resources.files("vilasr").joinpath("profiles/vilasr.yaml").read_text(encoding="utf-8")
    return parse_profile(text, "profiles/vilasr.yaml")


def load_profile(path: Path) -> Profile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ProfileError(
            f"{path}: cannot be read ({exc}); name a profile, such as vilasr/profiles/vilasr.yaml"
        ) from exc
    return parse_profile(text, str(path))


def wording(profile: str) -> str:
    """A profile's YAML without what changes nothing, its comments and the order of its keys: for comparing."""
    return json.dumps(yaml.safe_load(profile), sort_keys=True)


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
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as exc:  # dates and numbers may be impossible
        raise ProfileError(f"{where}: not YAML ({exc}); repair it or copy it again") from exc
    if not isinstance(raw, dict):
        raise ProfileError(f"{where}: must hold a mapping of keys")
    for key in _KEYS - raw.keys():
        raise ProfileError(f"{where}: key {key!r} is missing; vilasr/profiles/vilasr.yaml shows all of them")
    for key in raw.keys() - _KEYS - _OPTIONAL:
        raise ProfileError(f"{where}: unknown key {key!r}; vilasr/profiles/vilasr.yaml shows all that are known")
    for key in ("name", "system", "option"):
        check_text(raw[key], where, key)
    for_each_kind = isinstance(raw["question"], dict)
    question: dict[str, str] = raw["question"] if for_each_kind else dict.fromkeys(KINDS, raw["question"])
    check_texts(question, where, "question", KINDS, one_template=not for_each_kind)
    check_texts(raw["captions"], where, "captions", KINDS, ("separator",))
    check_texts(raw["suffix"], where, "suffix", SUFFIXES, None)
    check_texts(raw["feedback"], where, "feedback", FEEDBACK, FEEDBACK_OPTIONAL)
    raw["notes"] = {} if raw.get("notes") is None else raw["notes"]
    check_texts(raw["notes"], where, "notes", (), None)
    check_template(raw["option"], "option", where, "option")
    for kind in KINDS:
        check_template(question[kind], "question", where, f"question.{kind}" if for_each_kind else "question")
        check_template(raw["captions"][kind], "captions", where, f"captions.{kind}")
    for name in ("drawn", "drawn_several", "error", "turn", "turn_several"):
        if name in raw["feedback"]:
            check_template(raw["feedback"][name], name.removesuffix("_several"), where, f"feedback.{name}")
    remove = [] if raw.get("remove") is None else raw["remove"]
    if not isinstance(remove, list) or not all(isinstance(text, str) and text for text in remove):
        raise ProfileError(f"{where}: key 'remove' must be a list of texts")
    strip = raw.get("strip", True)
    if not isinstance(strip, bool):
        raise ProfileError(f"{where}: key 'strip' must be true or false")
    if raw.get("coordinates", "pixels") not in ("pixels", "thousandths"):
        raise ProfileError(f"{where}: key 'coordinates' must be 'pixels' or 'thousandths'")
    try:
        policy = DrawingPolicy(raw.get("policy", "revise"))
    except ValueError as exc:
        raise ProfileError(f"{where}: key 'policy' must be one of {[p.value for p in DrawingPolicy]}") from exc
    return Profile(
        name=raw["name"],
        system=raw["system"].strip() if strip else raw["system"],
        question=question,
        option=raw["option"],
        captions=raw["captions"],
        suffix=raw["suffix"],
        feedback=raw["feedback"],
        image=whole_numbers(SizeRule, raw.get("image"), where, "image"),
        coordinates=raw.get("coordinates", "pixels"),
        policy=policy,
        budget=whole_numbers(Budget, raw.get("budget"), where, "budget"),
        source=text,
        notes=raw["notes"],
        remove=tuple(remove),
        strip=strip,
    )
