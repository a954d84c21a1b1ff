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
    "max_tokens=16384 cannot be greater than max_model_len=max_total_tokens=8192. Please request fewer output tokens.",
    "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",
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


MAXIMUM = "This model's maximum context length is 8192 tokens. However, "


@pytest.mark.parametrize(
    ("text", "context", "prompt"),
    [
        (TOO_LONG[0], 8192, None),  # "at least" is not how many
        (MAXIMUM + "you requested 9 output tokens and your prompt contains 298 characters (more than 0)", 8192, None),
        (MAXIMUM + "you requested 9 output tokens and your prompt contains 8190 input tokens", 8192, 8190),
        (MAXIMUM + "you requested 8203 tokens (7691 in the messages, 512 in the completion).", 8192, 7691),
        (MAXIMUM + "your messages resulted in 8202 tokens.", 8192, 8202),
        (TOO_LONG[1], 8192, 8300),
        (TOO_LONG[2], 32768, 40000),
        (
            "Requested token count exceeds the model's maximum context length of 16384 tokens. You requested a total "
            "of 17964 tokens: 1580 tokens from the input messages and 16384 tokens for the completion.",
            16384,
            1580,
        ),
        ("The decoder prompt (length 8200) is longer than the maximum model length of 8192.", 8192, 8200),
        (TOO_LONG[-2], 8192, None),
        (TOO_LONG[3], None, None),
        ("context length of 128,000 exceeded", None, None),
    ],
)
def test_the_lengths_that_a_refusal_names(text, context, prompt):
    failure = judge(BrokenReply(text, 400))
    assert (failure.kind, failure.context, failure.prompt) == (Kind.OVERFLOW, context, prompt)


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
        (403, Kind.FORBIDDEN),
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
