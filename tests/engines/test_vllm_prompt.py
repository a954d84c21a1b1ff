"""Prompts as vLLM's engine takes them, against vLLM's own way from images and tokens to features and places."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from tests.conftest import run_tool
from tests.engines.asking import together, user
from tests.golden import golden_traces, picture
from vilasr.engines import Sampling, Stopped
from vilasr.engines.vllm_engine import VllmEngine
from vilasr.engines.vllm_prompt import Conversation, Features, NotCached, Prompt, image_key
from vilasr.messages import Message, Picture, Reply
from vilasr.traces import StopReason

GOLDEN = golden_traces()
PAD = 9


def solid(side: int, colour: int = 0) -> Image.Image:
    return Image.new("RGB", (side, side), (colour, colour, colour))


@pytest.mark.parametrize(
    ("ids", "sides", "expanded", "places"),
    [
        ([], [], [], []),
        ([1, 2], [], [1, 2], []),
        ([1, PAD, 2], [28], [1, PAD, 2], [(1, 1)]),
        ([PAD], [56], [PAD] * 4, [(0, 4)]),
        ([1, PAD, 2, PAD, 3], [56, 28], [1, PAD, PAD, PAD, PAD, 2, PAD, 3], [(1, 4), (6, 1)]),
    ],
)
def test_images_are_counted_where_they_stand(ids, sides, expanded, places):
    conversation = Conversation()
    conversation.add(ids, [solid(side) for side in sides], PAD, 28 * 28)
    assert (conversation.ids, conversation.expanded, conversation.places) == (ids, expanded, places)


def test_a_conversation_grows_turn_by_turn():
    conversation = Conversation()
    conversation.add([1, PAD], [solid(56)], PAD, 28 * 28)
    conversation.keep([5, 6])
    conversation.add([2, PAD, 3], [solid(28)], PAD, 28 * 28)
    assert conversation.ids == [1, PAD, 5, 6, 2, PAD, 3]
    assert conversation.expanded == [1, PAD, PAD, PAD, PAD, 5, 6, 2, PAD, 3]
    assert conversation.places == [(1, 4), (8, 1)]


def test_an_image_is_known_by_what_it_shows():
    marked = solid(28)
    marked.putpixel((27, 27), (0, 0, 1))
    wide, high = Image.new("RGB", (56, 28)), Image.new("RGB", (28, 56))
    assert image_key(solid(28)) == image_key(solid(28).copy())
    assert len({image_key(image) for image in (solid(28), solid(28, 1), marked, wide, high, wide.convert("L"))}) == 6


class Maker:
    """Counts what is made. `cached` are the keys that vLLM is said to have."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.cached: set[str] = set()
        self.go = threading.Event()
        self.go.set()
        self.features = Features(self.make, self.cached.__contains__, threads=4)

    def make(self, image: Image.Image) -> str:
        self.go.wait(10)
        self.made.append(image_key(image))
        return f"of {image.size[0]}"


def prompts(maker: Maker, *conversations: Conversation, again: tuple[str, ...] = ()) -> list[Prompt]:
    return asyncio.run(together(*(maker.features.prompt(one, again) for one in conversations)))


def talk(*sides: int) -> Conversation:
    conversation = Conversation()
    conversation.add([PAD] * len(sides), [solid(side) for side in sides], PAD, 28 * 28)
    return conversation


def test_features_are_made_of_new_images_alone():
    maker, conversation = Maker(), talk(28, 56)
    [first] = prompts(maker, conversation)
    assert sorted(first.items.values()) == ["of 28", "of 56"]
    conversation.add([1, PAD], [solid(84)], PAD, 28 * 28)
    [second] = prompts(maker, conversation)
    assert list(second.items.values()) == ["of 84"]
    assert second.keys == (*first.keys, image_key(solid(84)))
    assert second.ids == conversation.expanded
    assert len(maker.made) == 3
    [third] = prompts(maker, conversation, again=first.keys[:1])
    assert dict(third.items) == {first.keys[0]: "of 28"}


def test_features_that_vllm_has_are_not_made():
    maker = Maker()
    maker.cached.add(image_key(solid(56)))
    [prompt] = prompts(maker, talk(28, 56))
    assert list(prompt.items.values()) == ["of 28"]
    assert len(prompt.keys) == 2


def test_equal_images_of_episodes_that_start_together_are_made_once():
    maker = Maker()
    maker.go.clear()
    threading.Timer(2, maker.go.set).start()  # long after all have asked, on a busy machine too
    answers = prompts(maker, *(talk(28, 28) for _ in range(3)))
    assert len(maker.made) == 1
    assert {tuple(prompt.items.values()) for prompt in answers} == {("of 28",)}
    assert maker.features._making == {}


def test_an_image_that_cannot_be_made_is_its_episodes_own_fault():
    maker = Maker()

    def make(image: Image.Image) -> str:
        if image.size[0] == 56:
            raise ValueError("no such pixels")
        return "made"

    maker.features = Features(make, lambda key: False)
    good, bad = prompts(maker, talk(28), talk(28, 56))
    assert isinstance(bad, ValueError)
    assert list(good.items.values()) == ["made"]


@pytest.mark.engine
@pytest.mark.parametrize("golden", GOLDEN, ids=[golden.name for golden in GOLDEN])
def test_the_prompt_is_what_vllm_would_make_of_it(vllm: VllmEngine, golden):
    """Ids, places, grids and pixel values, to the bit."""
    session = vllm.session(0)
    replies, numbers = iter(golden.replies), itertools.count()

    def turn(messages: Any) -> None:
        vllm.extend(session, messages)
        ids = vllm.chat.text(next(replies))
        vllm.keep(session, ids if next(numbers) in golden.truncated else [*ids, vllm.chat.end])

    golden.run(turn)
    seen = asyncio.run(vllm.as_seen(session))
    prompt = asyncio.run(vllm.features.prompt(session.state))
    assert prompt.ids == seen.ids
    assert list(prompt.places) == seen.places
    items = [prompt.items[key] for key in prompt.keys]
    assert [item["image_grid_thw"].data.tolist() for item in items] == seen.grids
    assert [item["pixel_values"].data.dtype for item in items] == [pixels.dtype for pixels in seen.pixels]
    assert all((item["pixel_values"].data == pixels).all() for item, pixels in zip(items, seen.pixels, strict=True))


def empty_cache(vllm: VllmEngine) -> None:
    session = vllm.session(0)
    vllm.extend(session, user())
    asyncio.run(vllm.as_seen(session))


def two_turns(vllm: VllmEngine, between: Callable[[VllmEngine], None] = lambda vllm: None) -> list[Any]:
    """A new picture in each of two turns."""
    session = vllm.session(5)
    replies = []
    for turn in range(2):
        shown = Message("user", (Picture(turn + 1, picture(112, 84, 60 + turn)), *user()[0].parts))
        replies.append(asyncio.run(vllm.reply(session, [shown])))
        between(vllm)
    return replies


@pytest.mark.engine
def test_what_the_cache_dropped_is_handed_over_again(vllm: VllmEngine, monkeypatch):
    """The replies are those of a cache that drops nothing, and no reply is made of missing pictures."""
    monkeypatch.setattr(vllm, "sampling", Sampling(temperature=1.0, turn_tokens=12))
    kept = two_turns(vllm)
    refused = []
    monkeypatch.setattr(NotCached, "__init__", lambda self, keys: refused.append(keys) or setattr(self, "keys", keys))
    empty_cache(vllm)
    dropped = two_turns(vllm, empty_cache)
    assert refused
    assert [reply.token_ids for reply in dropped] == [reply.token_ids for reply in kept]


@pytest.mark.engine
def test_a_size_that_is_not_final_is_refused(vllm: VllmEngine, monkeypatch):
    """vLLM's image processor would make another grid of it than its tokens count: the others go on."""
    session = vllm.session(0)
    odd = Message("user", (Picture(1, picture(70, 56, 0)), *user()[0].parts))
    outcome = asyncio.run(vllm.reply(session, [odd]))
    assert isinstance(outcome, Stopped)
    assert outcome.reason is StopReason.ENGINE_ERROR
    assert "size is not final" in outcome.detail
    assert isinstance(asyncio.run(vllm.reply(vllm.session(1), user(images=2))), Reply)


OWN_PROCESS = """
import asyncio, psutil, sys, threading, time
from tests.engines.asking import user
from vilasr.engines import EngineDied, Sampling
from vilasr.engines.vllm_engine import VllmEngine, VllmOptions
from vilasr.images import SizeRule

if __name__ == "__main__":
    options = VllmOptions(max_model_len=2048, max_num_seqs=4)
    engine = VllmEngine(sys.argv[1], SizeRule(), Sampling(turn_tokens=8), options)
    session = engine.session(0)
    for turn in range(2):
        reply = asyncio.run(engine.reply(session, user("Which?", images=turn + 1)))
        print("reply", *reply.token_ids, flush=True)
    for process in psutil.Process().children(recursive=True):
        if "resource_tracker" not in " ".join(process.cmdline()):
            process.kill()
    for seconds in (0, 2):  # before it is noticed, and after
        time.sleep(seconds)
        try:
            asyncio.run(asyncio.wait_for(engine.reply(session, user("And?")), 60))
        except EngineDied as exc:
            print("died:", exc, flush=True)
    asyncio.run(asyncio.wait_for(engine.aclose(), 30))
    threading.Thread(target=VllmEngine, args=(sys.argv[1], SizeRule(), Sampling(), options), daemon=True).start()
    while not (cores := [p.pid for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]):
        time.sleep(0.1)
    time.sleep(1)  # it still starts
    print("core", *cores, flush=True)
    psutil.Process().kill()
"""


def gone_within(numbers: list[int], seconds: float) -> bool:
    import psutil

    def alive(number: int) -> bool:
        try:
            return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    end = time.monotonic() + seconds
    while any(map(alive, numbers)) and time.monotonic() < end:
        time.sleep(0.2)
    return not any(map(alive, numbers))


@pytest.mark.engine
def test_the_steps_in_a_process_of_vllms_own(vllm: VllmEngine, nano, monkeypatch):
    """As on CUDA: the same replies as in one process; when that process is killed, who waits is told; when this one is,
    that one ends too."""
    monkeypatch.setattr(vllm, "sampling", Sampling(turn_tokens=8))
    session = vllm.session(0)
    here: list[Any] = [asyncio.run(vllm.reply(session, user("Which?", images=turn + 1))) for turn in range(2)]
    environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    done = run_tool("-c", OWN_PROCESS, nano, env={**os.environ, **environment})
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith(("reply", "died", "core"))]
    assert [line[0] for line in lines] == ["reply", "reply", "died:", "died:", "core"], done.stderr[-3000:]
    assert [tuple(map(int, line[1:])) for line in lines[:2]] == [reply.token_ids for reply in here]
    orphans = [int(number) for number in lines[4][1:]]
    assert orphans
    assert gone_within(orphans, 15), "vLLM's process outlived the one that was killed"
