"""What a failed request to a server means: send it again, end its episode, or end the run."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import openai


class Kind(Enum):
    AGAIN = auto()  # may well succeed when sent again
    BUSY = auto()  # the server asks to come later (429)
    ITEM = auto()  # refused for what it holds; other requests may be answered
    OVERFLOW = auto()  # longer than the model's context
    FORBIDDEN = auto()  # either of the two around (403): some moderate single requests so, others refuse the key
    FATAL = auto()  # no request will be answered: wrong key, model or address


@dataclass(frozen=True, slots=True)
class Failure:
    """`wait` is what the server asks for, in seconds. An overflow's `context` and `prompt` are what the server says of
    their lengths; `prompt` is None where it says less than the exact number."""

    kind: Kind
    detail: str
    wait: float | None = None
    context: int | None = None
    prompt: int | None = None


class BrokenReply(Exception):
    """An answer with status 200 that is no whole reply. `code` is the status that its body names, if any."""

    def __init__(self, detail: str, code: int | None = None) -> None:
        super().__init__(detail)
        self.code = code


_TOO_LONG = re.compile(
    r"context.{0,12}(length|window|size|limit)|too many (input )?tokens|reduce the length"
    r"|(prompt|input|sequence).{0,80}(too long|longer than|exceeds? .{0,40}(token|length|maximum))"
    r"|greater than max_model_len|tokens must be at least 1, got (0|-)",  # vLLM: no room for a prompt, or after it
    re.IGNORECASE | re.DOTALL,
)
_CONTEXT = re.compile(
    r"(?:context (?:length|window|size|limit)|model length|max_model_len)\D{0,40}?(\d{3,})(?!,?\d)", re.IGNORECASE
)
_PROMPT = re.compile(
    r"(?:contains|resulted in) (\d+) (?:input )?tokens"
    r"|(\d+) (?:tokens )?(?:in the messages|in your prompt|from the input messages)"
    r"|(?:input|prompt)(?: length)? \((?:length )?(\d+)",
    re.IGNORECASE,
)
_ADVICE = {
    401: "the server does not accept the API key",
    402: "the account has no credit",
    403: "the API key may not use this model",
    404: "no such model, or no such address (it usually ends in /v1)",
    405: "this address takes no chat completions (it usually ends in /v1)",
}


def judge(error: Exception) -> Failure:
    if isinstance(error, BrokenReply):
        return _of_status(error.code, str(error)) if error.code else Failure(Kind.AGAIN, str(error))
    if isinstance(error, openai.APIStatusError):
        detail = f"status {error.status_code}: {_message(error)}"
        return _of_status(error.status_code, detail, error.code, error.response.headers)
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return Failure(Kind.AGAIN, "no whole reply in time")
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        reason = f"{type(cause).__name__}: {cause}".rstrip(": ") if cause else error.message
        return Failure(Kind.AGAIN, f"no connection, or it was cut ({reason})")
    if isinstance(error, openai.APIError):  # told inside a stream; its code, if any, is a status
        told = str(error.code)  # whatever the type
        code = int(told) if told.isascii() and told.isdecimal() and len(told) < 4 else None
        return _of_status(code, _message(error)) if code else Failure(Kind.AGAIN, _message(error), None)
    return Failure(Kind.AGAIN, f"unreadable reply ({type(error).__name__}: {str(error)[:200]})")


def for_all(failure: Failure) -> Failure:
    """A FORBIDDEN one that every request meets."""
    return Failure(Kind.FATAL, f"{_ADVICE[403]} ({failure.detail})")


def _of_status(status: int, detail: str, code: str | None = None, headers: Mapping[str, str] | None = None) -> Failure:
    wait = retry_after(headers or {})
    if status == 429 and code == "insufficient_quota":
        return Failure(Kind.FATAL, f"{_ADVICE[402]} ({detail})")
    if status == 429:
        return Failure(Kind.BUSY, detail, wait)
    if status in (408, 409, 425) or status >= 500:
        return Failure(Kind.AGAIN, detail, wait)
    if status == 401:  # servers repeat parts of the key in what they say
        return Failure(Kind.FATAL, f"{_ADVICE[401]} (status 401)")
    if status == 403:
        return Failure(Kind.FORBIDDEN, detail)
    if status in _ADVICE:
        return Failure(Kind.FATAL, f"{_ADVICE[status]} ({detail})")
    if 300 <= status < 400:
        return Failure(Kind.FATAL, f"the server redirects elsewhere; name that address if you trust it ({detail})")
    if not _TOO_LONG.search(detail):
        return Failure(Kind.ITEM, detail)
    context, prompt = _CONTEXT.search(detail), _PROMPT.search(detail)
    return Failure(
        Kind.OVERFLOW,
        detail,
        context=int(context[1]) if context else None,
        prompt=int(next(filter(None, prompt.groups()))) if prompt else None,
    )


def _message(error: openai.APIError) -> str:
    """The server's own words, not the pages that proxies send."""
    body: Any = error.body
    told = body.get("message") or body.get("detail") if isinstance(body, dict) else None
    text = str(told or body or error.message)
    if "<html" in text[:500].lower():
        text = re.sub(r"<[^>]*>", " ", text)
    text = " ".join(text.split())
    return text if len(text) <= 400 else text[:400] + " ..."


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: a number or a date."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if seconds >= 0:  # false for "nan"
            return seconds
    return None
