"""How fast a nano model learns to see: `python -m tests.bench_reading --seconds 255`.

It is trained from random weights on captions of mazes (`vilasr.maze_captions`), in a loop of its own that keeps all
pictures on the GPU, so that minutes tell what the recipe's data and optimizer are worth (docs/results/nano.md). Compare
`--plain`, `--image-size 168` in place of cells as large as a visual token, `--windows`, `--adamw`.

Every --every seconds it tells, of held-out mazes and for each kind of question, how many answers' tokens are right
given the tokens before (per cent); and how many ways ("path") and whole descriptions are right in full, by the maze's
size.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from vilasr.maze_captions import DESCRIBE, caption
from vilasr.maze_files import Format, Job
from vilasr.maze_layouts import Split
from vilasr.mazes import Plan
from vilasr.nano import NanoSize, build_nano
from vilasr.prompts import Profile, load_profile
from vilasr.synthetic_task import Turns

ROOT = Path(__file__).resolve().parents[1]
VISUAL_TOKEN = 28  # pixels
KINDS = ("Where", "What", "From", "Is", "Which ways", "Which way", "Which moves", "Describe")  # how questions begin
FULL = ("Which moves", "Describe")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # Qwen2.5-VL's processor


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=255, help="of training; the learning rate decays over them")
    p.add_argument("--every", type=float, default=45, help="seconds between two tests")
    p.add_argument("--count", type=int, default=40000, help="mazes to train on")
    p.add_argument("--tests", type=int, default=768)
    p.add_argument("--plain", action="store_true", help="white paper")
    p.add_argument("--image-size", type=int, help="all pictures of so many pixels a side, whatever the maze's size")
    p.add_argument("--windows", action="store_true", help="vision layers but the last attend within windows")
    p.add_argument("--adamw", action="store_true", help="in place of Muon")
    p.add_argument("--lr", type=float, help="2e-3 for Muon, 1e-3 for AdamW")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--device", default="cuda")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    for name, value in (("hidden", 256), ("heads", 8), ("text-layers", 6), ("vision-layers", 5)):
        p.add_argument(f"--{name}", type=int, default=value)
    return p.parse_args()


@dataclass(frozen=True)
class Drawn:
    """A maze's picture (side, side, 3), questions and answers."""

    picture: np.ndarray
    turns: Turns
    size: int


def draw(job: Job, numbers: range) -> list[Drawn]:
    found = []
    for number in numbers:
        question = job.question(number)
        picture = np.asarray(job.picture(question))
        rng = Random(f"{job.plan.seed} {job.plan.split} {number}")
        found.append(Drawn(picture, caption(question, len(picture), job.profile, rng), question.maze.size))
    return found


def all_drawn(args: argparse.Namespace, split: Split, count: int, profile: Profile) -> list[Drawn]:
    cell = None if args.image_size else VISUAL_TOKEN
    side = args.image_size or VISUAL_TOKEN * 8
    job = Job(Path(), Plan(split, 0, cell=cell), count, side, (Format.CAPTION,), profile, tinted=not args.plain)
    step = math.ceil(count / args.workers / 4)
    parts = [(job, range(first, min(first + step, count))) for first in range(0, count, step)]
    with get_context("spawn").Pool(args.workers) as pool:
        return [one for part in pool.starmap(draw, parts) for one in part]


class Samples:
    """Tokens, what kind of answer each belongs to (-1: none), positions (3 axes) and pictures, on the device."""

    def __init__(self, drawn: list[Drawn], tokenizer: Any, device: torch.device) -> None:
        pad = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        rows = [self._row(one, tokenizer, pad) for one in drawn]
        longest = max(len(ids) for ids, _, _ in rows)
        self.ids = torch.zeros(len(rows), longest, dtype=torch.int16)
        self.kinds = torch.full((len(rows), longest), -1, dtype=torch.int8)
        self.positions = torch.zeros(len(rows), 3, longest, dtype=torch.int16)
        self.lengths = torch.tensor([len(ids) for ids, _, _ in rows], device=device)
        self.sides = torch.tensor([len(one.picture) for one in drawn], device=device)
        self.sizes = torch.tensor([one.size for one in drawn], device=device)
        for number, (ids, kinds, first) in enumerate(rows):
            self.ids[number, : len(ids)] = torch.tensor(ids)
            self.kinds[number, : len(ids)] = torch.tensor(kinds)
            self.positions[number] = _positions(first, len(drawn[number].picture) // VISUAL_TOKEN, longest)
        self.ids, self.kinds, self.positions = (t.to(device) for t in (self.ids, self.kinds, self.positions))
        pictures, places = defaultdict(list), []
        for one in drawn:
            places.append(len(pictures[len(one.picture)]))
            pictures[len(one.picture)].append(one.picture)
        self.pictures = {side: torch.from_numpy(np.stack(all_)).to(device) for side, all_ in pictures.items()}
        self.places = torch.tensor(places, device=device)

    @staticmethod
    def _row(one: Drawn, tokenizer: Any, pad: int) -> tuple[list[int], list[int], int]:
        """(ids, kinds, the place of the first visual token)"""
        side = len(one.picture)
        ids, kinds, first = [], [], 0

        def add(text: str, kind: int = -1) -> None:
            found = tokenizer(text, add_special_tokens=False).input_ids
            ids.extend(found)
            kinds.extend([kind] * len(found))

        add("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")
        for number, (asked, said) in enumerate(one.turns):
            add("<|im_start|>user\n")
            if number == 0:
                add("<|vision_start|>")
                first = len(ids)
                count = (side // VISUAL_TOKEN) ** 2
                ids.extend([pad] * count)
                kinds.extend([-1] * count)
                add(f"<|vision_end|>\nImage 1: {side} wide, {side} high.\n")
            add(f"{asked}<|im_end|>\n<|im_start|>assistant\n")
            add(f"{said}<|im_end|>", _kind(asked))
            add("\n")
        return ids, kinds, first

    def batch(self, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """(kinds, rows' numbers in the order of the batch, what the model takes)"""
        chosen = chosen[torch.argsort(self.sides[chosen])]
        longest = int(self.lengths[chosen].max())
        patches, grids = [], []
        for side in self.sides[chosen].unique().tolist():
            rows = chosen[self.sides[chosen] == side]
            patches.append(_patches(self.pictures[side][self.places[rows]]))
            grids += [[1, side // 14, side // 14]] * len(rows)
        taken = {
            "input_ids": self.ids[chosen, :longest].long(),
            "position_ids": self.positions[chosen, :, :longest].long().permute(1, 0, 2).contiguous(),
            "pixel_values": torch.cat(patches),
            "image_grid_thw": torch.tensor(grids, device=chosen.device),
        }
        return self.kinds[chosen, :longest].long(), chosen, taken


def _kind(asked: str) -> int:
    return next(number for number, begin in enumerate(KINDS) if asked.startswith(begin))


def _positions(first: int, across: int, longest: int) -> torch.Tensor:
    """Qwen2.5-VL's (time, row, column) of each token: text counts in all three, a picture's in the last two."""
    count = across * across
    found = torch.arange(longest).repeat(3, 1)
    found[0, first : first + count] = first
    found[1, first : first + count] = first + torch.arange(across).repeat_interleave(across)
    found[2, first : first + count] = first + torch.arange(across).repeat(across)
    found[:, first + count :] -= count - across
    return found


def _patches(pictures: torch.Tensor) -> torch.Tensor:
    """(pictures, side, side, 3) bytes -> (patches, 1176), in the order of Qwen2.5-VL's processor."""
    mean, std = (torch.tensor(values, device=pictures.device) for values in (MEAN, STD))
    x = ((pictures.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    count, side = len(x), x.shape[-1]
    across = side // VISUAL_TOKEN
    x = x.unsqueeze(1).expand(-1, 2, -1, -1, -1).reshape(count, 2, 3, across, 2, 14, across, 2, 14)
    return x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(count * across * across * 4, 1176)


def make_model(args: argparse.Namespace, drawn: list[Drawn], profile: Profile, device: torch.device) -> tuple[Any, Any]:
    import transformers

    from vilasr.training import varlen_attention

    size = NanoSize(
        hidden=args.hidden,
        heads=args.heads,
        text_layers=args.text_layers,
        vision_layers=args.vision_layers,
        window=112 if args.windows else 0,
    )
    on_gpu = device.type == "cuda"
    if on_gpu:
        varlen_attention.register()
    with tempfile.TemporaryDirectory() as folder:
        texts = [profile.system, *(text for one in drawn[:2000] for turn in one.turns for text in turn)]
        build_nano(Path(folder), texts, size)
        attention = {"text_config": "sdpa", "vision_config": varlen_attention.NAME if on_gpu else "sdpa"}
        model = transformers.AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=attention
        )
        return model.to(device), transformers.AutoTokenizer.from_pretrained(folder)


def make_optimizer(args: argparse.Namespace, model: Any) -> torch.optim.Optimizer:
    """Muon as LLaMA-Factory's `use_muon` sets it up."""
    if args.adamw:
        return torch.optim.AdamW(model.parameters(), lr=args.lr or 1e-3, weight_decay=0.0)
    from llamafactory.third_party.muon import Muon

    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    others = [p for _, p in named if not any(p is matrix for matrix in matrices)]
    return Muon(lr=args.lr or 2e-3, wd=0.0, muon_params=matrices, adamw_params=others, adamw_betas=(0.9, 0.999))


def losses(model: Any, kinds: torch.Tensor, taken: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss of each answer's token, whether each place is right; True where there is no answer)"""
    device = kinds.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        logits = model(**taken, use_cache=False).logits[:, :-1]
    answers, said = kinds[:, 1:] >= 0, taken["input_ids"][:, 1:]
    right = (logits.argmax(-1) == said) | ~answers
    return torch.nn.functional.cross_entropy(logits[answers].float(), said[answers], reduction="none"), right


@torch.no_grad()
def test(model: Any, samples: Samples) -> str:
    model.eval()
    tokens, full = defaultdict(list), defaultdict(list)
    for chosen in torch.arange(len(samples.ids), device=samples.ids.device).split(256):
        kinds, rows, taken = samples.batch(chosen)
        _, right = losses(model, kinds, taken)
        for number, name in enumerate(KINDS):
            of_kind = kinds[:, 1:] == number
            tokens[name].append(right[of_kind].float())
            if name in FULL:
                whole = (right | ~of_kind).all(1)
                for size, ok in zip(samples.sizes[rows].tolist(), whole.tolist(), strict=True):
                    full[name, size].append(ok)
    model.train()
    shares = [f"{name} {100 * torch.cat(found).mean():.1f}" for name, found in tokens.items()]
    wholes = [f"{name} {size}: {100 * sum(ok) / len(ok):.0f}" for (name, size), ok in sorted(full.items())]
    return f"tokens: {', '.join(shares)}\n  in full: {', '.join(wholes)}"


def main() -> None:
    args = arguments()
    device = torch.device(args.device)
    torch.manual_seed(0)
    profile = load_profile(ROOT / "vilasr/profiles/nano.yaml")
    drawn, held_out = (all_drawn(args, s, n, profile) for s, n in ((Split.TRAIN, args.count), (Split.TEST, args.tests)))
    assert all(one.turns[-1][0] == DESCRIBE for one in held_out)
    model, tokenizer = make_model(args, drawn, profile, device)
    samples, tests = Samples(drawn, tokenizer, device), Samples(held_out, tokenizer, device)
    optimizer = make_optimizer(args, model)
    rates = [group["lr"] for group in optimizer.param_groups]
    began = tested = time.monotonic()
    steps, waiting = 0, list[torch.Tensor]()
    while (passed := time.monotonic() - began) < args.seconds:
        if not waiting:
            waiting = [c for c in torch.randperm(len(drawn), device=device).split(args.batch) if len(c) == args.batch]
        share = min(1, (steps + 1) / 100) * max(0.05, 0.5 + 0.5 * math.cos(math.pi * passed / args.seconds))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        kinds, _, taken = samples.batch(waiting.pop())
        losses(model, kinds, taken)[0].mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps += 1
        if time.monotonic() - tested > args.every:
            print(f"{passed:.0f} s, {steps * args.batch} pictures: {test(model, tests)}", flush=True)
            tested = time.monotonic()
    print(f"end, {steps * args.batch} pictures: {test(model, tests)}", flush=True)


if __name__ == "__main__":
    main()
