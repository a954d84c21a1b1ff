"""A reading as the YAML of a profile, with a comment header that says where each piece came from."""

from __future__ import annotations

import textwrap
from typing import Any

import yaml

from vilasr.profile_reading.templates import Reading
from vilasr.prompts import Profile, default_profile, parse_profile

_ORDER = ("name", "system", "question", "option", "captions", "notes", "remove", "suffix", "feedback", "strip")
_FACTS = ("image", "coordinates", "policy", "budget")


def fill(reading: Reading, name: str, max_pixels: int, missing_ok: bool = False) -> dict[str, Any]:
    """The keys of a whole profile; where the source has no text, ours, and a remark that says so.

    With `missing_ok` that goes for every text, else for those of errors and repeated marks alone, which the published
    project does not have. What is left out then is added to `missing`.
    """
    ours = default_profile()
    texts = {
        "question": dict(ours.question),
        "captions": dict(ours.captions),
        "suffix": dict(ours.suffix),
        "feedback": dict(ours.feedback),
    }
    keys = {"name": name, **reading.keys}
    own: list[str] = []
    for key, defaults in texts.items():
        found = keys[key] = dict(keys.get(key, {}))
        for part, text in defaults.items():
            if part not in found and (missing_ok or part in ("error", "repeated", "image_budget")):
                found[part] = text
                own.append(f"{key}.{part}")
            elif part not in found and f"{key}.{part}" not in "\n".join(reading.missing):
                reading.missing.append(f"{key}.{part}")
    for key, text in (("system", ours.system), ("option", ours.option)):
        if key not in keys:
            if missing_ok:
                keys[key] = text
                own.append(key)
            else:
                reading.missing.append(key)
    if own:
        reading.remarks.append(f"the source has no wording for {', '.join(own)}: our own text stands there")
    budget = {"calls": 10, "maze_calls": 20, "images": 45, "errors": ours.budget.errors, "turn_tokens": 1024}
    rule = {"factor": 28, "min_pixels": 4 * 28 * 28, "max_pixels": max_pixels}
    facts = {"image": rule, "coordinates": "pixels", "policy": "released", "budget": budget}
    facts["budget"] = budget | keys.pop("budget", {})
    ordered = {key: keys[key] for key in _ORDER if keys.get(key) not in (None, {}, [])}
    return ordered | facts


def to_yaml(reading: Reading, keys: dict[str, Any]) -> str:
    """The file's text. Raises ProfileError where the keys make no profile."""
    header = [
        f"Profile read from {reading.source} by tools/read_profile.py. Fields and keys: vilasr/profiles/vilasr.yaml."
    ]
    header += ["Where each piece came from:"]
    header += [f"- {key}: {origin}" for key, origin in reading.origins.items()]
    header += [f"Note: {remark}." for remark in reading.remarks]
    lines = [line for text in header for line in textwrap.wrap(text, 116, subsequent_indent="  ")]
    body = yaml.dump(keys, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)
    text = "".join(f"# {line}\n" for line in lines) + "\n" + body
    assert yaml.safe_load(text) == keys, "YAML changed a text"
    parse_profile(text, "the profile read")
    return text


def profile_of(reading: Reading, keys: dict[str, Any]) -> Profile:
    """The profile that `to_yaml` writes."""
    return parse_profile(to_yaml(reading, keys), "the profile read")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines in blocks, as a person would write them."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text.strip() else '"' if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
