"""The drawing agent loop with faults: what the model says is scripted for questions whose id names a fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.golden import answer, boxes
from tests.training.grpo.scripted import Server, output
from vilasr.engines.chat import ChatTokens
from vilasr.training.grpo.agent_loop import DrawingAgentLoop
from vilasr.training.grpo.item import Item
from vilasr.training.grpo.rollout import VerlEngine

RIGHT, WRONG = "B", "C"  # of every question in tests/training/grpo/test_run.py


def script(fault: str, sample: int, chat: ChatTokens) -> list | None:
    """The replies to one episode; None: the model's own."""

    def say(text: str):
        return output([*chat.text(text), chat.end])

    def draw(side: int, *images: int):
        return say(boxes(*((image, [5, 5, side, side], f"o{image}-{side}") for image in images)))

    first = sample == 0
    right = say(answer(RIGHT))
    return {
        "empty": [output([chat.end]), right if first else say(answer(WRONG))],
        "forbidden": [output([*chat.text("<think> I"), chat.image_pad])] if first else [right],
        "ten": [draw(60, *range(1, 11)), right if first else say(answer(WRONG))],
        "engine": [draw(60, 1), RuntimeError("the server is gone")] if first else [right],
        "overflow": [draw(40 + number, 1) for number in range(60)],
        "equal": [right if first else say(answer(WRONG))],
    }.get(fault)


class FaultyLoop(DrawingAgentLoop):
    def engine(self, item: Item, sample: int, sampling_params: Mapping[str, Any]) -> VerlEngine:
        engine = super().engine(item, sample, sampling_params)
        replies = script(item.example.id.split("-")[0], sample, ChatTokens(self.tokenizer))
        if replies is not None:
            engine._generate = Server(replies).generate
        return engine
