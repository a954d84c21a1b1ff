"""One's own picture: ask a model, watch it think, look at what it drew.

from vilasr.ask import Model
with Model("path/to/checkpoint") as model:
    told = model.ask(["kitchen.jpg"], "What is nearer to the door?", options=["chair", "table"])
print(told.answer)
told.save("outputs/kitchen")
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from PIL import Image

from vilasr.engines.base import Engine, Sampling
from vilasr.engines.start import Source, start_engine
from vilasr.episode import Continue, Done, Episode
from vilasr.images import ImageError, load_image, to_rgb
from vilasr.messages import Picture
from vilasr.prompts import Profile, load_profile
from vilasr.runner import run_episode
from vilasr.scoring.answers import choice_letter
from vilasr.tasks import DataError, Example, QuestionType
from vilasr.traces import Trace, redraw, trace_to_json

PictureLike = str | Path | Image.Image


@dataclass(frozen=True)
class Told:
    """An episode on one's own pictures. `images` are all images of the conversation as the model saw them, drawn ones
    included, image 1 first."""

    example: Example
    trace: Trace
    images: tuple[Image.Image, ...]

    @property
    def answer(self) -> str | None:
        return self.trace.answer

    @property
    def option(self) -> str | None:
        """The option that the answer names; None where it names none, or there are none."""
        letter = choice_letter(self.answer or "", self.example.options) if self.example.options else None
        return None if letter is None else self.example.options[ord(letter) - ord("A")]

    def save(self, folder: str | Path) -> list[Path]:
        """Write image-1.png, image-2.png, ... and trace.json; returns the images' paths. Images that an earlier
        question left there are removed. Raises OSError."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "trace.json").exists():
            for stale in folder.glob("image-*.png"):
                stale.unlink()
        paths = []
        for index, image in enumerate(self.images, 1):
            paths.append(folder / f"image-{index}.png")
            image.save(paths[-1])
        record = {
            "question": self.example.question,
            "options": list(self.example.options),
            **trace_to_json(self.trace),
        }
        (folder / "trace.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        return paths


class Model:
    """A model to ask: a checkpoint folder, run by vLLM in this process, or any `Source`. Greedy unless `sampling` says
    otherwise. Raises DataError, ProfileError or EngineDied where it cannot start."""

    def __init__(
        self,
        source: str | Path | Source,
        profile: Profile | str | Path | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self.source = source if isinstance(source, Source) else Source(checkpoint=Path(source))
        if profile is None:
            self.profile = self.source.profile()
        else:
            self.profile = profile if isinstance(profile, Profile) else load_profile(Path(profile))
        self.sampling = sampling or Sampling(turn_tokens=self.profile.budget.turn_tokens)
        self._engine: Engine = start_engine(self.source, self.profile, self.profile.image, self.sampling)

    def ask(
        self,
        images: PictureLike | Sequence[PictureLike],
        question: str,
        options: Sequence[str] = (),
        on_text: Callable[[str], None] | None = None,
        on_picture: Callable[[Picture], None] | None = None,
    ) -> Told:
        """Blocks until the episode ends. `on_text` gets the replies in pieces as they come, `on_picture` each drawn
        image before the model sees it. Raises DataError for what cannot be asked, EngineDied."""
        example = own_example([images] if isinstance(images, str | Path | Image.Image) else images, question, options)
        frames = tuple(self.profile.image.apply(frame) for frame in example.frames)
        return asyncio.run(self._ask(replace(example, frames=frames), on_text, on_picture))

    async def _ask(
        self,
        example: Example,
        on_text: Callable[[str], None] | None,
        on_picture: Callable[[Picture], None] | None,
    ) -> Told:
        episode = Episode(example, self.profile)
        session = self._engine.session(self.sampling.item_seed(example.id))
        session.listen = on_text

        def show(outcome: Continue | Done) -> None:
            if isinstance(outcome, Continue) and on_picture is not None:
                for picture in outcome.message.pictures:
                    on_picture(picture)

        trace = await run_episode(episode, self._engine, session, show)
        return Told(example, trace, tuple(redraw(trace, example.frames)))

    def close(self) -> None:
        asyncio.run(self._engine.aclose())

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def own_example(images: Sequence[PictureLike], question: str, options: Sequence[str] = ()) -> Example:
    """A question of one's own, its pictures loaded but not resized. Raises DataError."""
    if not question.strip():
        raise DataError("the question is empty")
    if not images:
        raise DataError("name at least one image")
    if len(options) == 1:
        raise DataError("options: name at least two, or none")
    frames = []
    for image in images:
        if isinstance(image, Image.Image):
            frames.append(to_rgb(image))
            continue
        try:
            frames.append(load_image(Path(image)))
        except ImageError as exc:
            raise DataError(str(exc)) from exc
    names = tuple(str(image) if isinstance(image, str | Path) else f"image {n}" for n, image in enumerate(images, 1))
    asked = json.dumps([question, *options, *names])
    return Example(
        id=f"own-{hashlib.sha256(asked.encode()).hexdigest()[:12]}",
        question=question,
        options=tuple(options),
        answer="",
        image_paths=names,
        question_type=QuestionType.MULTIPLE_CHOICE if options else QuestionType.FREE_FORM,
        source="own",
        frames=tuple(frames),
    )
