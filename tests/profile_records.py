"""Records in the layout of the released data, made by episodes of any profile: what a profile reader must explain."""

from __future__ import annotations

import random

from PIL import Image

from tests.golden import answer, boxes, lines
from vilasr.episode import Done, Episode, Limits
from vilasr.messages import Reply
from vilasr.prompts import Profile
from vilasr.tasks import Example, QuestionType

_OBJECTS = ("chair", "lamp", "door", "red cup", "sofa", "plant", "table (left)", "bed 2", "window", "TV")
_ASKS = (
    "Which object is nearer to the {a}?",
    "Standing by the {a} and facing the {b}, where is the {c}?",
    "What would I reach first from the {a}:\nthe {b} or the {c}?",
    "How far is the {a} from the {b}, in a room of 12 m²?",
    "Counting from 1, how many of {a} and {b} are seen in image 2?",
    "If the {a} is at 0, 0 then where is {c}?",
)
_SIZES = [(168, 168), (196, 140), (84, 112), (280, 56), (140, 84)]


def example(rng: random.Random, number: int) -> Example:
    """A question of any kind and type."""
    kind = rng.choice(("single", "multi", "video"))
    count = {"single": 1, "multi": rng.randint(2, 4), "video": 16}[kind]
    size = rng.choice(_SIZES)
    sizes = [size if kind == "video" else rng.choice(_SIZES) for _ in range(count)]
    a, b, c, d = rng.sample(_OBJECTS, 4)
    question_type = rng.choices(
        (QuestionType.MULTIPLE_CHOICE, QuestionType.REGRESSION, QuestionType.NUMERICAL), (3, 1, 1)
    )[0]
    is_choice = question_type is QuestionType.MULTIPLE_CHOICE
    options = (a, b, c, d)[: rng.randint(2, 4)] if is_choice else ()
    right = "A" if is_choice else "3.5" if question_type is QuestionType.REGRESSION else "4"
    return Example(
        id=f"item-{number}",
        question=rng.choice(_ASKS).format(a=a, b=b, c=c),
        options=tuple(f"{chr(65 + i)}. {option}" for i, option in enumerate(options)),
        answer=right,
        image_paths=tuple(f"{number}_{i}.png" for i in range(count)),
        question_type=question_type,
        data_type={"single": "single_view", "multi": "multi_view", "video": "video"}[kind],
        frames=tuple(Image.new("RGB", size) for size in sizes),
    )


def play(item: Example, profile: Profile, seed: int, troubled: bool = False) -> Episode:
    """A finished episode: drawings on one image or several, now and then to the end of the budget, then the answer."""
    rng = random.Random(seed)
    episode = Episode(
        item, profile, Limits(calls=rng.choice((3, 4, 10)), images=len(item.frames) + rng.choice((3, 30)))
    )
    draws = rng.choice((1, 1, 2, 3, 9))
    for step in range(draws):
        nodes = episode.scene.nodes
        box = [rng.randint(0, 20) + step, 5, 40 + step, 30]
        touched = rng.sample(range(1, len(nodes) + 1), min(len(nodes), rng.choice((1, 1, 1, 2, 3))))
        reply = boxes(*((index, box, f"{rng.choice(_OBJECTS)} {step}{index}") for index in touched))
        if rng.random() < 0.4:
            reply = lines((touched[0], box[:2], box[2:], f"way {step}"))
        if troubled and rng.random() < 0.4:
            again = boxes((1, [1, 1, 30, 30], "same"), (1, [1, 1, 30, 30], "same"))
            reply = rng.choice(("I do not know.", reply.replace("[{", "[", 1), again))
        result = episode.advance(Reply(reply))
        assert not isinstance(result, Done)
        if episode._final:
            break
    assert isinstance(episode.advance(Reply(answer(item.answer))), Done)
    return episode


def record(episode: Episode) -> dict:
    return {
        "conversations": [{"role": message.role, "content": message.text()} for message in episode.messages],
        "images": [f"{p.index}.png" for message in episode.messages for p in message.pictures],
    }


def records(profile: Profile, count: int, troubled: bool = False) -> tuple[list[Example], list[dict]]:
    rng = random.Random(7)
    items = [example(rng, number) for number in range(count)]
    return items, [record(play(item, profile, seed, troubled)) for seed, item in enumerate(items)]
