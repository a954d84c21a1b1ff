"""Trying the result: it loads in transformers without a missing or unknown name, and computes what the checkpoint does.

The folder is loaded, one batch of an image and a question gives logits; then every weight of the same model is
overwritten by the checkpoint's, by its name in memory, and the batch must give the same logits. So what is compared
went through the folder's files and names on one side, and around them on the other. Needs memory for the model once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vilasr.merging.sources import Source, whole
from vilasr.tasks import DataError

log = logging.getLogger(__name__)


def verify(folder: Path, weights: Mapping[str, Source]) -> float:
    """`weights` by their names in memory. Returns the largest difference of the logits, which is 0. Raises DataError
    where the folder does not load whole or a logit differs."""
    model = load(folder)
    inputs = batch(folder, model.config)
    first = _logits(model, inputs)
    state = model.state_dict()
    for tensor in state.values():
        tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
    for name, source in weights.items():
        state[name].copy_(whole(source).to(state[name].dtype))
    second = _logits(model, inputs)
    difference = (first - second).abs().max().item()
    if not difference == 0:  # NaN too
        raise DataError(f"{folder}: loads, but its logits differ from the checkpoint's by up to {difference:g}")
    return difference


def load(folder: Path) -> Any:
    """The model, in its own dtype, on the CPU. Raises DataError."""
    import transformers

    try:
        config: Any = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        cls = getattr(transformers, config.architectures[0])
        model, report = cls.from_pretrained(folder, dtype="auto", output_loading_info=True, local_files_only=True)
    except Exception as exc:
        raise DataError(f"{folder}: transformers cannot load it ({str(exc).strip().splitlines()[0]})") from exc
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if report.get(what):
            some = ", ".join(map(str, sorted(report[what], key=str)[:3]))
            raise DataError(f"{folder}: transformers reports {what.replace('_', ' ')}: {some}")
    return model.eval()


def batch(folder: Path, config: Any) -> dict[str, torch.Tensor]:
    """An image and a question where there is a processor, else some tokens."""
    import transformers
    from PIL import Image

    image = Image.linear_gradient("L").resize((112, 112)).convert("RGB")
    content = [{"type": "image", "image": image}, {"type": "text", "text": "What is on the left?"}]
    try:
        processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
        )
        return dict(inputs)
    except Exception as exc:  # a model of text alone has none
        log.warning("%s: no image can be given to it (%s): compared with text alone", folder, type(exc).__name__)
        size = config.get_text_config().vocab_size
        return {"input_ids": torch.arange(16).remainder(size)[None]}


def _logits(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return model(**inputs).logits.float().clone()
