"""Records of cold-start or reflective data, brought to one shape, and what their numbers stand for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vilasr.profile_reading.follow import mark
from vilasr.profile_reading.templates import NotFound, ReaderError

SHARE = 0.8  # of the records a text must be shared by to be taken for wording
_SAMPLE = 2000
_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_NUMBER = re.compile(r"\d+")
_SLOT = "\x01"


@dataclass(frozen=True)
class Record:
    """`system`, then `turns` of (user text, reply). Images stand in the texts as `<image>`."""

    number: int
    system: str
    turns: tuple[tuple[str, str], ...]

    @property
    def images(self) -> int:
        return self.turns[0][0].count("<image>")


def parse_records(raw: Sequence[object], source: str) -> tuple[list[Record], list[str]]:
    """(records, what is wrong with the others). Raises ReaderError where none can be used."""
    records, wrong = [], []
    for number, one in enumerate(raw):
        found = _record(number, one)
        if isinstance(found, Record):
            records.append(found)
        else:
            wrong.append(f"record {number}: {found}")
    if not records:
        raise ReaderError(f"{source}: no record can be used; {wrong[0]}")
    return records, wrong


def _record(number: int, raw: object) -> Record | str:
    if not isinstance(raw, dict):
        return "must be an object"
    messages = raw.get("conversations", raw.get("messages"))
    if not isinstance(messages, list) or not messages:
        return "conversations: must be a list of messages"
    system = raw.get("system") if isinstance(raw.get("system"), str) else ""
    said: list[tuple[str, str]] = []
    for message in messages:
        if not isinstance(message, dict):
            return "conversations: a message must be an object"
        role = _ROLES.get(str(message.get("role", message.get("from"))))
        text = message.get("content", message.get("value"))
        if role is None or not isinstance(text, str):
            return "conversations: a message needs a role (or from) and a text content (or value)"
        if role == "system":
            system = text
        else:
            said.append((role, text))
    roles = [role for role, _ in said]
    if len(said) < 2 or roles != ["user", "assistant"] * (len(said) // 2):
        return "conversations: user and assistant must take turns, the user first"
    texts = [_plain(text) for _, text in said]
    turns = tuple(zip(texts[0::2], texts[1::2], strict=True))
    if "<image>" not in turns[0][0]:
        return "conversations: the first user turn shows no <image>"
    return Record(number, _plain(str(system)), turns)


def _plain(text: str) -> str:
    """Without the signs that stand for images and numbers here."""
    return text.replace("\r\n", "\n").replace("\x00", " ").replace(_SLOT, " ")


@dataclass(frozen=True)
class Sample:
    """A text, and the numbers known of its place: the image's index, how many images, the image drawn on."""

    text: str
    known: Mapping[str, int]


def skeleton(text: str) -> str:
    """The text with every number replaced by one sign."""
    return _NUMBER.sub(_SLOT, text)


def largest(texts: Iterable[str]) -> tuple[str, int]:
    """The most frequent skeleton, and how many texts have it."""
    ((text, count),) = Counter(map(skeleton, texts)).most_common(1)
    return text, count


def marked(samples: Sequence[Sample], names: Mapping[str, str]) -> str:
    """The one text of samples with the same skeleton, its numbers as marks. `names` maps what is known, and `width`
    and `height`, to marks; numbers that never vary stay, but for a pair of sizes. Raises NotFound."""
    shape = skeleton(samples[0].text)
    samples = [sample for sample in samples if skeleton(sample.text) == shape][:_SAMPLE]
    columns = list(zip(*(_NUMBER.findall(sample.text) for sample in samples), strict=True))
    found: list[str | None] = [_known(column, samples) for column in columns]
    open_columns = [j for j, name in enumerate(found) if name is None and _may_be_size(columns[j])]
    distinct = list(dict.fromkeys(columns[j] for j in open_columns))
    varying = any(len(set(column)) > 1 for column in distinct)
    if len(open_columns) >= 2 and len(distinct) <= 2:
        for place, j in enumerate(open_columns):
            found[j] = ("width", "height")[place % 2 if len(distinct) == 1 else distinct.index(columns[j])]
    elif varying:
        raise NotFound(f"what the numbers stand for in {samples[0].text[:160]!r}")
    if set(found) - set(names) - {None}:
        raise NotFound(f"what the numbers stand for in {samples[0].text[:160]!r}")
    pieces = shape.split(_SLOT)
    out = [pieces[0]]
    for name, column, piece in zip(found, columns, pieces[1:], strict=True):
        out += [column[0] if name is None else mark(names[name]), piece]
    return "".join(out)


def _known(column: Sequence[str], samples: Sequence[Sample]) -> str | None:
    for name in samples[0].known:
        if all(value == str(sample.known[name]) for value, sample in zip(column, samples, strict=True)):
            return name
    return None


def _may_be_size(column: Sequence[str]) -> bool:
    """A number that varies, or a constant that images have: sides are multiples of 28."""
    if any(len(value) > 6 for value in column):
        return False
    return len(set(column)) > 1 or (int(column[0]) >= 28 and int(column[0]) % 28 == 0)


def common_start(texts: Sequence[str]) -> str:
    """The skeleton of the whole lines that nearly all texts begin with, line break included; of a last line its part
    up to a colon."""
    kept, rest = "", [skeleton(text) for text in texts]
    needed = SHARE * len(texts)
    while rest:
        lines = Counter(text.split("\n", 1)[0] for text in rest if "\n" in text)
        line, count = lines.most_common(1)[0] if lines else ("", 0)
        if count < needed:
            break
        rest = [text[len(line) + 1 :] for text in rest if text.startswith(line + "\n")]
        kept += line + "\n"
    opened = Counter(match[0] for text in rest if (match := re.match(r"[^\n:]{0,60}: ?", text)))
    if opened and opened.most_common(1)[0][1] >= needed:
        kept += opened.most_common(1)[0][0]
    return kept


def common_ends(texts: Sequence[str]) -> list[str]:
    """What nearly all texts end with, in whole lines with the line break before; several where together they do."""
    ends = [""]
    while True:
        longer: list[str] = []
        for end in ends:
            group = [text[: len(text) - len(end)] for text in texts if text.endswith(end)]
            lines = Counter("\n" + text.rsplit("\n", 1)[1] for text in group if "\n" in text)
            frequent = [line for line, count in lines.items() if count >= max(3, 0.1 * len(group))]
            if sum(lines[line] for line in frequent) < 0.9 * len(group) or len(frequent) > 3:
                longer.append(end)
            else:
                longer += [line + end for line in frequent]
        if longer == ends:
            return ends
        ends = longer
