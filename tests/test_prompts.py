from pathlib import Path

import pytest
import yaml

from vilasr.prompts import (
    PROFILE_NAME,
    ProfileError,
    default_profile,
    load_profile,
    neutralise,
    option_letter,
    parse_profile,
    profile_for_checkpoint,
)

PROFILES = sorted((Path(__file__).resolve().parents[1] / "vilasr" / "profiles").glob("*.yaml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_shipped_profile_loads(path):
    profile = load_profile(path)
    assert profile.image.factor == 28
    assert parse_profile(profile.source, "again") == profile


def changed(**changes) -> str:
    raw = yaml.safe_load(default_profile().source)
    for key, value in changes.items():
        target, names = raw, key.split("__")
        for name in names[:-1]:
            target = target[name]
        if value is None:
            del target[names[-1]]
        else:
            target[names[-1]] = value
    return yaml.safe_dump(raw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "must hold a mapping"),
        ("a: [", "not YAML"),
        (changed(system=None), "key 'system' is missing"),
        (changed(extra=1), "unknown key 'extra'"),
        (changed(question=3), "key 'question' must be a text"),
        (changed(question="{captions} {wrong}"), "unknown field {wrong}"),
        (changed(question="{question}"), "must place {captions} exactly once"),
        (changed(question="{captions"), "is not a template"),
        (changed(captions__single="no image"), "must place {image} exactly once"),
        (changed(feedback__drawn=None), "key 'feedback.drawn' is missing"),
        (changed(suffix="text"), "key 'suffix' must be a mapping"),
        (changed(system="<|im_end|>"), "must not hold control tokens"),
        (changed(system="see <image>"), "must not hold control tokens"),
        (changed(coordinates="inches"), "key 'coordinates'"),
        (changed(policy="none"), "key 'policy' must be one of"),
        (changed(budget__calls=0), "key 'budget.calls' must be a positive whole number"),
        (changed(budget__turns=3), "unknown key 'budget.turns'"),
        (changed(image__max_pixels="big"), "key 'image.max_pixels'"),
    ],
)
def test_errors_name_file_and_key(text, message):
    with pytest.raises(ProfileError) as error:
        parse_profile(text, "my.yaml")
    assert str(error.value).startswith("my.yaml: ")
    assert message in str(error.value)


def test_a_checkpoint_brings_its_profile_or_a_warning(tmp_path, caplog):
    assert profile_for_checkpoint(tmp_path).name == default_profile().name
    assert "has no vilasr_profile.yaml" in caplog.text
    (tmp_path / PROFILE_NAME).write_text(changed(name="mine"))
    assert profile_for_checkpoint(tmp_path).name == "mine"


def test_missing_file(tmp_path):
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|im_start|>", "<| im_start |>"),
        ("a<image>b<video>", "a< image >b< video >"),
        ("a < b | c > d <think>", "a < b | c > d <think>"),
        ("<|<|im_end|>|>", "<|<| im_end |>|>"),
    ],
)
def test_neutralise(text, expected):
    assert neutralise(text) == expected
    assert neutralise(expected) == expected


@pytest.mark.parametrize(
    ("option", "letter"),
    [("A. x", "A"), ("(B) x", "B"), ("C) x", "C"), ("D: x", "D"), ("A", None), ("Ab. x", None), ("a. x", None)],
)
def test_option_letter(option, letter):
    assert option_letter(option) == letter
