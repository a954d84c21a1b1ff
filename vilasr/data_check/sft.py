"""Checks one SFT item: shape, roles, images, frames, replies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vilasr.data_check.conversation import Conversation, Seen, Turn
from vilasr.data_check.frames import judge, plausible
from vilasr.data_check.locate import Images, about
from vilasr.data_check.options import Options, Outcome
from vilasr.data_check.problems import Code, Edit, Finding, finding
from vilasr.data_check.replies import check_replies
from vilasr.data_check.sources import Source
from vilasr.data_check.stated import PLACE, SizeReader, Statement
from vilasr.drawing.parser import DrawCall, parse_reply
from vilasr.images import ImageError
from vilasr.profile_checks import CONTROL

PLAIN = "_caption"  # datasets so named are plain conversations about pictures: nobody draws or ends with an answer
_MEDIA = ("<video>", "<audio>")
_ALIKE = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


class SftChecker:
    """Checks the items of one file; remembers its images."""

    def __init__(self, source: Source, options: Options) -> None:
        assert source.dataset is not None
        self.source, self.options, self.dataset = source, options, source.dataset
        self.images = Images(source, options.pixels)
        self.sizes = SizeReader(source.profile)

    def check(self, number: int, record: object) -> Outcome:
        if not isinstance(record, dict):
            return Outcome(number, "", (finding(Code.BAD_ITEM, "", f"must be an object, not {_kind(record)}"),))
        item_id = record.get("id")
        item_id = str(item_id)[:200] if isinstance(item_id, str | int) and not isinstance(item_id, bool) else ""
        found: list[Finding] = []
        turns = self._turns(record, found)
        names = self._names(record, found)
        images = [self._seen(position, name, found) for position, name in enumerate(names or ())]
        if turns is not None and _in_order(turns, found, self.dataset.messages):
            conversation = self._conversation(item_id, record, turns, names, images, found)
            found += self._judged(conversation)
        return Outcome(number, item_id, tuple(found), digest_of(record), kinds_of(record), len(images))

    def _turns(self, record: dict[str, Any], found: list[Finding]) -> list[Turn] | None:
        """The turns with our names of the roles; None where they cannot be read."""
        name, tags = self.dataset.messages, self.dataset.tags
        value = record.get(name)
        if name not in record:
            message = f"is missing; the item has {_keys(record)} (columns.messages in dataset_info.json)"
            found.append(finding(Code.KEY_MISSING, name, message))
            return None
        if not isinstance(value, list):
            found.append(finding(Code.BAD_ITEM, name, f"must be a list of turns, not {_kind(value)}"))
            return None
        roles = {tags.user: "user", tags.assistant: "assistant"} | ({tags.system: "system"} if tags.system else {})
        turns: list[Turn] = []
        for number, turn in enumerate(value):
            field = f"{name}[{number}]"
            if not isinstance(turn, dict):
                found.append(finding(Code.BAD_ITEM, field, f"must be an object, not {_kind(turn)}"))
                return None
            for key in (tags.role, tags.content):
                if key not in turn:
                    message = f"is missing; the turn has {_keys(turn)} (tags in dataset_info.json)"
                    found.append(finding(Code.KEY_MISSING, f"{field}.{key}", message))
                    return None
                if not isinstance(turn[key], str):
                    message = f"must be a text, not {_kind(turn[key])}"
                    found.append(finding(Code.BAD_ITEM, f"{field}.{key}", message))
                    return None
            role, text = turn[tags.role], turn[tags.content]
            if role in roles:
                turns.append(Turn(roles[role], text, f"{field}.{tags.content}"))
                continue
            ours = _ALIKE.get(role.strip().lower(), "")
            right = next((theirs for theirs, own in roles.items() if own == ours), "")
            message = f"{role!r} is none of {', '.join(map(repr, roles))}; LLaMA-Factory drops the item"
            edit = Edit((name, number, tags.role), role, right) if right else None
            found.append(finding(Code.ROLE_NAME, f"{field}.{tags.role}", message, edit=edit))
            turns.append(Turn(ours, text, f"{field}.{tags.content}"))
        return turns

    def _names(self, record: dict[str, Any], found: list[Finding]) -> list[str] | None:
        column = self.dataset.images
        value = None if column is None else record.get(column)
        if value is None:
            return []
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list):
            found.append(finding(Code.BAD_ITEM, str(column), f"must be a list of paths, not {_kind(value)}"))
            return None
        for position, name in enumerate(value):
            if not isinstance(name, str) or not name:
                message = f"must be a path, not {_kind(name)}" if name != "" else "is empty"
                found.append(finding(Code.BAD_ITEM, f"{column}[{position}]", message))
                return None
        return value

    def _seen(self, position: int, name: str, found: list[Finding]) -> Seen:
        column = str(self.dataset.images)
        field = f"{column}[{position}]"
        located = self.images.locate(name)
        found += about(located, name, field, (column, position), trained=True)
        header = located.header
        if located.path is None or header.error:
            return Seen(position + 1, name, field, located.path)
        try:
            shown = self.options.limits.shown(header.width, header.height)
        except ImageError as exc:
            found.append(finding(Code.IMAGE_UNREADABLE, field, f"{located.path}: {exc}"))
            return Seen(position + 1, name, field, located.path)
        return Seen(position + 1, name, field, located.path, (header.width, header.height), shown)

    def _conversation(
        self,
        item_id: str,
        record: dict[str, Any],
        turns: list[Turn],
        names: list[str] | None,
        images: list[Seen],
        found: list[Finding],
    ) -> Conversation:
        """Places of images counted and compared; each image with what is stated of it."""
        places = 0
        for turn in turns:
            places += turn.places if turn.role != "system" else 0
            if turn.places and turn.role in ("system", "assistant"):
                code = Code.IMAGE_IN_SYSTEM if turn.role == "system" else Code.IMAGE_IN_REPLY
                message = f"{PLACE} may stand in user turns only"
                found.append(finding(code, turn.field, message))
            for word in _MEDIA:
                if word in turn.text and turn.role != "system":
                    message = f"holds {word}, for which there is no file; LLaMA-Factory stops"
                    found.append(finding(Code.MEDIA_PLACEHOLDER, turn.field, message))
            token = next((m[0] for m in CONTROL.finditer(turn.text) if m[1]), None)
            if token:
                found.append(finding(Code.CONTROL_TOKEN, turn.field, f"holds the control token {token}"))
        fits = names is not None and places == len(images)
        if names is not None and not fits:
            column = self.dataset.images
            hint = "" if column else f"; dataset_info.json names no column of images for {self.dataset.name!r}"
            message = f"{places} {PLACE} in the turns, {len(images)} images; LLaMA-Factory stops{hint}"
            found.append(finding(Code.IMAGE_COUNT, column or self.dataset.messages, message))
        if fits and not any(turn.places for turn in turns if turn.role == "assistant"):
            images = self._with_statements(turns, images)
        return Conversation(item_id, record, tuple(turns), tuple(images), fits)

    def _with_statements(self, turns: list[Turn], images: list[Seen]) -> list[Seen]:
        system = next((turn.text for turn in turns if turn.role == "system"), "")
        statements = self.sizes.read(system, [turn.text for turn in turns if turn.role == "user"])
        result = []
        for image, statement in zip(images, statements, strict=False):
            if statement.unsure and statement.size and not plausible(statement.size, image.size):
                statement = Statement(None, statement.index)
            result.append(replace(image, statement=statement))
        return result + images[len(result) :]

    def _judged(self, conversation: Conversation) -> Iterator[Finding]:
        """Frames, replies, and what further checks find."""
        profile = self.source.profile
        pixels = profile is None or profile.coordinates == "pixels"
        silent = []
        for image in conversation.images:
            stated = image.statement
            if stated.index is not None and stated.index != image.index:
                message = f"image {image.index} of the conversation is called image {stated.index}"
                yield finding(Code.INDEX_STATED, image.field, message)
            if pixels and conversation.fits:
                wrong = judge(image, self.options.limits)
                if wrong:
                    yield wrong
                if stated.size is None and image.size:
                    silent.append(image.index)
        if silent and _draws(conversation):
            which = ", ".join(map(str, silent[:8])) + (", ..." if len(silent) > 8 else "")
            message = f"no size is stated of {len(silent)} images ({which}): their frame is only known by marks outside"
            yield finding(Code.SIZE_NOT_STATED, self.dataset.messages, message)
        if not self.dataset.name.endswith(PLAIN):
            yield from check_replies(conversation, profile)
        for check in self.options.extra:
            yield from check(conversation)


def _in_order(turns: list[Turn], found: list[Finding], name: str) -> bool:
    """Whether user and assistant take turns behind an optional system turn, the assistant being the last."""
    roles = [turn.role for turn in turns]
    if "" in roles:  # told as a name already
        return False
    body = roles[1:] if roles[:1] == ["system"] else roles
    expected = ["user", "assistant"] * (len(body) // 2)
    if body and body == expected:
        return True
    if not body:
        message = "has no turns of user and assistant"
    else:
        wrong = next((i for i, role in enumerate(body) if role != ("user", "assistant")[i % 2]), len(body))
        number = wrong + len(roles) - len(body)
        name = f"{name}[{min(number, len(roles) - 1)}]"
        message = f"turn {number} is of the {roles[number]}" if number < len(roles) else "the last turn is of the user"
        message += "; user and assistant take turns, the assistant being the last"
    found.append(finding(Code.ROLE_ORDER, name, f"{message}; LLaMA-Factory drops the item"))
    return False


def _draws(conversation: Conversation) -> bool:
    return any("```" in turn.text for turn in conversation.turns if turn.role == "assistant") and any(
        isinstance(parse_reply(turn.text), DrawCall) for turn in conversation.turns if turn.role == "assistant"
    )


def digest_of(record: dict[str, Any]) -> bytes:
    """Of everything but the id."""
    text = json.dumps({key: value for key, value in record.items() if key != "id"}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


def kinds_of(record: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((key, _kind(value)) for key, value in record.items() if value is not None)


def _keys(value: dict[str, Any]) -> str:
    return ", ".join(map(repr, list(value)[:5])) or "nothing"


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    return {str: "a text", list: "a list", dict: "an object"}.get(type(value), "nothing")
