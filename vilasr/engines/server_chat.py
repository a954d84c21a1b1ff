"""Messages to the chat-completions format and its answers back to replies."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion_usage import CompletionUsage
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
    """What the server said, whole or so far."""

    text: str | None = None
    finish: str | None = None
    refusal: str = ""
    thought: bool = False  # a thought was given apart from the text
    called: bool = False  # a tool was called
    choices: int = 0
    usage: CompletionUsage | None = None

    def add(self, chunk: ChatCompletionChunk) -> None:
        self.usage = getattr(chunk, "usage", None) or self.usage
        for choice in getattr(chunk, "choices", None) or ():
            self._take(choice, choice.delta)

    def _take(self, choice: Any, message: Any) -> None:
        self.choices += 1
        self.finish = choice.finish_reason or self.finish
        if isinstance(getattr(message, "content", None), str):
            self.text = (self.text or "") + message.content
        self.refusal += getattr(message, "refusal", None) or ""
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
        answer = Answer(usage=getattr(completion, "usage", None))
        for choice in completion.choices[:1]:
            answer._take(choice, choice.message)
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


def wire_all(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [to_wire(message) for message in messages]
