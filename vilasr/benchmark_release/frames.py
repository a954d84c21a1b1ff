"""Which frames of a video are taken, and decoding them with PyAV (FFmpeg).

The rule is that of `sample_vsibench_video_frames` in EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/vsibench/utils.py, and
of the strategy "uniform" in open-compass/VLMEvalKit, vlmeval/dataset/vsibench.py: of N frames in the order they are
shown, those numbered `linspace(0, N - 1, count)`, rounded down; the first and the last are among them. A video of fewer
frames gives them all, as in lmms-eval. (VLMEvalKit's default, "uniform_tail", is the same here.) Both decode with
decord, which converts colours with FFmpeg too; last bits of a pixel may differ between versions of FFmpeg.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from vilasr.benchmark_release.videos import Video
from vilasr.images import MAX_SOURCE_PIXELS, ImageError
from vilasr.tasks import DataError

log = logging.getLogger(__name__)


class _Unreadable(Exception):
    """What FFmpeg says of a file that it cannot read."""


MAX_FRAMES = 10_000_000  # more than a day of video; a header may claim anything
# What a decoder may lack of what the file declares; beyond it, the video is taken for damaged.
_TOLERATED = 0.01


def frame_numbers(total: int, count: int) -> list[int]:
    """The numbers, from 0, of the frames that are taken of `total`; at most `count`."""
    return np.linspace(0, total - 1, min(count, total), dtype=int).tolist()


def read_frames(video: Video, count: int, resize: Callable[[Image.Image], Image.Image]) -> list[Image.Image]:
    """At most `count` frames, uniformly over the video, each resized as it comes, so that no more of the large ones is
    in memory. Raises DataError naming the video."""
    try:
        with video.open() as file:
            total = declared = _count(file, video)
            frames, decoded = _decode(file, frame_numbers(total, count), resize)
            if decoded != declared:
                if abs(decoded - declared) > _TOLERATED * declared or not decoded:
                    raise _damaged(video, f"{decoded:,} of {declared:,} frames can be decoded")
                log.warning("%s: %d of %d frames can be decoded; taken uniformly of those", video, decoded, declared)
                frames, _ = _decode(file, frame_numbers(decoded, count), resize)
            return frames
    except ImageError as exc:
        raise DataError(f"{video}: {exc}") from exc
    except _Unreadable as exc:
        raise _damaged(video, str(exc)) from exc


def _damaged(video: Video, what: str) -> DataError:
    return DataError(f"{video}: is no whole video ({what}); download it again")


@contextlib.contextmanager
def _stream(file: BinaryIO) -> Iterator[tuple[Any, Any]]:
    try:
        av = importlib.import_module("av")
    except ImportError as exc:
        raise DataError(f"reading videos needs the package av ({exc}); setup.sh installs it") from exc
    file.seek(0)
    try:
        # The format is fixed: of what FFmpeg could guess, some kinds name further files to read.
        with av.open(file, mode="r", format="mp4", metadata_errors="replace") as container:
            if not container.streams.video:
                raise _Unreadable("it has no pictures")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise _Unreadable("it is coded in a way that is not known here")
            stream.thread_count = 1  # several videos are decoded at a time instead
            yield container, stream
    except (DataError, ImageError):
        raise
    except (av.FFmpegError, OSError, ValueError) as exc:  # some of what FFmpeg does to a broken file fails in Python
        raise _Unreadable(getattr(exc, "strerror", None) or str(exc)) from exc


def _count(file: BinaryIO, video: Video) -> int:
    """The frames in the file, without decoding them; as many as its header declares, or it is cut off."""
    with _stream(file) as (container, stream):
        if stream.width * stream.height > MAX_SOURCE_PIXELS:
            raise ImageError(f"{stream.width} x {stream.height} pixels is more than can be loaded safely")
        here = shown = 0
        for packet in container.demux(stream):
            if packet.size:
                here += 1
                shown += not packet.is_discard
                if here > MAX_FRAMES:
                    raise _damaged(video, f"over {MAX_FRAMES:,} frames")
        if here < stream.frames * (1 - _TOLERATED) or not shown:
            raise _damaged(video, f"{here:,} of {stream.frames:,} frames are there")
        return shown


def _decode(
    file: BinaryIO, numbers: list[int], resize: Callable[[Image.Image], Image.Image]
) -> tuple[list[Image.Image], int]:
    """The frames of those numbers that are there, and how many there are in all."""
    wanted, frames, total = set(numbers), [], 0
    with _stream(file) as (container, stream):
        for frame in container.decode(stream):
            if total in wanted:
                frames.append(resize(_upright(frame)))
            total += 1
    return frames, total


def _upright(frame: Any) -> Image.Image:
    """The frame as a player shows it: turned as the file says (degrees anticlockwise)."""
    image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation % 360 else image
