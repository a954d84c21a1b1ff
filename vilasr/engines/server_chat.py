"""Messages to the chat-completions format and its answers back to replies."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openai import BaseModel
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from PIL import Image

from vilasr.engines.base import Stopped
from vilasr.engines.server_errors import BrokenReply
from vilasr.messages import FinishReason, Message, Reply, Text
from vilasr.traces import StopReason

# Control words of the Qwen2-VL family, as in `vilasr.engines.chat`. A server may show them as text (vLLM and SGLang do
# with skip_special_tokens=false); sent back, they would open turns and images that do not exist.
ENDS = ("<|im_end|>", "<|endoftext|>")
FORBIDDEN = (
    "<|im_start|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_pad|>",
)


def to_wire(message: Message) -> dict[str, Any]:
    """A message without images is a plain string, which every server takes; neighbouring texts become one."""
    if not message.pictures:
        return {"role": message.role, "content": message.text()}
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        if not isinstance(part, Text):
            parts.append({"type": "image_url", "image_url": {"url": _data_url(part.image)}})
        elif parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += part.text
        else:
            parts.append({"type": "text", "text": part.text})
    return {"role": message.role, "content": parts}


def _data_url(image: Image.Image) -> str:
    """PNG: the model must see the very pixels that were drawn."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)  # a tenth larger than by default, in half the time
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def cut(text: str) -> tuple[str, FinishReason | None]:
    """The text before its first control word, and how the turn ended there; None where it has none."""
    found = [(at, word) for word in (*ENDS, *FORBIDDEN) if (at := text.find(word)) >= 0]
    if not found:
        return text, None
    at, word = min(found)
    return text[:at], FinishReason.STOP if word in ENDS else FinishReason.FORBIDDEN_TOKEN


def sayable(text: str) -> str:
    """What of a text that grows is sure to stand in the reply: nothing from the first control word on, nor an end that
    may become one."""
    text, finish = cut(text)
    if finish is not None:
        return text
    start = text.rfind("<")
    if start >= 0 and any(word.startswith(text[start:]) for word in (*ENDS, *FORBIDDEN)):
        return text[:start]
    return text


@dataclass
class Answer:
    """What the server said, whole or so far. The client library checks no types: what is of a wrong one raises
    BrokenReply. `usage` is the tokens of the prompt and of the reply."""

    text: str | None = None
    finish: str | None = None
    refusal: str = ""
    thought: bool = False  # a thought was given apart from the text
    called: bool = False  # a tool was called
    choices: int = 0
    usage: tuple[int, int] | None = None

    def add(self, chunk: object) -> None:
        if not isinstance(chunk, ChatCompletionChunk):
            raise BrokenReply(f"no part of a chat completion: {str(chunk)[:80]!r}")
        self.usage = _tokens(chunk) or self.usage
        choices: Any = getattr(chunk, "choices", None) or []
        if not isinstance(choices, list):
            raise BrokenReply(f"no list of choices: {str(choices)[:80]!r}")
        for choice in choices:
            self._take(choice, "delta")

    def _take(self, choice: object, name: str) -> None:
        message = getattr(choice, name, None)
        if not isinstance(choice, BaseModel) or not isinstance(message, BaseModel | None):
            raise BrokenReply(f"no choice: {str(choice)[:80]!r}")
        finish, content, refusal = _text(choice, "finish_reason"), _text(message, "content"), _text(message, "refusal")
        self.choices += 1
        self.finish = finish or self.finish
        if content is not None:
            self.text = (self.text or "") + content
        self.refusal += refusal or ""
        self.called = bool(
            self.called or getattr(message, "tool_calls", None) or getattr(message, "function_call", None)
        )
        extra = getattr(message, "model_extra", None) or {}
        self.thought = bool(self.thought or extra.get("reasoning_content") or extra.get("reasoning"))

    @staticmethod
    def of(completion: object) -> Answer:
        """Raises BrokenReply for what is no chat completion."""
        if not isinstance(completion, ChatCompletion):
            raise BrokenReply(f"no chat completion: {str(completion)[:80]!r}")
        error = (completion.model_extra or {}).get("error")
        if error:  # some routers answer with status 200 for a failure behind them
            code = error.get("code") if isinstance(error, dict) else None
            raise BrokenReply(f"the server says {str(error)[:200]}", code if isinstance(code, int) else None)
        if not isinstance(getattr(completion, "choices", None), list):
            raise BrokenReply("a completion without choices")
        answer = Answer(usage=_tokens(completion))
        for choice in completion.choices[:1]:
            answer._take(choice, "message")
            if getattr(choice, "message", None) is None and answer.finish != "content_filter":
                raise BrokenReply("a choice without a message")
        return answer

    def outcome(self) -> Reply | Stopped:
        """The reply, or why there is none."""
        trouble = self._trouble()
        if trouble:
            return Stopped(StopReason.ENGINE_ERROR, trouble)
        text, ended = cut(self.text or "")
        limit = FinishReason.LENGTH if self.finish == "length" else FinishReason.STOP
        return Reply(text, ended or limit)

    def _trouble(self) -> str:
        if not self.choices:
            return "the server gave an answer without a choice"
        if self.finish == "content_filter":
            return "the server's content filter cut the reply"
        if self.called or self.finish in ("tool_calls", "function_call"):
            return "the model called a tool instead of replying; start the server without tools"
        if self.finish not in ("stop", "length"):
            return f"the server ended the reply by itself ({self.finish})"
        if self.text is None and self.finish == "stop":
            if self.refusal:
                return f"the model refused: {self.refusal[:200]}"
            if self.thought:
                return "only a thought came, apart from the text; start the server without a reasoning parser"
            return "the server gave a reply without text"
        return ""


def _text(holder: object, name: str) -> str | None:
    value = getattr(holder, name, None)
    if value is None or isinstance(value, str):
        return value
    raise BrokenReply(f"{name} is no text: {str(value)[:80]!r}")


def _tokens(answer: object) -> tuple[int, int] | None:
    """None where they are not counted, or not with numbers."""
    usage = getattr(answer, "usage", None)
    prompt, sampled = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    return (prompt, sampled) if isinstance(prompt, int) and isinstance(sampled, int) else None


def wire_all(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [to_wire(message) for message in messages]
