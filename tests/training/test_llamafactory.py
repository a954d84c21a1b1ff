"""Conformance: the tokens LLaMA-Factory trains on equal the tokens of our vLLM session, for every golden trace."""

from __future__ import annotations

import pytest

from tests.training.golden_tokens import GOLDEN, session_tokens
from vilasr.training.lengths import TokenCounter

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("name", GOLDEN)
def test_sft_tokens_equal_session_tokens(name, trained, vllm):
    ids, grids, counted = session_tokens(vllm, GOLDEN[name])
    newline = vllm.chat.text("\n")
    assert trained[name]["ids"] == ids + newline  # LLaMA-Factory also ends the last turn's line
    assert trained[name]["grid"] == grids
    assert counted == len(ids), "our own count of expanded tokens"


@pytest.mark.parametrize("name", GOLDEN)
def test_lengths_are_counted_without_opening_an_image(name, trained, nano):
    episode = GOLDEN[name].run()
    sizes = [picture.image.size for message in episode.messages for picture in message.pictures]
    counted = TokenCounter(str(nano)).count([(m.role, m.text()) for m in episode.messages], sizes)
    assert counted == len(trained[name]["ids"])


@pytest.mark.parametrize("name", GOLDEN)
def test_labels_are_the_assistant_turns(name, trained, vllm):
    """Every token of a reply, its end of turn and the newline after it; nothing of ours."""
    newline = vllm.chat.text("\n")
    expected = [[*vllm.chat.text(reply), vllm.chat.end, *newline] for reply in GOLDEN[name].replies]
    labels = [label for label in trained[name]["labels"] if label != -100]
    assert labels == [token for turn in expected for token in turn]
