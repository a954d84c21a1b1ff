"""What a server's refusals mean. The wordings are those that servers use."""

from __future__ import annotations

import email.utils
import time

import pytest

from vilasr.engines.server_errors import BrokenReply, Kind, judge, retry_after

TOO_LONG = [
    "This model's maximum context length is 8192 tokens. However, you requested 48 output tokens and your prompt "
    "contains at least 8145 input tokens, for a total of at least 8193 tokens.",
    "Input length (8300) exceeds model's maximum context length (8192).",
    "The input (40000 tokens) is longer than the model's context length (32768 tokens).",
    "Your input exceeds the context window of this model.",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "The input token count (1300000) exceeds the maximum number of tokens allowed (1048576).",
]
OTHER = [
    "At most 42 image(s) may be provided in one prompt.",
    "Unsupported value: 'temperature' does not support 0 with this model.",
    "'max_tokens' is too large: 100000. This model supports at most 16384 completion tokens.",
    "Could not process image",
    "messages: text content blocks must be non-empty",
]


@pytest.mark.parametrize("text", TOO_LONG)
def test_a_full_context_is_known_by_its_words(text):
    assert judge(BrokenReply(text, 400)).kind is Kind.OVERFLOW


@pytest.mark.parametrize("text", OTHER)
def test_other_refusals_are_not_taken_for_it(text):
    assert judge(BrokenReply(text, 400)).kind is Kind.ITEM


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (408, Kind.AGAIN),
        (409, Kind.AGAIN),
        (429, Kind.BUSY),
        (500, Kind.AGAIN),
        (503, Kind.AGAIN),
        (529, Kind.AGAIN),
        (400, Kind.ITEM),
        (413, Kind.ITEM),
        (422, Kind.ITEM),
        (401, Kind.FATAL),
        (402, Kind.FATAL),
        (403, Kind.FATAL),
        (404, Kind.FATAL),
        (405, Kind.FATAL),
        (308, Kind.FATAL),
        (None, Kind.AGAIN),
    ],
)
def test_the_status_says_what_to_do(code, kind):
    assert judge(BrokenReply("no", code)).kind is kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
    ],
    ids=str,
)
def test_what_the_server_asks_to_wait(headers, seconds):
    assert retry_after(headers) == seconds


def test_a_date_to_wait_for():
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert retry_after({"retry-after": date}) == pytest.approx(60, abs=3)
