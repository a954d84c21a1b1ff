"""What goes back and forth between an episode and whatever drives it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from PIL import Image

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Image `index` (from 1) of the conversation: RGB, of final size, so that no engine resizes it."""

    index: int
    image: Image.Image


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Text | Picture, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        return tuple(part for part in self.parts if isinstance(part, Picture))

    def text(self, picture: str = "<image>") -> str:
        """The message as one string, each picture as `picture` (LLaMA-Factory's placeholder by default)."""
        return "".join(part.text if isinstance(part, Text) else picture for part in self.parts)


class FinishReason(StrEnum):
    """Why the engine ended a turn."""

    STOP = "stop"  # the model ended it
    LENGTH = "length"  # the token limit of a turn
    FORBIDDEN_TOKEN = "forbidden_token"  # cut before a sampled vision or role token


@dataclass(frozen=True, slots=True)
class Reply:
    """One turn of the model. `token_ids` (end-of-turn included where it was sampled) and `logprobs`, one a token, are
    there where the engine has them; an OpenAI-compatible server has not."""

    text: str
    finish_reason: FinishReason = FinishReason.STOP
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
