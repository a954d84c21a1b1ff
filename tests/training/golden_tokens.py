"""The golden traces as LLaMA-Factory reads them, and as token ids of our vLLM session."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

from tests.golden import Golden, golden_traces
from vilasr.messages import Picture
from vilasr.sft_files import DATASET_ENTRY

GOLDEN = {golden.name: golden for golden in golden_traces()}


def write_sharegpt(folder: Path) -> None:
    """The golden traces as LLaMA-Factory reads them."""
    items = []
    for golden in GOLDEN.values():
        episode = golden.run()
        images = []
        for picture in (part for m in episode.messages for part in m.parts if isinstance(part, Picture)):
            path = folder / f"{golden.name}_{picture.index}.png"
            picture.image.save(path)
            images.append(path.name)
        conversation = [{"role": m.role, "content": m.text()} for m in episode.messages]
        items.append({"conversations": conversation, "images": images})
    (folder / "golden.json").write_text(json.dumps(items))
    info = {"golden": {**DATASET_ENTRY, "file_name": "golden.json"}}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def session_tokens(engine, golden: Golden) -> tuple[list[int], list[list[int]], int]:
    """(token ids as vLLM expands them, image grids, our own count) of a session that is told the golden replies."""
    session = engine.session(0)
    replies = iter(golden.replies)
    numbers = itertools.count()

    def turn(messages) -> None:
        engine.extend(session, messages)
        ids = engine.chat.text(next(replies))
        engine.keep(session, ids if next(numbers) in golden.truncated else [*ids, engine.chat.end])

    golden.run(turn)
    seen = asyncio.run(engine.as_seen(session))
    return seen.ids, seen.grids, len(session.state.expanded)
