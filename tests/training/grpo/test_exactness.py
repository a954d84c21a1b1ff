"""The checker of masks, replies, images and log-probabilities finds what is wrong, in a run made by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests import exactness
from tests.training.grpo.dumped import Tokens, file_of, load, save
from tests.training.grpo.independent import Words, check

START, END, END_OF_TEXT, PAD, ASSISTANT, NEWLINE = range(1, 7)
WORDS = Words(START, END, END_OF_TEXT, PAD, (ASSISTANT, NEWLINE), lambda ids: "".join(map(chr, ids)))
OPENING = [START, ASSISTANT, NEWLINE]


def text(words: str) -> list[int]:
    return [ord(letter) for letter in words]


def user(words: str, pads: int = 0) -> list[int]:
    return [START, *text(f"user {words}"), *[PAD] * pads, END, NEWLINE]


# What the model said, how it ended, and what stands after it before the next turn.
SAID = (
    ("I draw a box on it", "stop", [END], []),
    ("on and on and on", "length", [], [END]),
    ("", "stop", [END], []),
    ("I have come to an end", "stop", [END_OF_TEXT], [END]),
    ("and then <", "forbidden_token", [], []),
)


def episode(item: str = "maze", sample: int = 0) -> tuple[Tokens, dict]:
    prompt = [*user("where", 6), *OPENING]
    response, mask = [], []
    for number, (words, _, own, ours) in enumerate(SAID):
        last = number == len(SAID) - 1
        sampled = [*text(words), *own]
        given = [] if last else [*ours, NEWLINE, *user("look", 4 if number == 0 else 0), *OPENING]
        response += [*sampled, *given]
        mask += [1] * len(sampled) + [0] * len(given)
    noise = np.random.default_rng(sample)
    chances = np.where(mask, np.log(noise.uniform(0.05, 1, len(mask))), 0).astype(np.float32)
    learner = np.where(mask, chances + 1e-3, -3).astype(np.float32)  # it has one for every token
    grids = np.array([[1, 4, 6], [1, 4, 4]])
    made = Tokens(item, sample, len(prompt), np.array(prompt + response), np.array(mask), chances, learner, grids)
    steps = [{"text": words, "finish_reason": finish} for words, finish, _, _ in SAID]
    return made, {"id": item, "sample": sample, "stop_reason": "forbidden_token", "steps": steps}


def counts(tokens: Tokens, row: dict) -> dict[str, int]:
    found = check(tokens, row, WORDS)
    names = ("masks", "replies", "images", "places", "shifted")
    return {name: int(getattr(found, name)) for name in names if getattr(found, name)}


def altered(values: np.ndarray, place: int, value: float) -> np.ndarray:
    changed = values.copy()
    changed[place] = value
    return changed


def test_a_right_episode():
    tokens, row = episode()
    assert counts(tokens, row) == {}
    assert len(check(tokens, row, WORDS).rollout) == tokens.mask.sum()


def test_every_wrong_bit_of_a_mask_is_found():
    tokens, row = episode()
    for place, bit in enumerate(tokens.mask):
        assert counts(replace(tokens, mask=altered(tokens.mask, place, 1 - bit)), row) == {"masks": 1}


def test_a_mask_of_another_length():
    tokens, row = episode()
    assert counts(replace(tokens, mask=tokens.mask[1:]), row)["masks"] == len(tokens.mask)


@pytest.mark.parametrize("by", [-1, 1])
def test_shifted_log_probabilities_are_found(by):
    tokens, row = episode()
    found = counts(replace(tokens, rollout=np.roll(tokens.rollout, by)), row)
    assert found["places"] >= 2 * 3
    assert found["shifted"]


def test_log_probabilities_shifted_among_the_sampled_are_found():
    tokens, row = episode()
    moved = tokens.rollout.copy()
    said = tokens.mask == 1
    moved[said] = np.roll(moved[said], 1)
    assert counts(replace(tokens, rollout=moved), row) == {"shifted": 1}


@pytest.mark.parametrize("value", [0.0, float("nan"), 0.5])
def test_a_log_probability_that_is_none_is_found(value):
    tokens, row = episode()
    place = int(np.flatnonzero(tokens.trainer * tokens.mask < -1)[0])
    assert counts(replace(tokens, rollout=altered(tokens.rollout, place, value)), row) == {"places": 1}


def test_certainty_is_no_missing_log_probability():
    tokens, row = episode()
    sure = replace(tokens, rollout=altered(tokens.rollout, 0, 0.0), trainer=altered(tokens.trainer, 0, -0.01))
    assert counts(sure, row) == {}


@pytest.mark.parametrize("number", range(len(SAID)))
def test_an_altered_reply_is_found(number):
    tokens, row = episode()
    row["steps"][number]["text"] += "!"
    assert counts(tokens, row) == {"replies": 1}


def test_a_lost_reply_and_one_too_many_are_found():
    tokens, row = episode()
    steps = row["steps"]
    assert counts(tokens, {**row, "steps": steps[:-1]})["replies"] == 1
    assert counts(tokens, {**row, "steps": [*steps, steps[0]]})["replies"] == 1


def test_an_image_of_other_size_is_found():
    tokens, row = episode()
    assert counts(replace(tokens, grids=np.array([[1, 4, 4], [1, 4, 6]])), row) == {"images": 1}
    assert counts(replace(tokens, grids=tokens.grids[:1]), row) == {"images": 1}


def test_of_a_failed_episode_nothing_may_be_trained():
    tokens, row = episode()
    row["stop_reason"] = "engine_error"
    assert counts(tokens, row) == {"masks": tokens.mask.sum()}
    untrained = replace(tokens, mask=np.zeros_like(tokens.mask))
    assert counts(untrained, row) == {}
    assert len(check(untrained, row, WORDS).rollout) == 0


def test_a_question_that_was_never_answered():
    """Its one response token is a stand-in of ours."""
    none = np.zeros(1)
    tokens = Tokens("long", 0, 3, np.array([*OPENING, END]), none, none, none - 1, np.zeros((0, 3), int))
    row = {"id": "long", "sample": 0, "stop_reason": "context_overflow", "steps": []}
    for ended in (row, {"id": "long", "sample": 0, "stop_reason": "input_error"}):
        assert counts(tokens, ended) == {}
        assert counts(replace(tokens, mask=none + 1), ended) == {"masks": 1}


def test_tokens_are_kept_as_they_are(tmp_path):
    made = [episode("a", 0)[0], episode("b", 1)[0]]
    path = file_of(tmp_path, 3)
    save(path, made)
    for one, read in zip(made, load(path), strict=True):
        assert (one.item, one.sample, one.prompt) == (read.item, read.sample, read.prompt)
        for name in ("ids", "mask", "rollout", "trainer", "grids"):
            np.testing.assert_array_equal(getattr(one, name), getattr(read, name))
    assert [file.name for file in path.parent.iterdir()] == ["step_000003.npz"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(change) -> the exit status and the line of JSON for a run of two steps, one episode changed."""
    monkeypatch.setattr(exactness, "read_words", lambda model: WORDS)

    def make(capsys, change=lambda tokens: tokens, least: int = 8):
        (tmp_path / "config.yaml").write_text("actor_rollout_ref: {model: {path: nano}}")
        logged = {"training/rollout_probs_diff_max": 0.125}
        (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 2, "data": logged}) + "\n")
        for step in (1, 2):
            made = [episode(item, sample) for item in "ab" for sample in range(2)]
            tokens = [one for one, _ in made]
            save(file_of(tmp_path, step), [*tokens[:3], change(tokens[3])] if step == 2 else tokens)
            path = tmp_path / f"rollouts/train/step_{step:06d}/results.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for _, row in made))
        status = exactness.main([str(tmp_path), "--least", str(least)])
        printed = capsys.readouterr().out.splitlines()
        return status, json.loads(printed[-1]), printed

    return make


def test_a_right_run(run, capsys):
    status, found, printed = run(capsys)
    assert (status, found["right"], found["episodes"]) == (0, True, 8)
    assert found["tokens"] == 8 * episode()[0].mask.sum()
    assert found["max"] == pytest.approx(1e-3, rel=0.05)
    assert found["quantiles"]["0.5"] < found["quantiles"]["0.9999"] <= found["max"]
    assert found["pearson"] > 0.999
    assert "0.125" in printed[3], "what verl logged of step 2"


def test_a_wrong_run(run, capsys):
    status, found, printed = run(capsys, lambda tokens: replace(tokens, mask=altered(tokens.mask, 0, 0)))
    assert (status, found["right"], found["wrong masks"]) == (1, False, 1)
    assert "step 2, b, sample 1: mask of response token 0: 1 differ" in printed


def test_too_few_episodes_are_no_evidence(run, capsys):
    status, found, _ = run(capsys, least=9)
    assert (status, found["right"], found["wrong masks"]) == (1, False, 0)
