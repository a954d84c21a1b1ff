"""Sampling and image sizes under which results were published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vilasr.prompts import Profile


@dataclass(frozen=True, slots=True)
class Preset:
    """`max_pixels` of an image for every benchmark, or for those it names otherwise in `max_pixels_of`."""

    temperature: float
    top_p: float
    turn_tokens: int
    max_pixels: int
    max_pixels_of: Mapping[str, int] = field(default_factory=dict)

    def apply(self, profile: Profile, benchmark: str) -> Profile:
        """The profile with the preset's image size for that benchmark."""
        return replace(
            profile, image=replace(profile.image, max_pixels=self.max_pixels_of.get(benchmark, self.max_pixels))
        )


# What eval/infer.sh and eval/infer.py of the published code set, the same for all benchmarks (no seed there).
_PUBLISHED = Preset(temperature=0.75, top_p=0.9, turn_tokens=16384, max_pixels=448 * 28 * 28)

PRESETS: dict[str, Preset] = {
    "published": _PUBLISHED,
    # The paper's sizes (its section on the set-up); it names no sampling, so that of the code.
    "paper": replace(_PUBLISHED, max_pixels_of={"vsi_bench": 256 * 28 * 28}),
}
