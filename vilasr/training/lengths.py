"""How many tokens LLaMA-Factory makes of a conversation with images, without opening them.

Template `qwen2_vl` (LLaMA-Factory 0.9.5): each turn is tokenised by itself, an image is one token for each 28 x 28
pixels of the size shown, between two more. A conversation longer than `cutoff_len` is cut there: the end of the reply
is lost, and where an image is cut, training stops with an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vilasr.data_check.conversation import Conversation
from vilasr.data_check.problems import Code, Finding, finding
from vilasr.drawing.parser import clean_text
from vilasr.tasks import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEMPLATE = "qwen2_vl"
DEFAULT_CUTOFF = 2048  # LLaMA-Factory's, where a recipe names none
_DEFAULT_SYSTEM = "You are a helpful assistant."  # where a conversation has none
_IMAGE, _ONE_IMAGE = "<image>", "<|vision_start|><|image_pad|><|vision_end|>"
_PIXELS = 28 * 28  # of one token

Turn = tuple[str, str]  # role ("system", "user" or "assistant") and content


class TokenCounter:
    """Counts with the tokenizer of a model folder or hub model, or with one given. Raises DataError where there is
    none."""

    def __init__(self, model: str | Tokenizer) -> None:
        self._tokenizer = _load(model) if isinstance(model, str) else model

    def count(self, turns: Sequence[Turn], sizes: Sequence[tuple[int, int]]) -> int:
        """Tokens of a conversation; `sizes` are (width, height) in pixels of its images as shown."""
        pieces = [] if turns and turns[0][0] == "system" else [_wrap("system", _DEFAULT_SYSTEM)]
        pieces += [_wrap(role, content.replace(_IMAGE, _ONE_IMAGE)) for role, content in turns]
        encoded = self._tokenizer.encode_batch_fast([clean_text(piece) for piece in pieces], add_special_tokens=False)
        text = sum(len(piece.ids) for piece in encoded)
        return text + sum(width * height // _PIXELS - 1 for width, height in sizes)


def _wrap(role: str, content: str) -> str:
    if role == "system":
        return f"<|im_start|>system\n{content}<|im_end|>\n"
    if role == "user":
        return f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
    return f"{content}<|im_end|>\n"


def _load(model: str) -> Tokenizer:
    from tokenizers import Tokenizer  # of the extra `sft`

    try:
        if Path(model).is_dir():
            return Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
        return Tokenizer.from_pretrained(model)
    except Exception as exc:  # the library raises bare Exceptions
        raise DataError(
            f"model_name_or_path: the tokenizer of {model!r} cannot be loaded ({exc}); it must be a folder with "
            "tokenizer.json or a model on the hub that can be reached"
        ) from exc


class LengthCheck:
    """A further check of data (`vilasr.data_check`): reports conversations longer than `cutoff` tokens.

    It can be sent to other processes; `lengths` holds those counted in this one.
    """

    def __init__(self, model: str, cutoff: int) -> None:
        self.model, self.cutoff = model, cutoff
        self.lengths: list[int] = []
        self._counter: TokenCounter | None = None

    def __reduce__(self) -> tuple[type[LengthCheck], tuple[str, int]]:
        return LengthCheck, (self.model, self.cutoff)  # tokenizers are loaded anew, not pickled

    def __call__(self, conversation: Conversation, /) -> Iterator[Finding]:
        sizes = [image.shown for image in conversation.images]
        if not conversation.fits or None in sizes:
            return  # the checks before say why
        self._counter = self._counter or TokenCounter(self.model)
        turns = [(turn.role, turn.text) for turn in conversation.turns]
        length = self._counter.count(turns, [size for size in sizes if size is not None])
        self.lengths.append(length)
        if length > self.cutoff:
            message = (
                f"{length} tokens, cutoff_len is {self.cutoff}: the end is lost, and training stops where an image is "
                "cut; raise cutoff_len or take the item out"
            )
            yield finding(Code.TOO_LONG, conversation.turns[-1].field, message)
