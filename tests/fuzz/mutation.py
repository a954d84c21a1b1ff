"""Valid inputs, broken: bytes, texts and JSON values. The same random generator gives the same inputs."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

MAX_BYTES = 1 << 16  # of most inputs; `long_text` makes some longer ones

Mutator = Callable[[random.Random, Sequence[bytes]], bytes]

_NUMBERS = ["0", "-0", "-0.0", "1", "-1", "1e308", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "2147483648",
            "18446744073709551616", "1" * 400, "1" * 5000, "0.1", "1e-320", "3.0", "1E2", "0x10", "01",
            "1_000", "٣"]  # fmt: skip
_TEXTS = ["", " ", "\x00", "\ufeff", "\u202etxt.exe", "\ud800", "\udfff\ud800", "\u2028", "\x1b[2J", "\r\n",
          "\n", "門", "👍",
          "a\u0301", "ﬁ", "İ", "ß", "١٢٣", "½", "𝟙", "{}", "{0}", "{image}", "{x.__class__}", "%s", "%(x)s", "<image>",
          "<|im_start|>", "<think>", "</think>", "<answer>", "</answer>", "```", "```json\n", "Action: Answer", "../..",
          "/dev/null", "/proc/self/mem", "C:\\x", "A", "Z", "B. chair", "-5", "1,000", "1/0", "10^999", "nan", "inf",
          "null", "true", "[]", "$(id)", "`id`", "'; --", "!!python/object:os.system", "&a [*a]", "\\u0000",
          "__class__"]  # fmt: skip
_KEYS = ["id", "question", "answer", "options", "image_path", "label", "index", "bbox_2d", "__class__", "", "\x00", "1"]
_BYTES = [b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc3\x28", b"\xed\xa0\x80", b"\xf5\x80\x80\x80",
          b"\x1b[31m",
          b"\r", b"\n", b"PK\x05\x06", b"PK\x01\x02", b"\x7f", b"\x80", b"[" * 64, b"{", b'"', b"\\",
          b"\\ud800"]  # fmt: skip
_WORDS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1]
_PACKED = ["<H", "<I", "<Q", ">H", ">I"]


def bytes_mutator(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Flipped, cut out, doubled, spliced and overwritten pieces; integers of two, four and eight bytes made extreme."""
    data = bytearray(rng.choice(seeds))
    for _ in range(_few(rng)):
        length = len(data)
        at = rng.randrange(length + 1)
        kind = rng.randrange(9)
        if kind == 0 and length:
            data[at % length] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + rng.choice((1, 2, 8, 64, 1024))] = b""
        elif kind == 2:
            data[at:at] = data[at : at + rng.choice((1, 4, 32, 512))]
        elif kind == 3:
            data[at:at] = rng.choice(_BYTES)
        elif kind == 4:
            other = rng.choice(seeds)
            start = rng.randrange(len(other) + 1)
            data[at:] = other[start:]
        elif kind == 5:
            del data[at:]
        elif kind == 6:
            packed = rng.choice(_PACKED)
            size = struct.calcsize(packed)
            data[at : at + size] = struct.pack(packed, rng.choice(_WORDS) & ((1 << 8 * size) - 1))
        elif kind == 7 and length:
            data[at % length] = rng.randrange(256)
        else:
            data[at:at] = rng.randbytes(rng.choice((1, 3, 16)))
    return bytes(data[:MAX_BYTES])


def text_mutator(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """As `bytes_mutator`, in characters, with pieces of every grammar that is read here."""
    text = _text(rng.choice(seeds))
    for _ in range(_few(rng)):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(8)
        if kind == 0:
            text = text[:at] + text[at + rng.choice((1, 2, 8, 40)) :]
        elif kind == 1:
            text = text[:at] + rng.choice(_TEXTS) + text[at:]
        elif kind == 2:
            text = text[:at] + rng.choice(_NUMBERS) + text[at + rng.randrange(4) :]
        elif kind == 3:
            end = at + rng.choice((1, 6, 30, 200))
            text = text[:end] + text[at:]
        elif kind == 4:
            other = _text(rng.choice(seeds))
            text = text[:at] + other[rng.randrange(len(other) + 1) :]
        elif kind == 5:
            text = text[:at] + chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x300), rng.randrange(0x3000))))
        elif kind == 6:
            text = text[:at] + rng.choice('{}[]:,"<>`\n-.') + text[at:]
        else:
            first, second = sorted((at, rng.randrange(len(text) + 1)))
            text = text[:first] + text[second:]
    if rng.random() < 0.002:
        text = long_text(rng, text)
    return text[: 4 * MAX_BYTES].encode("utf-8", "surrogatepass")


def json_mutator(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A JSON value with others in its places: types swapped, fields lost, renamed and doubled, deep nesting, numbers
    that are none, halves of characters. Some are broken as texts after that. A seed of several lines is JSON lines."""
    seed = rng.choice(seeds)
    try:
        values = [json.loads(seed)]
    except ValueError:
        values = [json.loads(line) for line in seed.splitlines()]
    for _ in range(_few(rng)):
        place = rng.randrange(len(values))
        values[place] = _changed(rng, values[place])
        if rng.random() < 0.03:
            values.insert(place, json.loads(json.dumps(values[place])))
    ascii_only = rng.random() < 0.7
    text = "\n".join(json.dumps(value, ensure_ascii=ascii_only) for value in values)
    if len(values) > 1 or rng.random() < 0.5:
        text += "\n"
    for number in range(text.count(_MARK)):
        text = text.replace(f'"{_MARK}"', _NUMBERS[(number + len(text)) % len(_NUMBERS)], 1)
    if rng.random() < 0.1:
        text = _broken_json(rng, text)
    return text[: 4 * MAX_BYTES].encode("utf-8", "surrogatepass")


_MARK = "\x01number\x01"  # as JSON: "\u0001number\u0001"
_MARK = json.dumps(_MARK)[1:-1]


def _changed(rng: random.Random, value: Any) -> Any:
    """The value with a change somewhere in it."""
    holder: Any = None
    key: Any = None
    root = value
    while isinstance(value, dict | list) and value and (holder is None or rng.random() < 0.75):
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        holder, value = value, value[key]
    if holder is None:
        return _other(rng, value)
    kind = rng.randrange(10)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[rng.choice(_KEYS) if rng.random() < 0.5 else rng.choice(_TEXTS)] = holder.pop(key)
    elif kind == 2 and isinstance(holder, list):
        holder[key:key] = [value] * rng.choice((1, 2, 50))
    elif kind == 3 and isinstance(value, str):
        at = rng.randrange(len(value) + 1)
        holder[key] = value[:at] + rng.choice(_TEXTS) + value[at:]
    else:
        holder[key] = _other(rng, value)
    return root


def _other(rng: random.Random, value: Any) -> Any:
    kind = rng.randrange(12)
    if kind < 3:
        return rng.choice(_TEXTS)
    if kind < 5:
        return json.loads(f'"{_MARK}"')  # becomes a number of every kind
    if kind == 5:
        return rng.choice((None, True, False, [], {}, [[]], [None], {"": None}))
    if kind == 6:
        return [value]
    if kind == 7:
        return {str(value)[:20]: value}
    if kind == 8:
        return str(value)[:2000]
    if kind == 9:
        deep: Any = value
        for _ in range(rng.choice((3, 30, 300))):
            deep = [deep]
        return deep
    if kind == 10:
        return rng.randrange(-3, 300) if rng.random() < 0.7 else rng.uniform(-10, 1e4)
    return long_text(rng, str(value)[:100]) if rng.random() < 0.02 else [value, value]


def _broken_json(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    kind = rng.randrange(8)
    if kind == 0:
        return "\ufeff" + text
    if kind == 1:
        return text[:at]
    if kind == 2:
        return text[:at] + rng.choice(_TEXTS) + text[at:]
    if kind == 3:
        return text[:at] + "[" * rng.choice((10, 2000, 100_000)) + text[at:]
    if kind == 4:
        return text.replace('":', '": 1, "', 1)
    if kind == 5:
        return text + text
    if kind == 6:  # a key twice
        return text.replace("{", '{"id": 7, "question": null, ', 1)
    return text[:at] + rng.choice(_NUMBERS) + text[at:]


def long_text(rng: random.Random, text: str) -> str:
    return (text or "x") * (rng.choice((2_000, 40_000, 120_000)) // max(len(text), 1))


def _few(rng: random.Random) -> int:
    return min(1 + int(rng.expovariate(0.7)), 12)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
