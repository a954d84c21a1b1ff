"""Many drawing episodes on one engine: none waits for another, none takes another down, every rank asks the same."""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.golden import answer, boxes, make_example
from tests.training.easyr1.scripted import Cut, Failure, ScriptedSteps, ids_of, item_of, load_chat, scrambled, script
from vilasr.episode import Episode
from vilasr.results import parse_row
from vilasr.traces import StopReason
from vilasr.training.easyr1.play import Played, Sampled, Settings, play, turn_seed
from vilasr.training.grpo.rollout import TokenLimits

pytestmark = pytest.mark.engine

MANY = TokenLimits(prompt=20_000, response=20_000, turn=1024)
ONE = [(168, 168)]
RIGHT, WRONG = answer("B"), answer("C")


def draw(image: int, label: str = "chair") -> str:
    return boxes((image, [20, 30, 90, 100], label))


@pytest.fixture(scope="module")
def chat(nano):
    return load_chat(nano)


@pytest.fixture
def settings(profile):
    return Settings(profile, MANY, beta=0.0, seed="1:1")


@pytest.fixture
def items(tmp_path):
    def make(count: int, **options):
        return [item_of(make_example(f"q{number}", ONE), tmp_path, **options) for number in range(count)]

    return make


@pytest.fixture
def run(chat, settings):
    """run(items, samples, replies by number, ...) -> (played, engine). What EasyR1 relies on is looked at each time."""

    def run(items, samples, replies, settings=settings, **engine) -> tuple[list[Played], ScriptedSteps]:
        steps = ScriptedSteps(chat, replies if isinstance(replies, Callable) else script(replies), **engine)
        played = play(items, samples, steps, chat, settings)
        assert len(played) == len(items) * samples
        for number, one in enumerate(played):
            whole(one, chat)
            assert one.record.example.id == items[number // samples].example.id, "the samples of an item side by side"
            assert one.record.sample == number % samples
        return played, steps

    return run


def whole(one: Played, chat) -> None:
    """Whatever happened: a question, something after it, an image, and as many pads as the images have tokens."""
    tokens = one.tokens
    assert tokens.prompt > 0
    assert len(tokens.ids) - tokens.prompt == len(tokens.mask) == len(tokens.logprobs) > 0
    assert tokens.images
    assert tokens.ids.count(chat.image_pad) == sum(image.width * image.height // 28**2 for image in tokens.images)
    assert tokens.compact.count(chat.image_pad) == len(tokens.images)
    assert set(one.seconds) == {"generating", "drawing", "reward"}
    assert set(one.record.scores()) >= {"acc", "format", "stop_answered"}
    parse_row(json.loads(json.dumps(one.record.row())))


def stopped(one: Played) -> StopReason:
    return one.record.stop_reason


def test_an_episode(run, items, chat):
    [one], steps = run(items(1), 1, {0: [draw(1), RIGHT]})
    first, second = steps.asked
    assert (first.name, second.name) == ("0.0", "0.1")
    assert (len(first.images), len(second.images)) == (1, 2)
    assert second.ids[: len(first.ids)] == first.ids, "what was shown stays as it was"
    assert second.ids[len(first.ids) :][: len(ids_of(chat, draw(1)))] == tuple(ids_of(chat, draw(1)))
    assert first.ids.count(chat.image_pad) == 1, "one pad an image for the engine"
    assert (one.record.reward.total, stopped(one)) == (1.0, StopReason.ANSWERED)
    said = [token for token, mark in zip(one.tokens.ids[one.tokens.prompt :], one.tokens.mask, strict=True) if mark]
    assert said == ids_of(chat, draw(1)) + ids_of(chat, RIGHT)
    usage = {"prompt": one.tokens.prompt, "response": len(one.tokens.mask), "sampled": len(said)}
    assert one.record.row()["usage"] == usage
    assert [name.rsplit("/")[-1] for name in one.record.files] == ["q0_0.png"]


def test_no_episode_waits_for_another(run, items):
    """A long reply, four short turns, two turns of three steps, and one that begins as long and ends at once."""
    lengths = {"0.0": 20, "2.0": 3, "2.1": 3, "3.0": 7}
    replies = {
        0: [RIGHT],
        1: [draw(1, "a"), draw(2, "b"), draw(3, "c"), RIGHT],
        2: [draw(1), WRONG],
        3: [draw(1), RIGHT],
    }
    played, steps = run(items(4), 1, replies, steps=lambda name: lengths.get(name, 1))
    assert steps.ended(0) == [20]
    assert steps.ended(1) == [1, 2, 3, 4]
    assert steps.ended(2) == [3, 6]
    assert steps.ended(3) == [7, 8]
    assert [one.record.reward.total for one in played] == [1.0, 1.0, 0.0, 1.0]
    assert [len(one.tokens.images) for one in played] == [1, 4, 2, 2]


def told(number: int, turn: int) -> str:
    """A script of any length, every reply unlike all others: `number % 4` drawings, then the answer."""
    return draw(turn + 1, f"mark {number} {turn}") if turn < number % 4 else answer("B", f"I am number {number}.")


@pytest.mark.parametrize("salt", ["x", "y", "z"])
def test_order_of_the_rows(run, items, salt):
    """Whatever ends first: rows by question and sample, each with its own replies and images."""
    played, steps = run(items(4), 3, told, **scrambled(salt))
    assert sorted(steps.asked, key=lambda one: one.number) != steps.asked, "they did mix"
    for number, one in enumerate(played):
        assert [step.thought for step in one.record.trace.steps][-1] == f"I am number {number}."
        labels = [mark.label for step in one.record.trace.steps for mark in step.marks]
        assert labels == [f"mark {number} {turn}" for turn in range(number % 4)]
        assert len(one.tokens.images) == 1 + number % 4
        last = [asked for asked in steps.asked if asked.number == number][-1]
        assert list(last.ids) == one.tokens.compact[: len(last.ids)]
        assert one.tokens.logprobs[-1] == -1.0 - number % 4


def test_every_rank_asks_the_same_in_the_same_order(run, items, monkeypatch):
    """Ranks read images at different speeds."""
    from vilasr import tasks

    read = tasks.load_image
    logs, rows = [], []
    for rank in range(3):
        waits = random.Random(rank)

        def slow(path, waits=waits):
            time.sleep(waits.random() / 50)
            return read(path)

        monkeypatch.setattr(tasks, "load_image", slow)
        played, steps = run(items(12), 2, told, **scrambled("x"))
        logs.append(steps.log)
        rows.append(
            [(one.tokens.ids, one.tokens.mask, [str(value) for value in one.tokens.logprobs]) for one in played]
        )
    assert len({asked.ids for asked in logs[0] if not isinstance(asked, tuple)}) > 24
    assert logs[0] == logs[1] == logs[2]
    assert rows[0] == rows[1] == rows[2]


def test_images_are_read_once_and_side_by_side(run, items, monkeypatch):
    from vilasr import tasks

    read, times = tasks.load_image, []

    def slow(path):
        times.append(time.monotonic())
        time.sleep(0.2)
        return read(path)

    monkeypatch.setattr(tasks, "load_image", slow)
    run(items(4), 3, lambda number, turn: RIGHT)
    assert len(times) == 4
    assert max(times) - min(times) < 0.2


def test_seeds(run, items, settings):
    """All samples and turns differ; the same call samples the same, another call something else."""

    def seeds(call: str) -> dict[str, int]:
        _, steps = run(items(3), 4, told, settings.of_call(call))
        return {asked.name: asked.seed for asked in steps.asked}

    one, again, other = seeds("1:1"), seeds("1:1"), seeds("1:2")
    assert len(one) == sum(1 + number % 4 for number in range(12))
    assert len(set(one.values())) == len(one)
    assert all(0 <= seed < 2**31 for seed in one.values())
    assert one == again
    assert other.keys() == one.keys()
    assert not set(other.values()) & set(one.values())


def test_a_seed_is_of_the_question_as_it_is_asked(tmp_path):
    """Of its content too, and not of where it stands in the batch or of this process' hashes."""
    one = item_of(make_example("one", ONE), tmp_path)
    changed = item_of(make_example("one", ONE, question="Which one is further away?"), tmp_path)
    two = item_of(make_example("two", ONE), tmp_path)
    assert len({turn_seed("s", item, 0, 0) for item in (one, changed, two)}) == 3
    text = f"s:one:{one.example.digest()}:3:2"
    assert turn_seed("s", one, 3, 2) == int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) // 2


def test_the_same_question_twice_in_a_batch(run, items):
    """As where a batch is filled up. Each goes its own way; what is sampled is the same by its seed."""
    [item] = items(1)
    replies = {0: [RIGHT], 1: [draw(1), WRONG], 2: [WRONG], 3: [draw(1), RIGHT]}
    played, steps = run([item, item], 2, replies)
    assert [one.record.reward.total for one in played] == [1.0, 0.0, 0.0, 1.0]
    assert [len(one.tokens.images) for one in played] == [1, 2, 1, 2]
    by_name = {asked.name: asked.seed for asked in steps.asked}
    assert len(by_name) == 6
    assert (by_name["0.0"], by_name["1.1"]) == (by_name["2.0"], by_name["3.1"])


def test_limits_go_to_the_engine(run, items, profile, chat):
    """A turn's, then what is left."""
    limits = TokenLimits(20_000, 95, 30)
    [one], steps = run(items(1), 1, {0: [Cut("I look"), [chat.end]]}, Settings(profile, limits, 0.0))
    first, second = (asked.max_tokens for asked in steps.asked)
    assert first == 30
    before = one.tokens.mask.index(0)
    shown = one.tokens.mask[before:].index(1)
    assert second == 95 - before - shown < 30


def test_an_image_that_cannot_be_read(run, items, tmp_path, chat):
    batch = items(3)
    (tmp_path / "q1_0.png").write_bytes(b"no image")
    played, steps = run(batch, 2, lambda number, turn: RIGHT)
    assert {asked.number for asked in steps.asked} == {0, 1, 4, 5}
    for one in played[2:4]:
        assert stopped(one) is StopReason.INPUT_ERROR
        assert (one.tokens.mask, one.record.reward.total) == ([0], 0.0)
        assert all(map(math.isnan, one.tokens.logprobs))
        assert [image.size for image in one.tokens.images] == [(56, 56)]
        assert one.tokens.ids == [chat.vision_start, *[chat.image_pad] * 4, chat.vision_end, chat.end]
        assert "q1" in one.record.row()["detail"]
        assert one.record.row()["usage"] == {"prompt": 6, "response": 1, "sampled": 0}
    assert [one.record.reward.total for one in played] == [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        ({"image_paths": ()}, StopReason.INPUT_ERROR, "item q0: ValueError: item q0: load its images first"),
        ({"question": "Which \ud800?"}, StopReason.ENGINE_ERROR, "TypeError: "),
    ],
)
def test_a_question_that_cannot_be_asked(run, items, fields, reason, detail):
    """Without images, or of letters that the tokenizer refuses: this question's episodes fail, the others go on."""
    batch = items(2)
    batch[0] = replace(batch[0], example=replace(batch[0].example, **fields))
    played, steps = run(batch, 2, lambda number, turn: RIGHT)
    assert {asked.number for asked in steps.asked} == {2, 3}
    for one in played[:2]:
        assert stopped(one) is reason
        assert (one.tokens.mask, one.record.reward.total) == ([0], 0.0)
        assert detail in one.record.row()["detail"]
    assert [one.record.reward.total for one in played[2:]] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("failed", "detail"),
    [
        (RuntimeError("refused"), "RuntimeError: refused"),
        (Failure("ended by itself (abort)"), "ended by itself (abort)"),
    ],
)
@pytest.mark.parametrize("turn", [0, 1])
def test_what_the_engine_fails_is_not_trained(run, items, failed, detail, turn):
    """And the others go on, also the other sample of the question."""
    replies = {0: [draw(1), RIGHT], 1: [draw(1), RIGHT], 2: [draw(1), RIGHT], 3: [draw(1), RIGHT]}
    replies[1][turn] = failed
    played, _ = run(items(2), 2, replies)
    assert [stopped(one) for one in played] == [
        *(StopReason.ANSWERED, StopReason.ENGINE_ERROR, StopReason.ANSWERED, StopReason.ANSWERED)
    ]
    assert played[1].record.trace.detail == detail
    assert set(played[1].tokens.mask) == {0}
    assert [one.record.reward.total for one in played] == [1.0, 0.0, 1.0, 1.0]
    assert len(played[1].tokens.images) == 1 + turn
    assert (played[1].record.row()["usage"]["sampled"] > 0) is (turn == 1)
    assert all(1 in played[number].tokens.mask for number in (0, 2, 3))


def test_a_reply_without_log_probabilities(run, items, monkeypatch):
    sampled = ScriptedSteps._sampled

    def bare(self, name):
        found = sampled(self, name)
        return Sampled(name, found.ids, found.logprobs[:-1]) if name == "0.1" else found

    monkeypatch.setattr(ScriptedSteps, "_sampled", bare)
    played, _ = run(items(2), 1, lambda number, turn: draw(1) if turn == 0 else RIGHT)
    assert [stopped(one) for one in played] == [StopReason.ENGINE_ERROR, StopReason.ANSWERED]
    assert "log-probabilities of" in played[0].record.trace.detail
    assert set(played[0].tokens.mask) == {0}


def test_a_defect_of_ours_ends_the_episode_alone(run, items, monkeypatch):
    advance = Episode.advance

    def broken(self, reply):
        return 1 // 0 if self.example.id == "q1" else advance(self, reply)

    monkeypatch.setattr(Episode, "advance", broken)
    played, _ = run(items(3), 1, lambda number, turn: RIGHT)
    assert [stopped(one) for one in played] == [*(StopReason.ANSWERED, StopReason.ENGINE_ERROR, StopReason.ANSWERED)]
    assert played[1].record.trace.detail.startswith("ZeroDivisionError")
    assert set(played[1].tokens.mask) == {0}
    assert played[1].record.reward.total == 0.0


def test_a_question_too_long(run, items, profile):
    short = Settings(profile, TokenLimits(50, 100, 10), 0.0)
    [one], steps = run(items(1), 1, {}, short)
    assert steps.log == [], "not even a step"
    assert stopped(one) is StopReason.CONTEXT_OVERFLOW
    assert (one.tokens.mask, one.record.reward.total) == ([0], 0.0)
    assert "more than the 50 of a prompt" in one.record.row()["detail"]


def test_no_room_for_the_next_turn(run, items, profile, chat):
    """What was sampled is trained, without a reward; the drawn image is left out whole."""
    said = ids_of(chat, draw(1))
    short = Settings(profile, TokenLimits(20_000, len(said) + 5, 1024), 0.0)
    played, steps = run(items(2), 1, {0: [draw(1)], 1: [RIGHT]}, short)
    assert [stopped(one) for one in played] == [StopReason.CONTEXT_OVERFLOW, StopReason.ANSWERED]
    assert played[0].tokens.mask == [1] * len(said)
    assert len(played[0].tokens.images) == 1
    assert played[0].record.reward.total == 0.0
    assert "no room for a reply" in played[0].record.row()["detail"]
    assert len(steps.asked) == 2


def test_a_forbidden_token(run, items, chat):
    kept = chat.text("<think> I")
    [one], _ = run(items(1), 1, {0: [[*kept, chat.vision_start]]})
    assert stopped(one) is StopReason.FORBIDDEN_TOKEN
    assert one.tokens.ids[one.tokens.prompt :] == kept
    assert one.tokens.mask == [1] * len(kept), "the model's doing: trained"
    assert one.record.reward.total == 0.0


def test_a_repeated_mark_ends_training_episodes_and_not_validation(run, items):
    replies = {0: [draw(1), draw(2), RIGHT]}
    [trained], _ = run(items(1), 1, replies)
    assert (stopped(trained), trained.record.reward.total) == (StopReason.REPEATED_MARK, 0.0)
    [validated], steps = run(items(1, held_out=True), 1, replies)
    assert (stopped(validated), validated.record.reward.total) == (StopReason.ANSWERED, 1.0)
    assert len(steps.asked) == 3


def test_a_cut_turn_goes_on(run, items, chat):
    [one], steps = run(items(1), 1, {0: [Cut("<think> on and on"), RIGHT]})
    cut = chat.text("<think> on and on")
    first, second = steps.asked
    assert second.ids[len(first.ids) :][: len(cut) + 1] == (*cut, chat.end)
    assert one.tokens.mask[: len(cut) + 1] == [1] * len(cut) + [0]
    assert one.record.trace.steps[0].error == "truncated"


def test_beta(run, items, tmp_path, profile):
    """An answer that is nearly right earns nothing above it."""
    near = make_example("near", ONE, options=(), question_type="regression", answer="10")
    batch = [item_of(near, tmp_path)]
    rewards = []
    for beta in (0.0, 0.99):
        [one], _ = run(batch, 1, {0: [answer("11")]}, Settings(profile, MANY, beta))
        rewards.append(one.record.reward)
    assert 0 < rewards[0].accuracy == rewards[1].accuracy < 0.99
    assert rewards[0].total == (rewards[0].accuracy + 1) / 2
    assert rewards[1].total == 0.0


def test_nothing_to_play(chat, settings):
    assert play([], 3, ScriptedSteps(chat, script({})), chat, settings) == []


def test_seconds_are_counted_where_they_are_spent(run, items, monkeypatch):
    """Generating: from a request to its end, of the episode's own requests; drawing: its own replies."""
    from vilasr.drawing.scene import Scene

    original, drawn = ScriptedSteps.step, Scene.draw
    monkeypatch.setattr(ScriptedSteps, "step", lambda self: time.sleep(0.2) or original(self))
    monkeypatch.setattr(Scene, "draw", lambda self, marks: time.sleep(0.3) or drawn(self, marks))
    played, _ = run(items(2), 1, {0: [RIGHT], 1: [draw(1), draw(2, "lamp"), RIGHT]})
    assert 0.2 <= played[0].seconds["generating"] < 0.4
    assert 0.6 <= played[1].seconds["generating"] < 0.9
    assert played[0].seconds["drawing"] < 0.2
    assert 0.6 <= played[1].seconds["drawing"] < 0.9
    assert all(one.seconds["reward"] < 0.2 for one in played)
