"""Run-time patches of verl that GRPO with images needs; nothing installed is edited.

`VERL_USE_EXTERNAL_MODULES=vilasr.training.compat` loads this in every process, while verl itself is still being
imported. So nothing of verl is imported here: each patch waits for its module and is applied the moment that module
has been executed, before another can take the old name from it.

The patches were verified with verl 0.9.1. On another version each is applied only where the attribute it replaces is
still there with the same parameters, and a warning says that nobody has looked. tests/training/grpo/test_compat.py
holds two tests for each: that the library still fails without it, and that it works with it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import inspect
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from vilasr.training.when_imported import when_imported

log = logging.getLogger(__name__)

VERIFIED = "0.9.1"  # of verl
_ROWS = 4  # of a sequence's position ids: text, time, height, width


@dataclass(frozen=True, slots=True)
class Patch:
    """Replaces `attribute` ("name" or "Class.name") of `module` by `make(original)`.

    `parameters` are those of the original; with others it is not the code that was looked at.
    """

    module: str
    attribute: str
    parameters: tuple[str, ...]
    make: Callable[[Any], Any]
    cpu_only: bool = False

    def apply(self, module: ModuleType) -> bool:
        """Once; a second call changes nothing. False where the library is no longer what the patch was made for."""
        owner_name, _, name = self.attribute.rpartition(".")
        owner = getattr(module, owner_name, None) if owner_name else module
        original = getattr(owner, name, None)
        if original_of(original) is not None:
            return True
        version = importlib.metadata.version("verl")
        if not callable(original) or tuple(inspect.signature(original).parameters) != self.parameters:
            log.warning(
                "verl %s: %s.%s is not what it was in %s, so the patch %s is left out. It mends: %s",
                version, self.module, self.attribute, VERIFIED, self.make.__name__, _first_line(self.make),
            )  # fmt: skip
            return False
        if version != VERIFIED:
            log.warning("verl %s: the patch %s is made for %s, unverified here", version, self.make.__name__, VERIFIED)
        replacement = self.make(original)
        replacement.vilasr_original = original
        setattr(owner, name, replacement)
        if owner is module:
            _replace_taken(name, original, replacement)
        return True


def original_of(patched: Any) -> Any:
    """What a patch replaced; None for what no patch made."""
    return getattr(patched, "__dict__", {}).get("vilasr_original")


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _replace_taken(name: str, original: Any, replacement: Any) -> None:
    """In modules of verl that had taken the name before the patch came."""
    for key, module in list(sys.modules.items()):
        if key.startswith("verl.") and module is not None and vars(module).get(name) is original:
            setattr(module, name, replacement)


PATCHES: list[Patch] = []


def _patch(module: str, attribute: str, parameters: tuple[str, ...], cpu_only: bool = False):
    def register(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        PATCHES.append(Patch(module, attribute, parameters, make, cpu_only))
        return make

    return register


@_patch("verl.utils.tensordict_utils", "maybe_fix_3d_position_ids", ("data",))
def equal_length_position_ids(original: Any) -> Any:
    """A worker whose sequences of a step all have one length fails: `split_with_sizes expects split_sizes to sum ...`.

    Or, of several, `Expected cond to be True`; or it trains on mixed up positions, where the length happens to be four
    times their number. Position ids of a sequence are (4, L). Of different L a nested tensor has L as its ragged
    dimension; of one L torch takes the first, the 4, and verl, which restores a ragged index that is lost on the way,
    sets L all the same. Here the rows are put together anew with L ragged; the rest is verl's. A single sequence is
    enough, so small runs and many workers meet it.
    """

    @functools.wraps(original)
    def fixed(data: Any) -> None:
        ids = data["position_ids"] if "position_ids" in data.keys() else None  # noqa: SIM118 (a TensorDict)
        if ids is not None and ids.is_nested and ids.dim() == 3:
            from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

            ends = ids.offsets().tolist()
            cuts = list(itertools.pairwise(ends))
            # Where the 4 is ragged the offsets count rows of the values. (verl fixes the same data several times.)
            if ends[-1] == ids.values().shape[0] and all(end - start == _ROWS for start, end in cuts):
                rows = [ids.values()[start:end] for start, end in cuts]
                data["position_ids"] = nested_tensor_from_tensor_list(rows, ragged_idx=2)
        original(data)

    return fixed


@_patch(
    "verl.experimental.agent_loop.agent_loop",
    "AgentLoopWorker._compute_multi_modal_inputs",
    ("self", "output", "input_ids"),
)
def images_without_text(original: Any) -> Any:
    """An episode that spells `<|image_pad|>` in ordinary tokens more often than it has images is lost: `IndexError`.

    verl decodes the finished episode and runs the processor on that text to get pixel values. Special tokens are
    left out of the text, spelled ones are not: the processor takes each for a placeholder and asks for the size of
    an image that does not exist. The rollout fails after it was paid for, and with it, in verl's asynchronous
    trainers, its whole group. Nothing of the text reaches the result, so where the tokenizer leaves its placeholder
    out anyway (Qwen-VL) verl gets no text at all, and need not tokenize the episode again either.
    """

    @functools.wraps(original)
    def fixed(self: Any, output: Any, input_ids: Any) -> dict[str, Any]:
        from verl.utils.tokenizer import get_processor_token_id

        placeholder = get_processor_token_id(self.processor, "image") if self.processor is not None else None
        if placeholder is not None and not (output.multi_modal_data or {}).get("audios"):
            text = self.tokenizer.decode([placeholder], skip_special_tokens=True)
            if not text:
                input_ids = input_ids.new_full((2,), placeholder)  # decoded to ""; verl squeezes, so one is too few
        return original(self, output, input_ids)

    return fixed


@_patch(
    "verl.models.transformers.qwen2_vl",
    "_get_input_embeds",
    (
        "model",
        "input_ids",
        "attention_mask",
        "pixel_values",
        "pixel_values_videos",
        "image_grid_thw",
        "video_grid_thw",
    ),
)
def batch_without_image(original: Any) -> Any:
    """A micro-batch without an image fails: `'BaseModelOutputWithPooling' object has no attribute 'mean'`.

    verl fills a batch that cannot be divided (after a failed rollout) with sequences that have no image. It runs
    the vision tower on a blank one then, so that every rank takes part, but forgets that transformers 5 wraps the
    result. Only that branch is replaced.
    """

    @functools.wraps(original)
    def fixed(
        model: Any,
        input_ids: Any,
        attention_mask: Any = None,
        pixel_values: Any = None,
        pixel_values_videos: Any = None,
        image_grid_thw: Any = None,
        video_grid_thw: Any = None,
    ) -> tuple[Any, Any]:
        if pixel_values is not None or pixel_values_videos is not None:
            return original(
                model, input_ids, attention_mask, pixel_values, pixel_values_videos, image_grid_thw, video_grid_thw
            )
        from verl.utils.transformers_compat import unpack_visual_output

        embeds = model.get_input_embeddings()(input_ids)
        vision = model.config.vision_config
        side = 2 * vision.spatial_merge_size
        size = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        blank = embeds.new_zeros((side * side, size), dtype=model.visual.dtype)
        grid = input_ids.new_tensor([[1, side, side]])
        features, _ = unpack_visual_output(model.visual(blank, grid_thw=grid))
        mask = attention_mask if attention_mask is None else attention_mask.to(embeds.device)
        return embeds + 0.0 * features.mean().to(embeds.dtype), mask

    return fixed


@_patch(
    "verl.utils.fsdp_utils", "_select_fsdp2_wrap_targets", ("model", "fsdp_transformer_layer_cls_to_wrap")
)  # fmt: skip
def output_layer_in_the_root(original: Any) -> Any:
    """The 7B model fails with fused kernels under FSDP2: `aten.mm.default got mixed torch.Tensor and DTensor`.

    Its output layer is not its embedding, as it is in the 3B model. verl makes such a layer a group of its own, which
    is gathered when it is called, and the fused kernel of Qwen2.5-VL takes its weight without calling it. Here it stays
    in the root, which is gathered for the whole pass.
    """

    @functools.wraps(original)
    def fixed(model: Any, fsdp_transformer_layer_cls_to_wrap: Any) -> list[Any]:
        output = model.get_output_embeddings()
        return [module for module in original(model, fsdp_transformer_layer_cls_to_wrap) if module is not output]

    return fixed


@_patch("verl.utils.fsdp_utils", "get_init_weight_context_manager", ("use_meta_tensor", "mesh"))
def empty_on_other_ranks(original: Any) -> Any:
    """The 7B model fails to load on two GPUs: `Parameter.__new__() got an unexpected keyword '_is_hf_initialized'`.

    All ranks but the first make a model whose output layer is not its embedding without memory, by accelerate, which
    hands a parameter's attributes to its constructor; transformers 5 sets such attributes. Here they are copied.
    """

    @functools.wraps(original)
    def fixed(use_meta_tensor: bool = True, mesh: Any = None) -> Any:
        context = original(use_meta_tensor, mesh)
        return _empty_weights if getattr(context, "__name__", "") == "init_empty_weights" else context

    return fixed


@contextlib.contextmanager
def _empty_weights() -> Iterator[None]:
    """Every parameter that is registered goes to the meta device, with its attributes; buffers stay."""
    import torch

    register = torch.nn.Module.register_parameter

    def register_empty(self: Any, name: str, param: Any) -> None:
        register(self, name, param)
        if param is not None:
            empty = torch.nn.Parameter(param.detach().to("meta"), requires_grad=param.requires_grad)
            vars(empty).update(vars(param))
            self._parameters[name] = empty

    torch.nn.Module.register_parameter = register_empty
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register


@_patch(
    "verl.utils.distributed", "initialize_global_process_group_ray", ("timeout_second", "backend"), cpu_only=True
)  # fmt: skip
def gloo_alone(original: Any) -> Any:
    """On a CPU every training worker fails at its start: `Duplicate device type cpu in backend string`.

    verl asks torch for `cpu:gloo,DEVICE:BACKEND`, which names the CPU twice here. No setting reaches the string.
    """

    @functools.wraps(original)
    def fixed(timeout_second: float | None = None, backend: str | None = None) -> None:
        return original(timeout_second=timeout_second, backend=backend or "gloo")

    return fixed


@_patch("verl.utils.fsdp_utils", "CPUOffloadPolicy", ("pin_memory",), cpu_only=True)
def offload_without_pinning(original: Any) -> Any:
    """On a CPU the reference model (KL) fails to load: pinned memory needs an accelerator.

    verl writes `CPUOffloadPolicy(pin_memory=True)` for every model that only runs forward; there is no setting.
    """

    class Unpinned(original):
        def __init__(self, pin_memory: bool = True) -> None:
            super().__init__(pin_memory=False)

    return Unpinned


def install() -> None:
    """Apply what can be applied, let the rest wait. Twice is as good as once."""
    on_cpu = os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"
    for patch in PATCHES:
        if on_cpu or not patch.cpu_only:
            when_imported(patch.module, patch.apply)


def _register_attention(module: ModuleType) -> None:
    """For attn_implementation: torch_flash_varlen."""
    from vilasr.training import varlen_attention

    varlen_attention.register()


install()
when_imported("transformers.modeling_utils", _register_attention)
