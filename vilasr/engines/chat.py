"""Messages to token ids for models of the Qwen2-VL family, one turn at a time (token-in, token-out).

Text that comes from messages is tokenized with control words split, so `<|im_start|>` in a question stays text. The
ids equal those of the model's own chat template and of LLaMA-Factory's `qwen2_vl` template (tests compare them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vilasr.messages import Message, Text

DEFAULT_SYSTEM = "You are a helpful assistant."  # what Qwen2-VL's template puts where no system turn is given


class ChatTokens:
    """Token ids of conversations. `tokenizer` is the checkpoint's Hugging Face tokenizer.

    Raises ValueError if it lacks one of the family's control tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.start = self._id("<|im_start|>")
        self.end = self._id("<|im_end|>")
        self.end_of_text = self._id("<|endoftext|>")
        self.vision_start = self._id("<|vision_start|>")
        self.vision_end = self._id("<|vision_end|>")
        self.image_pad = self._id("<|image_pad|>")
        # A reply is cut before any of these: they would open a turn or an image that does not exist.
        others = [self._id(token) for token in ("<|video_pad|>", "<|vision_pad|>")]
        self.forbidden = frozenset([self.start, self.vision_start, self.vision_end, self.image_pad, *others])

    def _id(self, token: str) -> int:
        token_id = self._tokenizer.convert_tokens_to_ids(token)
        if not isinstance(token_id, int) or self._tokenizer.convert_ids_to_tokens(token_id) != token:
            raise ValueError(f"the tokenizer has no {token}: only models of the Qwen2-VL family are supported")
        return token_id

    def text(self, text: str) -> list[int]:
        """Ids of plain text; control words in it are split into ordinary tokens."""
        if not text:
            return []
        return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def opening(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation from its beginning, up to where the assistant's turn begins."""
        ids = [] if messages and messages[0].role == "system" else self._turn("system", [("text", DEFAULT_SYSTEM)])
        for message in messages:
            ids += self._message(message)
        return [*ids, self.start, *self.text("assistant\n")]

    def following(self, messages: Sequence[Message], turn_ended: bool) -> list[int]:
        """Ids that follow an assistant's turn: its end where the model did not sample it, the messages, and the
        beginning of the next assistant's turn."""
        ids = [] if turn_ended else [self.end]
        ids += self.text("\n")
        for message in messages:
            ids += self._message(message)
        return [*ids, self.start, *self.text("assistant\n")]

    def _message(self, message: Message) -> list[int]:
        return self._turn(
            message.role, [("text", part.text) if isinstance(part, Text) else ("image", "") for part in message.parts]
        )

    def _turn(self, role: str, parts: Sequence[tuple[str, str]]) -> list[int]:
        """One pad stands for an image; engines expand it. Text between two control tokens is tokenized in one piece,
        as the boundaries inside it matter."""
        ids = [self.start]
        pending = role + "\n"
        for kind, text in parts:
            if kind == "text":
                pending += text
            else:
                ids += [*self.text(pending), self.vision_start, self.image_pad, self.vision_end]
                pending = ""
        return [*ids, *self.text(pending), self.end, *self.text("\n")]
