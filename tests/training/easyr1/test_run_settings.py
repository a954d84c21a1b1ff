"""Our section of the configuration, on its way through one variable."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields

import pytest

from vilasr.tasks import DataError
from vilasr.training.easyr1.run_settings import ATTENTIONS, VARIABLE, RunSettings

ALL = RunSettings(
    profile="/p/ü.yaml",
    max_pixels=112_896,
    turn_tokens=256,
    beta=0.25,
    data_root="/data",
    held_out=64,
    rollouts="/out/rollouts",
    attention="sdpa",
)


@pytest.mark.parametrize("settings", [RunSettings(), ALL])
def test_through_the_environment(settings):
    variables = settings.to_variable()
    assert list(variables) == [VARIABLE]
    assert isinstance(variables[VARIABLE], str)
    assert RunSettings.from_environment({**variables, "OTHER": "1"}) == settings


def test_every_field_travels():
    values = json.loads(ALL.to_variable()[VARIABLE])
    assert values.keys() == {field.name for field in fields(RunSettings)}
    assert all(values[field.name] != field.default for field in fields(RunSettings)), "all are of their own here"


def test_a_process_that_the_launcher_did_not_start():
    with pytest.raises(KeyError, match=VARIABLE):
        RunSettings.from_environment({})


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_attentions(attention):
    assert RunSettings(attention=attention).attention == attention


@pytest.mark.parametrize("attention", ["eager", "", "torch_flash_varlen", None])
def test_an_attention_there_is_none_of(attention):
    with pytest.raises(DataError, match=r"vilasr\.attention: .* must be one of flash_attention_2, sdpa$"):
        RunSettings(attention=attention)


def test_it_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        RunSettings().beta = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(("name", "value"), [("max_pixels", 0), ("turn_tokens", -5), ("held_out", -1)])
def test_numbers_that_cannot_be(name, value):
    with pytest.raises(DataError, match=rf"vilasr\.{name}: {value} must"):
        RunSettings(**{name: value})
