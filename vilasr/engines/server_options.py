"""Where and how to ask a server. Needs no client library."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from vilasr.one_line import one_line


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where and how to ask.

    `base_url` is the address before `/chat/completions`, e.g. `http://localhost:8000/v1`; `model` None is the only one
    that the server has. The key is read from the environment variable `api_key_env`, without the blanks and line ends
    around it; a server without keys needs none.
    `reply_timeout` bounds a whole reply, its wait in the server's queue included. A failed request is sent again
    `max_retries` times, after `first_wait` seconds, twice that, and so on; neither that nor what the server asks for
    exceeds `longest_wait`. `omit` names fields not to send (of temperature, top_p, seed, stream_options, and
    `limit_field`), for models that refuse them; `extra_body` is sent along with every request.
    """

    base_url: str
    model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    requests_per_minute: float | None = None
    max_retries: int = 8
    connect_timeout: float = 10.0
    reply_timeout: float = 300.0
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    omit: tuple[str, ...] = ()
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    first_wait: float = 0.5
    longest_wait: float = 60.0

    def __post_init__(self) -> None:
        """Raises ValueError for settings that cannot work."""
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname or not _plain(self.base_url) or " " in self.base_url:
            raise ValueError("base_url must be like http://localhost:8000/v1")
        if url.username or url.password:
            raise ValueError("base_url must hold no password; put the key in an environment variable (api_key_env)")
        if "?" in self.base_url or "#" in self.base_url:  # it is logged, and may hold a key
            raise ValueError(
                "base_url must end before any ? or #; put the key in an environment variable (api_key_env)"
            )
        if not self.api_key_env.isidentifier():  # and not shown: it may be the key itself
            raise ValueError("api_key_env is the name of an environment variable, not the key")
        if not _plain(self.key or ""):
            what = "holds no usable key: a key has printable ASCII characters only"
            raise ValueError(f"environment variable {self.api_key_env} {what}")
        if self.limit_field not in ("max_tokens", "max_completion_tokens"):
            raise ValueError("limit_field must be max_tokens or max_completion_tokens")
        known = {"temperature", "top_p", "seed", "stream_options", self.limit_field}
        if unknown := sorted(set(self.omit) - known):
            raise ValueError(f"omit: unknown fields {unknown}; known: {sorted(known)}")
        if self.max_retries < 0 or (self.requests_per_minute is not None and self.requests_per_minute <= 0):
            raise ValueError("max_retries must be at least 0, requests_per_minute above 0")
        if min(self.connect_timeout, self.reply_timeout, self.longest_wait) <= 0 or self.first_wait < 0:
            raise ValueError("time limits must be above 0")

    @property
    def key(self) -> str | None:
        return os.environ.get(self.api_key_env, "").strip() or None

    def safe(self, text: str) -> str:
        """The text in one line and without the key, whoever put it in, and whether as it is or quoted."""
        key = self.key
        if key is None:
            return one_line(text)
        as_bytes = key.encode("utf-8", "backslashreplace")
        forms = {key, repr(key)[1:-1], repr(as_bytes)[2:-1], json.dumps(key)[1:-1], quote(as_bytes, safe="")}
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, "[key]")
        return one_line(text)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
