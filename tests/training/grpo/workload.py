"""Questions and planned episodes of tests/bench_grpo.py, by kind.

typical    half of the questions like a maze: one image, four drawing turns; half like a video: frames that fill the
           prompt, three or four drawing turns
longest    frames that fill the prompt, and as many drawing turns and words as fill the response
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.golden import picture
from tests.training.grpo.sized import RIGHT, Plan, Planned, padded, texts, write_plan
from vilasr.engines.chat import ChatTokens
from vilasr.episode import Done, Episode, Limits
from vilasr.messages import Message, Picture, Reply
from vilasr.prompts import Profile
from vilasr.tasks import Example, QuestionType, load_frames
from vilasr.traces import StopReason

FRAMES = 16
_DRAWS = (3, 4)  # of a typical video
QUESTION = "Which object is nearer to the door?"
_MARGIN = 8  # tokens
_WORD = " again"


@dataclass(frozen=True, slots=True)
class Sizes:
    """In tokens: of the longest prompt, response and reply, and the least and the most of a typical reply. `images` an
    episode may show; the `side` in pixels of a maze's image."""

    prompt: int
    response: int
    turn: int
    typical: tuple[int, int]
    images: int
    side: int


class Workload:
    """Writes questions to `folder`, in the order of the steps, with their plan and their images."""

    def __init__(self, folder: Path, profile: Profile, chat: ChatTokens, sizes: Sizes, episodes: int) -> None:
        self.folder, self.profile, self.chat, self.sizes, self.episodes = folder, profile, chat, sizes, episodes
        folder.mkdir(parents=True, exist_ok=True)
        self._frame = math.isqrt(profile.image.max_pixels) // profile.image.factor * profile.image.factor
        self._examples: dict[str, Example] = {}
        self._plan: Plan = {}
        self._known: dict[tuple[str, int], int] = {}  # by question and drawing turns

    def add(self, step: int, kind: str, questions: int, long: int) -> None:
        """The questions of a step; of a `longest` one, `long` are so and the others typical."""
        for number in range(questions):
            name = f"{step}-{number}"
            if kind == "longest" and number < long:
                self._add_longest(f"{name}-longest")
            elif number % 2:
                self._add_typical(self._video(f"{name}-video"), _DRAWS)
            else:
                self._add_typical(self._example(f"{name}-maze", "maze", 1, self.sizes.side), (4, 4))

    def write(self) -> Plan:
        """`rl.jsonl`, `val.jsonl` (one question, which is never asked) and the plan."""
        for name, examples in (("rl", [*self._examples.values()]), ("val", [self._example("val", "maze", 1, 56)])):
            self.folder.joinpath(f"{name}.jsonl").write_text("".join(_line(example) for example in examples))
        write_plan(self.folder, self._plan)
        return self._plan

    def _example(self, name: str, kind: str, images: int, side: int, words: int = 0) -> Example:
        paths = [f"{name}-{number}.png" for number in range(images)]
        for number, path in enumerate(paths):
            if not (self.folder / path).is_file():
                picture(side, side, len(self._examples) * FRAMES + number).save(self.folder / path)
        example = Example(
            id=name,
            question=QUESTION + _WORD * words,
            options=("chair", "table", "lamp", "sofa"),
            answer=RIGHT,
            image_paths=tuple(paths),
            question_type=QuestionType.MULTIPLE_CHOICE,
            data_type=kind,
        )
        return load_frames(example, self.profile.image, self.folder / "rl.jsonl")

    def _video(self, name: str) -> Example:
        """As many frames as fit in a prompt, and words that fill it."""
        room = self.sizes.prompt - _MARGIN
        for frames in range(min(FRAMES, self.sizes.images - _DRAWS[1]), 1, -1):
            least, more = (self._prompt(self._example(name, "video", frames, self._frame, words)) for words in (0, 100))
            if least <= room:
                words = (room - least) * 100 // (more - least)
                return self._example(name, "video", frames, self._frame, words)
        raise ValueError(f"not even two frames of {self._frame} pixels fit in a prompt of {room} tokens")

    def _add_typical(self, example: Example, draws: tuple[int, int]) -> None:
        chance = random.Random(example.id)  # the same everywhere
        planned = []
        for number in range(self.episodes):
            count = chance.randint(*draws)
            replies = tuple(chance.randint(*self.sizes.typical) for _ in range(count + 1))
            planned.append(self._planned(example, replies, number))
        self._examples[example.id], self._plan[example.id] = example, planned

    def _add_longest(self, name: str) -> None:
        example = self._video(name)
        for draws in range(self.sizes.images - len(example.frames), 0, -1):
            least = [len(padded(self.chat, text)) for text in texts(draws, len(example.frames), True)]
            room = self.sizes.response - _MARGIN - self._between(example, draws)
            each, rest = divmod(room, draws + 1)
            if each > max(least):
                replies = tuple(min(self.sizes.turn, each + (number < rest)) for number in range(draws + 1))
                self._examples[name] = example
                self._plan[name] = [self._planned(example, replies, number) for number in range(self.episodes)]
                return
        raise ValueError(f"no drawing turn fits in a response of {self.sizes.response} tokens")

    def _planned(self, example: Example, replies: Sequence[int], number: int) -> Planned:
        draws, images = len(replies) - 1, len(example.frames)
        prompt, response = self._prompt(example), sum(replies) + self._between(example, draws)
        if prompt > self.sizes.prompt or response > self.sizes.response or max(replies) > self.sizes.turn:
            raise ValueError(f"{example.id}: {prompt} and {response} tokens, too many for {self.sizes}")
        return Planned(tuple(replies), number % 2 == 0, prompt, response, images + draws)

    def _prompt(self, example: Example) -> int:
        messages = Episode(example, self.profile).messages
        return len(self.chat.opening(messages)) + _expanded(messages)

    def _between(self, example: Example, draws: int) -> int:
        """Tokens of an episode that are neither asked nor sampled: what follows its replies."""
        if (example.id, draws) in self._known:
            return self._known[example.id, draws]
        limits = Limits.of(self.profile, example, stop_on_repeat=True)
        episode, count = Episode(example, self.profile, limits), 0
        for text in texts(draws, len(example.frames), True):
            spoken = self.chat.decode(padded(self.chat, text)[:-1])
            step = episode.advance(Reply(spoken))
            if isinstance(step, Done):
                break
            count += len(self.chat.following([step.message], turn_ended=True)) + _expanded([step.message])
        assert episode.done == Done(StopReason.ANSWERED), (example.id, episode.done, draws)
        self._known[example.id, draws] = count
        return count


def _expanded(messages: Sequence[Message]) -> int:
    """Tokens that images take beyond one each."""
    pictures: list[Picture] = [picture for message in messages for picture in message.pictures]
    return sum(picture.image.width * picture.image.height // (28 * 28) - 1 for picture in pictures)


def _line(example: Example) -> str:
    names = ("id", "question", "options", "answer", "question_type", "data_type")
    return json.dumps({**{name: getattr(example, name) for name in names}, "image_path": example.image_paths}) + "\n"
