"""The tokens of an episode in EasyR1: limits to the token, cut turns, forbidden tokens, and the two streams."""

from __future__ import annotations

import itertools
import math
from copy import deepcopy

import pytest

from tests.golden import picture
from tests.training.easyr1.scripted import load_chat
from vilasr.messages import FinishReason, Message, Picture, Text
from vilasr.training.easyr1.tokens import Tokens
from vilasr.training.grpo.rollout import TokenLimits

pytestmark = pytest.mark.engine

UNIT = 28 * 28
MANY = TokenLimits(prompt=20_000, response=20_000, turn=1024)
# pads: 2 x 3, and 4 x 1
SIX, FOUR = picture(56, 84, 1), picture(112, 28, 2)
QUESTION = [Message("system", (Text("Look."),)), Message("user", (Picture(1, SIX), Text("\nWhich one?")))]
NEXT = [Message("user", (Text("Drawn: "), Picture(2, FOUR), Text(" and "), Picture(3, SIX), Text("\nGo on.")))]


@pytest.fixture(scope="module")
def chat(nano):
    return load_chat(nano)


@pytest.fixture
def tokens(chat):
    def make(**limits: int) -> Tokens:
        return Tokens(chat, TokenLimits(**{**vars_of(MANY), **limits}), UNIT)

    return make


def vars_of(limits: TokenLimits) -> dict[str, int]:
    return {"prompt": limits.prompt, "response": limits.response, "turn": limits.turn}


@pytest.fixture(scope="module")
def question_ids(chat):
    """(compact, expanded), by hand."""

    def make(pads: int) -> list[int]:
        image = [chat.vision_start, *[chat.image_pad] * pads, chat.vision_end]
        return [
            *[chat.start, *chat.text("system\nLook."), chat.end, *chat.text("\n")],
            *[chat.start, *chat.text("user\n"), *image, *chat.text("\nWhich one?"), chat.end, *chat.text("\n")],
            *[chat.start, *chat.text("assistant\n")],
        ]

    return make(1), make(6)


@pytest.fixture(scope="module")
def next_ids(chat):
    """(compact, expanded) of NEXT after a turn that was ended."""

    def make(first: int, second: int) -> list[int]:
        return [
            *[*chat.text("\n"), chat.start, *chat.text("user\nDrawn: ")],
            *[chat.vision_start, *[chat.image_pad] * first, chat.vision_end, *chat.text(" and ")],
            *[chat.vision_start, *[chat.image_pad] * second, chat.vision_end, *chat.text("\nGo on."), chat.end],
            *[*chat.text("\n"), chat.start, *chat.text("assistant\n")],
        ]

    return make(1, 1), make(4, 6)


def state(tokens: Tokens) -> tuple:
    conversation = deepcopy([tokens.ids, tokens.compact, tokens.conversation.places, tokens.mask, tokens.prompt])
    return conversation, list(tokens.images), [str(value) for value in tokens.logprobs], tokens.conversation.turn_ended


def say(tokens: Tokens, ids: list[int], logprob: float = -0.5):
    return tokens.take(ids, [logprob] * len(ids))


def test_both_streams(tokens, chat, question_ids, next_ids):
    made = tokens()
    assert made.show(QUESTION) is None
    assert (made.compact, made.ids) == question_ids
    assert (made.prompt, made.mask, made.logprobs) == (len(question_ids[1]), [], [])
    said = [*chat.text("I draw."), chat.end]
    say(made, said)
    assert made.show(NEXT) is None
    assert made.compact == question_ids[0] + said + next_ids[0]
    assert made.ids == question_ids[1] + said + next_ids[1]
    assert made.images == [SIX, FOUR, SIX]
    assert made.prompt == len(question_ids[1]), "still the question's"
    runs = [len(list(run)) for token, run in itertools.groupby(made.ids) if token == chat.image_pad]
    assert runs == [6, 4, 6]


def test_masks_and_log_probabilities(tokens, chat, next_ids):
    made = tokens()
    made.show(QUESTION)
    first, last = [*chat.text("One."), chat.end], [*chat.text("Two words."), chat.end]
    made.take(first, [-0.25 * k for k in range(len(first))])
    made.show(NEXT)
    made.take(last, [-7.0] * len(last))
    shown = len(next_ids[1])
    assert made.mask == [1] * len(first) + [0] * shown + [1] * len(last)
    assert made.logprobs[: len(first)] == [-0.25 * k for k in range(len(first))]
    assert all(math.isnan(value) for value in made.logprobs[len(first) : -len(last)])
    assert made.logprobs[-len(last) :] == [-7.0] * len(last)
    assert len(made.logprobs) == len(made.mask) == len(made.ids) - made.prompt


@pytest.mark.parametrize("short", [0, 1])
def test_limit_of_a_question(tokens, question_ids, short):
    length = len(question_ids[1])
    made = tokens(prompt=length - short)
    before = state(made)
    overflow = made.show(QUESTION)
    if short:
        assert overflow == f"the question has {length} tokens, more than the {length - 1} of a prompt"
        assert state(made) == before
        assert (made.ids, made.compact, made.images, made.prompt) == ([], [], [], 0)
    else:
        assert overflow is None
        assert made.prompt == length


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("room", [0, 1, 2])
def test_limit_of_what_follows(tokens, chat, next_ids, room, cut):
    """A turn is shown where a token fits after it. A cut reply's end counts too."""
    said = chat.text("I draw.") + ([] if cut else [chat.end])
    added = len(next_ids[1]) + cut
    made = tokens(response=len(said) + added + room)
    made.show(QUESTION)
    say(made, said)
    before = state(made)
    overflow = made.show(NEXT)
    if room:
        assert overflow is None
        assert made.room == room
        say(made, [chat.end] * room)
        assert len(made.mask) == made.limits.response
    else:
        assert overflow == (
            f"{len(said)} tokens after the question, {added} more to show: no room for a reply within "
            f"{len(said) + added}"
        )
        assert state(made) == before


@pytest.mark.parametrize(
    ("limits", "room"),
    [({"turn": 30, "response": 31}, 30), ({"turn": 30, "response": 30}, 30), ({"turn": 30, "response": 29}, 29)],
)
def test_room_of_the_first_reply(tokens, limits, room):
    made = tokens(**limits)
    made.show(QUESTION)
    assert made.room == room


@pytest.mark.parametrize(("turn", "less"), [(20, 0), (21, 0), (22, 1)])
def test_room_of_the_second_reply(tokens, chat, next_ids, turn, less):
    """21 tokens are left of the response."""
    said = [*chat.text("I draw."), chat.end]
    made = tokens(turn=turn, response=len(said) + len(next_ids[1]) + 21)
    made.show(QUESTION)
    say(made, said)
    made.show(NEXT)
    assert made.room == turn - less


def test_a_reply_that_was_cut_is_closed_by_us(tokens, chat):
    made = tokens()
    made.show(QUESTION)
    cut = chat.text("on and on")
    reply = say(made, cut)
    assert (reply.finish_reason, reply.text, list(reply.token_ids)) == (FinishReason.LENGTH, "on and on", cut)
    assert made.mask == [1] * len(cut), "the end is not there before the next turn is"
    made.show(NEXT)
    after = made.ids[made.prompt + len(cut) :]
    assert after[:3] == [chat.end, *chat.text("\n"), chat.start]
    assert made.compact[-len(chat.text("assistant\n")) - 1] == chat.start
    assert after.count(chat.end) == 2, "ours, and that of the user's turn"
    assert made.mask == [1] * len(cut) + [0] * len(after)
    say(made, [*chat.text("Done."), chat.end])
    made.show(NEXT)
    assert made.mask[-1] == 0
    assert made.ids.count(chat.end) == 2 + 2 + 1 + 1  # question, cut and user, the second reply, user


def test_a_reply_with_its_end(tokens, chat):
    made = tokens()
    made.show(QUESTION)
    said = [*chat.text("I see."), chat.end]
    reply = say(made, said, -0.125)
    assert (reply.finish_reason, reply.text) == (FinishReason.STOP, "I see.")
    assert (list(reply.token_ids), list(reply.logprobs)) == (said, [-0.125] * len(said))
    assert made.mask == [1] * len(said), "the end of the turn was sampled"
    made.show(NEXT)
    assert made.ids[made.prompt + len(said)] == chat.text("\n")[0]


def test_end_of_text(tokens, chat):
    """It ends the reply, and not the turn: the family's turns end otherwise."""
    made = tokens()
    made.show(QUESTION)
    said = [*chat.text("I see."), chat.end_of_text]
    reply = say(made, said)
    assert (reply.finish_reason, reply.text) == (FinishReason.STOP, "I see.")
    assert made.ids[made.prompt :] == said
    assert made.mask == [1] * len(said)
    made.show(NEXT)
    assert made.ids[made.prompt + len(said) :][:2] == [chat.end, *chat.text("\n")]
    assert made.mask[len(said) :][:2] == [0, 0]


def test_forbidden_tokens(tokens, chat):
    assert len(chat.forbidden) == 6
    for forbidden in sorted(chat.forbidden):
        made = tokens()
        made.show(QUESTION)
        kept = chat.text("<think> I")
        shown = len(made.compact)
        reply = made.take([*kept, forbidden], [-1.0] * len(kept) + [-9.0])
        assert (reply.finish_reason, reply.text) == (FinishReason.FORBIDDEN_TOKEN, "<think> I")
        assert (list(reply.token_ids), list(reply.logprobs)) == (kept, [-1.0] * len(kept))
        assert made.ids[made.prompt :] == made.compact[shown:] == kept
        assert (made.mask, made.logprobs) == ([1] * len(kept), [-1.0] * len(kept))


def test_a_forbidden_token_alone(tokens, chat):
    made = tokens()
    made.show(QUESTION)
    reply = say(made, [chat.image_pad])
    assert (reply.finish_reason, reply.text, made.mask) == (FinishReason.FORBIDDEN_TOKEN, "", [])
    made.end()
    assert (made.ids[made.prompt :], made.mask) == ([chat.end], [0])


def test_an_empty_reply(tokens, chat):
    made = tokens()
    made.show(QUESTION)
    reply = say(made, [])
    assert (reply.finish_reason, reply.text, made.mask) == (FinishReason.LENGTH, "", [])
    made.show(NEXT)
    assert made.ids[made.prompt] == chat.end


@pytest.mark.parametrize("given", [0, 2, 4])
def test_a_token_without_its_log_probability(tokens, given):
    made = tokens()
    made.show(QUESTION)
    before = state(made)
    with pytest.raises(ValueError, match=f"{given} log-probabilities of 3 tokens"):
        made.take([5, 6, 7], [-1.0] * given)
    assert state(made) == before


def test_a_stand_in_has_an_image_and_a_token_to_put_the_reward_on(tokens, chat):
    made = tokens(prompt=5)
    assert made.show(QUESTION) is not None
    made.stand_in(FOUR)
    made.end()
    assert made.compact == [chat.vision_start, chat.image_pad, chat.vision_end, chat.end]
    assert made.ids == [chat.vision_start, *[chat.image_pad] * 4, chat.vision_end, chat.end]
    assert (made.prompt, made.mask, made.images) == (6, [0], [FOUR])
    assert math.isnan(made.logprobs[0])
    assert len(made.logprobs) == 1


def test_end_adds_nothing_to_what_was_sampled(tokens, chat):
    made = tokens()
    made.show(QUESTION)
    say(made, chat.text("cut"))
    before = state(made)
    made.end()
    assert state(made) == before
