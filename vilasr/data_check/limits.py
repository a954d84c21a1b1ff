"""The size at which LLaMA-Factory shows an image: its own limits first, then those of the model's image processor."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilasr.images import MAX_ASPECT, ImageError, SizeRule
from vilasr.tasks import DataError

# LLaMA-Factory's defaults for a recipe that does not name the keys.
IMAGE_MAX_PIXELS = 768 * 768
IMAGE_MIN_PIXELS = 32 * 32
_PROCESSOR = SizeRule(28, 3136, 12845056)  # as Qwen2.5-VL is published
_LEAST_SIDE = 28
_MOST = 1 << 40  # of pixels: what is larger is damage
_SHRUNK_ASPECT = 180  # what it makes of sides longer than 200 : 1

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Limits:
    """`image_max_pixels` and `image_min_pixels` of the recipe, None where no recipe is known; the processor's rule."""

    image_max_pixels: int | None = None
    image_min_pixels: int | None = None
    processor: SizeRule = _PROCESSOR

    def shown(self, width: int, height: int) -> Size:
        """(width, height) in the model's eyes. Raises ImageError where LLaMA-Factory could not show the image."""
        if width < 1 or height < 1:
            raise ImageError(f"an image of {width} x {height} pixels is empty")
        if self.image_max_pixels is not None and width * height > self.image_max_pixels:
            width, height = _scaled(width, height, self.image_max_pixels)
        if self.image_min_pixels is not None and width * height < self.image_min_pixels:
            width, height = _scaled(width, height, self.image_min_pixels)
        width, height = max(width, _LEAST_SIDE), max(height, _LEAST_SIDE)
        if width / height > MAX_ASPECT:
            width = height * _SHRUNK_ASPECT
        if height / width > MAX_ASPECT:
            height = width * _SHRUNK_ASPECT
        return self.processor.final_size(width, height)


def _scaled(width: int, height: int, pixels: int) -> Size:
    factor = math.sqrt(pixels / (width * height))
    width, height = int(width * factor), int(height * factor)
    if width < 1 or height < 1:
        raise ImageError(f"nothing is left of a side when the image is resized to {pixels} pixels")
    return width, height


def limits_of(config: Mapping[str, Any]) -> Limits:
    """The limits of a recipe, LLaMA-Factory's own where it names none. Raises DataError naming the key."""
    most = _pixels(config, "image_max_pixels", IMAGE_MAX_PIXELS)
    least = _pixels(config, "image_min_pixels", IMAGE_MIN_PIXELS)
    if most < least:
        raise DataError(f"image_max_pixels: {most} is less than image_min_pixels, {least}")
    model = config.get("model_name_or_path")
    processor = _processor(Path(model)) if isinstance(model, str) and model else _PROCESSOR
    return Limits(most, least, processor)


def _pixels(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DataError(f"{key}: must be a whole number of pixels, not {value!r}")
    return value


def _processor(folder: Path) -> SizeRule:
    """The rule of the model's image processor; Qwen2.5-VL's where the folder does not tell."""
    values: object = {}
    for name in ("processor_config.json", "preprocessor_config.json"):  # the newer one counts where both are there
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as exc:
            raise DataError(f"{folder / name}: cannot be read ({exc}); copy it again") from exc
        values = found.get("image_processor") if isinstance(found, dict) and name[:4] == "proc" else found
        if values:
            break
    values = values if isinstance(values, dict) else {}
    size = values.get("size")
    size = size if isinstance(size, dict) else {}
    least = values.get("min_pixels") or size.get("shortest_edge") or _PROCESSOR.min_pixels
    most = values.get("max_pixels") or size.get("longest_edge") or _PROCESSOR.max_pixels
    factor = values.get("patch_size", 14), values.get("merge_size", 2)
    if not all(isinstance(value, int) and 0 < value < _MOST for value in (least, most, *factor)):
        raise DataError(
            f"{folder}: the image processor's pixel limits and patch sizes must be whole numbers above "
            "0; copy its files again"
        )
    return SizeRule(factor[0] * factor[1], least, most)
