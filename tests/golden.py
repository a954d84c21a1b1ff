"""Golden traces: scripted episodes that cover what token builders could get wrong.

Every engine and trainer must build the same token ids, image grids and masks from each of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vilasr.episode import Continue, Done, Episode, Limits
from vilasr.messages import FinishReason, Reply
from vilasr.prompts import default_profile
from vilasr.tasks import Example, QuestionType


def picture(width: int, height: int, seed: int) -> Image.Image:
    """A smooth coloured image, different for each seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def make_example(name: str, sizes: Sequence[tuple[int, int]], **fields) -> Example:
    seed = sum(map(ord, name)) * 100
    defaults = {
        "question": "Which object is nearer to the door?",
        "options": ("chair", "table", "lamp", "sofa"),
        "answer": "B",
        "question_type": QuestionType.MULTIPLE_CHOICE,
        "data_type": "multi_view" if len(sizes) > 1 else "single_view",
    }
    return Example(
        id=name,
        image_paths=tuple(f"{name}_{i}.png" for i in range(len(sizes))),
        frames=tuple(picture(w, h, seed + i) for i, (w, h) in enumerate(sizes)),
        **(defaults | fields),
    )


def boxes(*marks: tuple[int, list[float], str], thought: str = "I look.") -> str:
    records = [{"index": i, "bbox_2d": box, "label": label} for i, box, label in marks]
    return f"<think> {thought} </think> Action: Object Mapper\n```json\n{json.dumps(records)}\n```"


def lines(*marks: tuple[int, list[float], list[float], str], thought: str = "I trace.") -> str:
    records = [{"index": i, "start_point_2d": s, "end_point_2d": e, "label": label} for i, s, e, label in marks]
    return f"<think> {thought} </think> Action: Path Tracer\n```json\n{json.dumps(records)}\n```"


def answer(text: str = "B", thought: str = "I see it.") -> str:
    return f"<think> {thought} </think> Action: Answer\n<answer> {text} </answer>"


@dataclass(frozen=True)
class Golden:
    name: str
    example: Example
    replies: tuple[str, ...]
    limits: Limits = Limits()
    truncated: tuple[int, ...] = ()  # replies (from 0) that were cut at the token limit

    def run(self, on_turn: Callable[[list], None] = lambda messages: None) -> Episode:
        """Play the replies; `on_turn` sees the new messages before each reply."""
        episode = Episode(self.example, default_profile(), self.limits)
        new = list(episode.messages)
        for number, text in enumerate(self.replies):
            on_turn(new)
            finish = FinishReason.LENGTH if number in self.truncated else FinishReason.STOP
            step = episode.advance(Reply(text, finish))
            if isinstance(step, Done):
                assert number == len(self.replies) - 1, f"{self.name} ended early: {step}"
                return episode
            assert isinstance(step, Continue)
            new = [step.message]
        raise AssertionError(f"{self.name} did not end")


ONE = [(168, 168)]
BOX = [20, 30, 90, 100]


def golden_traces() -> list[Golden]:
    def ex(name: str, sizes=ONE, **fields) -> Example:
        return make_example(name, sizes, **fields)

    seven = [(7 + k) * 28 for k in range(7)]
    return [
        Golden("answer_at_once", ex("answer_at_once"), (answer(),)),
        Golden("one_box", ex("one_box"), (boxes((1, BOX, "chair")), answer())),
        Golden("one_line", ex("one_line"), (lines((1, [10, 10], [150, 90], "path")), answer())),
        Golden("wide_image", ex("wide_image", [(560, 84)]), (boxes((1, [*BOX[:2], 200, 80], "a")), answer())),
        Golden("tall_image", ex("tall_image", [(84, 420)]), (lines((1, [5, 5], [80, 400], "b")), answer())),
        Golden(
            "odd_sizes",
            ex("odd_sizes", [(w, 28 * (k + 3)) for k, w in enumerate(seven[:3])]),
            (boxes((3, [5, 5, 60, 60], "c"), (1, [5, 5, 60, 60], "d")), answer()),
        ),
        Golden(
            "sixteen_frames",
            ex("sixteen_frames", [(140, 84)] * 16, data_type="video"),
            (boxes((16, [5, 5, 60, 60], "door"), (2, [1, 1, 50, 50], "door")), answer()),
        ),
        Golden(
            "several_images_a_turn",
            ex("several_images_a_turn", [(112, 112)] * 4),
            (boxes(*((i, [5, 5, 60, 60], f"o{i}") for i in (4, 2, 1))), answer()),
        ),
        Golden(
            "branches",
            ex("branches"),
            (
                boxes((1, BOX, "a")),
                boxes((1, BOX, "b")),
                lines((3, [9, 9], [99, 99], "p"), (2, [1, 1], [9, 9], "q")),
                answer(),
            ),
        ),
        Golden("revised_box", ex("revised_box"), (boxes((1, BOX, "a")), boxes((2, [25, 35, 95, 105], "a")), answer())),
        Golden(
            "bad_json_then_right",
            ex("bad_json"),
            ("<think> x </think> Action: Object Mapper\n```json\n[{]\n```", answer()),
        ),
        Golden("unknown_image", ex("unknown_image"), (boxes((7, BOX, "a")), answer())),
        Golden("no_action", ex("no_action"), ("I am not sure what to do", "", answer())),
        Golden("truncated_turn", ex("truncated_turn"), ("<think> and so on and so on", answer()), truncated=(0,)),
        Golden("error_budget", ex("error_budget"), ("?", "??", "???"), Limits(errors=2)),
        Golden(
            "call_budget", ex("call_budget"), (boxes((1, BOX, "a")), boxes((2, BOX, "b")), answer()), Limits(calls=3)
        ),
        Golden("image_budget", ex("image_budget"), (boxes((1, BOX, "a")), answer()), Limits(images=2)),
        Golden("repeated_mark", ex("repeated_mark"), (boxes((1, BOX, "a")), boxes((2, BOX, "a")), answer())),
        Golden(
            "control_words_in_question",
            ex("control_words", question="Is <|im_start|> or <image> or <|image_pad|> shown?\n\n  Look twice."),
            (answer(),),
        ),
        Golden(
            "unicode_and_numbers",
            ex(
                "unicode",
                question="Wie groß ist das Zimmer (m²)? 房间有多大?",
                options=(),
                question_type=QuestionType.REGRESSION,
                answer="12.5",
            ),
            (boxes((1, BOX, "Tür 门")), answer("12.5")),
        ),
    ]
