#!/usr/bin/env python3
"""Merges the sharded checkpoint of a GRPO training (verl or EasyR1, FSDP) into a Hugging Face model folder.

    python3 utils/model_merger.py --local_dir checkpoints/rl/.../global_step_100/actor
    python3 utils/model_merger.py --local_dir .../global_step_100 --target_dir models/vilasr --verify-load
    python3 utils/model_merger.py --local_dir .../actor --push-to-hub OWNER/NAME

The model goes into actor/huggingface, where the trainer put configuration, tokenizer, processor and profile, or with
all of these into --target_dir. No more than a block of one tensor is held in memory. A run that was stopped goes on
when it is started again; until all is whole the folder does not look like a model. Weights are checked (shards that fit
together, every parameter of the model once, no NaN or Inf, checksums), and merge_manifest.json keeps their SHA-256.
Exit status: 0 merged; 1 the checkpoint cannot be merged or the folder not be written; 2 bad arguments; 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vilasr.interrupts  # noqa: F401  (first: Ctrl-C may come while the others are imported)

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from vilasr.archives.files import OutputError
from vilasr.merging import hub
from vilasr.merging.merging import Lora, Merged, Options, merge
from vilasr.merging.planning import Dtype, parse_size
from vilasr.tasks import DataError

log = logging.getLogger("model_merger")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--local_dir", "--local-dir", type=Path, required=True, help="global_step_N or its actor folder")
    p.add_argument(
        "--target_dir", "--target-dir", type=Path, help="where to (default: huggingface in the actor folder)"
    )
    p.add_argument("--dtype", type=Dtype, choices=list(Dtype), default=Dtype.BFLOAT16, help="default: %(default)s")
    p.add_argument("--max-shard-size", type=_size, default="5GB", help="of a file; 5GB, 500MB, ... (default: 5GB)")
    p.add_argument("--lora", type=Lora, choices=list(Lora), default=Lora.MERGE, help="adapters (default: %(default)s)")
    p.add_argument("--lora-alpha", type=float, help="of the training, where the checkpoint does not say it")
    p.add_argument("--profile", type=Path, help="vilasr_profile.yaml to put beside the weights")
    p.add_argument("--verify-load", action="store_true", help="load it in transformers and compare the logits")
    push = p.add_argument_group("hub", "the token is that of `hf auth login` or of the environment's HF_TOKEN")
    push.add_argument("--push-to-hub", metavar="REPO", help="upload it, private unless --public")
    push.add_argument("--public", action="store_true")
    push.add_argument("--base", help="for the model card: base model (default: that of the run's config.yaml)")
    push.add_argument("--data", action="append", default=[], help="for the model card: training data; may be repeated")
    push.add_argument("--scores", type=Path, help="for the model card: what eval/evaluate.py --json wrote")
    return p


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def push(args: argparse.Namespace, merged: Merged) -> None:
    """Write the card and upload the folder. Raises DataError and OSError."""
    run = next((p.parent for p in args.local_dir.absolute().parents if p.name.startswith("global_step_")), None)
    if args.local_dir.name.startswith("global_step_"):
        run = args.local_dir.absolute().parent
    base, data, recipe = hub.read_recipe(run) if run else (None, (), ())
    scores = hub.read_scores(args.scores) if args.scores else {}
    card = hub.Card(
        name=args.push_to_hub.rpartition("/")[2],
        base=args.base or base,
        data=tuple(args.data) or data,
        recipe=recipe,
        scores=scores,
        about=merged.manifest.about,
    )
    hub.write_card(merged.folder, card)
    log.info("uploaded: %s", hub.push(merged.folder, args.push_to_hub, args.public))


def main(argv: list[str] | None = None) -> int:
    cli = parser()
    args = cli.parse_args(argv)
    if args.public and not args.push_to_hub:
        cli.error("--public needs --push-to-hub")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = Options(
        args.local_dir, args.target_dir, args.dtype, args.max_shard_size, args.lora, args.lora_alpha, args.profile
    )
    try:
        merged = merge(options)
        log.info("%s: complete, %.2f GB", merged.folder, merged.bytes / 1e9)
        if args.verify_load:
            from vilasr.merging.loading import verify

            if not merged.weights:
                raise DataError(f"{merged.folder}: adapters alone cannot be loaded without their base model")
            verify(merged.folder, merged.weights)
            log.info("%s: loads in transformers, its logits equal the checkpoint's", merged.folder)
        if args.push_to_hub:
            push(args, merged)
    except (DataError, OutputError, OSError) as exc:
        log.error("model_merger: %s", exc)
        return 1
    except KeyboardInterrupt:
        log.error("model_merger: interrupted; the same command goes on with what is whole")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
