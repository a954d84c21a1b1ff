"""Nothing a model can say raises or leaves an episode without a named ending (the long run: python -m tests.fuzz)."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.replies import play
from tests.golden import ONE, make_example
from vilasr.drawing import DrawCall, FinalAnswer, Malformed, parse_reply
from vilasr.episode import Done, Episode
from vilasr.messages import Reply
from vilasr.prompts import default_profile
from vilasr.traces import trace_from_json, trace_to_json

PROFILE = default_profile()


@pytest.mark.parametrize("seed", range(4))
def test_generated_replies(seed):
    tally = play(seed, 3000)
    assert set(tally.parsed) == {"DrawCall", "FinalAnswer", "Malformed"}, "the generator reaches every kind of reply"
    assert len(tally.endings) >= 4


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_parses_to_one_of_three(text):
    assert isinstance(parse_reply(text), DrawCall | FinalAnswer | Malformed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["index", "bbox_2d", "label", "start_point_2d", "end_point_2d", "x"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON, st.sampled_from(["Object Mapper", "Path Tracer", "Answer", "banana"]))
def test_any_json_in_the_fence(value, action):
    text = f"<think> t </think> Action: {action}\n```json\n{json.dumps(value)}\n```"
    episode = Episode(make_example("x", ONE), PROFILE)
    step = episode.advance(Reply(text))
    assert not isinstance(step, Done)
    episode.advance(Reply("<answer>B</answer>"))
    trace = episode.trace()
    assert trace_from_json("x", json.loads(json.dumps(trace_to_json(trace)))) == trace


def test_ten_megabytes_of_noise():
    for piece in ("x", "<think>", "```json\n[", '{"index": 1, '):
        episode = Episode(make_example("x", ONE), PROFILE)
        episode.advance(Reply(piece * (10_000_000 // len(piece))))
        assert episode.trace().steps[0].error == "reply_too_long"
