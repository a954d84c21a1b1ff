"""Profiles, what they are read out of, and the YAML of recipes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import yaml

from tests.data_check import making
from tests.fuzz.contract import Target, Violation
from tests.fuzz.mutation import json_mutator, text_mutator
from tests.golden import make_example
from tests.profile_records import records
from vilasr.episode import Episode
from vilasr.messages import Reply
from vilasr.profile_checks import ProfileError
from vilasr.profile_reading.output import fill, to_yaml
from vilasr.profile_reading.source import read_source
from vilasr.profile_reading.templates import ReaderError
from vilasr.prompts import default_profile, load_profile, wording
from vilasr.selection import Selection, named_ids
from vilasr.tasks import DataError

UNREADABLE = (ReaderError, ProfileError)  # a text that is not understood, or that no profile may hold


@cache
def _profiles() -> tuple[bytes, ...]:
    source = default_profile().source
    return (json.dumps(yaml.safe_load(source)).encode(),)


def _yamls() -> tuple[bytes, ...]:
    short = "\n".join(line for line in default_profile().source.splitlines() if not line.lstrip().startswith("#"))
    return default_profile().source.encode(), short.encode()


@cache
def _example():
    return make_example("fuzz", [(56, 56), (84, 56)])


def profile(data: bytes, folder: Path) -> object:
    """A profile that passes the checks can be talked with."""
    path = folder / "vilasr_profile.yaml"
    path.write_bytes(data)
    found = load_profile(path)
    wording(found.source)
    played = Episode(_example(), found) if found.image.factor <= 1000 else None
    if played is None:
        return found.name
    for text in (making.boxes((1, [10, 10, 60, 60], "chair")), "no action", making.answer("B")):
        if played.done is None:
            played.advance(Reply(text))
    if len(played.messages) < 2:
        raise Violation("an episode without a conversation")
    return [message.text() for message in played.messages]


@cache
def _conversations() -> tuple[bytes, ...]:
    return (json.dumps(records(default_profile(), 6)[1]).encode(),)


def profile_from_data(data: bytes, folder: Path) -> object:
    path = folder / "data.json"
    path.write_bytes(data)
    return _read(path)


def _read(path: Path) -> object:
    reading = read_source([path])
    if reading.missing:
        return reading.missing
    keys = fill(reading, "fuzz", 351232, path.suffix == ".json")
    return to_yaml(reading, keys) if not reading.missing else reading.missing


def _code() -> tuple[bytes, ...]:
    from tests.test_read_profile import INFER  # a program of the published structure

    return (INFER.encode(),)


def profile_from_code(data: bytes, folder: Path) -> object:
    path = folder / "infer.py"
    path.write_bytes(data)
    return _read(path)


def ids(data: bytes, folder: Path) -> object:
    path = folder / "ids.txt"
    path.write_bytes(data)
    return sorted(named_ids(Selection(ids=(f"@{path}",))))


TARGETS = (
    Target("profile", _profiles, profile, json_mutator, (ProfileError,), often=0.05),
    Target("profile-yaml", _yamls, profile, text_mutator, (ProfileError,), often=0.05),
    Target(
        "profile-of-data",
        _conversations,
        profile_from_data,
        json_mutator,
        UNREADABLE,
        often=0.015,
        named=False,
    ),
    Target("profile-of-code", _code, profile_from_code, text_mutator, UNREADABLE, often=0.05, named=False),
    Target("ids-file", lambda: (b"a\nb\nc-1\n", "ä\r\n\u2028x".encode()), ids, text_mutator, (DataError,), often=2),
)
