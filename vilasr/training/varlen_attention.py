"""An attention implementation for training without flash-attn: many sequences of different lengths in one call.

Qwen2.5-VL's vision tower attends within windows. With an implementation that is not a flash one, transformers calls it
window by window in a Python loop, some thousand times a layer. This one has flash-attn's interface and PyTorch's own
kernels: `torch.nn.attention.varlen` for half precision on CUDA, else `scaled_dot_product_attention`, once for all
sequences of one length.

Registered under `NAME`: `attn_implementation` of transformers and of verl's recipes, `flash_attn` of LLaMA-Factory's.
transformers takes an implementation for a flash one, and hands it the boundaries of the sequences, by the word `flash`
in its name. Padding, packing and precision are handled by transformers' own code around flash-attn.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakIdKeyDictionary

NAME = "torch_flash_varlen"
_T = TypeVar("_T")
_EVERYWHERE = (-1, -1)  # flash-attn's window that excludes nothing
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class _Group:
    """The sequences of one length: their places in the packed tensor, row by row of (count, length)."""

    length: int
    rows: torch.Tensor  # (count * length,)


@dataclass(frozen=True)
class _Segments:
    """Packed sequences, as their boundaries say. `back` undoes the order of `groups`."""

    groups: tuple[_Group, ...]
    back: torch.Tensor | None  # None: one group, in order


def varlen_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int | torch.Tensor | None = None,
    max_seqlen_k: int | torch.Tensor | None = None,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = _EVERYWHERE,
) -> torch.Tensor:
    """Attention within each of several packed sequences; flash-attn's `flash_attn_varlen_func`.

    `q` is (tokens, heads, size), `k` and `v` may have fewer heads that divide those of `q`. Sequence i is the rows
    `cu_seqlens[i]` to `cu_seqlens[i + 1]`. Returns a tensor like `q`. Raises NotImplementedError for what no
    Qwen2.5-VL asks for: dropout, a sliding window, queries and keys of different lengths.
    """
    _refuse(dropout_p, window_size)
    if cu_seqlens_q is not cu_seqlens_k and not torch.equal(cu_seqlens_q, cu_seqlens_k):
        raise NotImplementedError(f"{NAME}: queries and keys of different lengths")
    if _fits_kernel(q):
        from torch.nn.attention.varlen import varlen_attn

        shared = q.shape[1] // k.shape[1]
        if shared > 1:
            k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
        ends = cu_seqlens_q.to(torch.int32)
        window = (-1, 0) if causal else _EVERYWHERE
        longest = _longest(cu_seqlens_q)
        found = varlen_attn(q, k, v, ends, ends, longest, longest, scale=softmax_scale, window_size=window)
        assert isinstance(found, torch.Tensor)  # a pair only where more is asked for
        return found
    segments = _segments(cu_seqlens_q)
    parts = [_attend(q, k, v, group, softmax_scale, causal) for group in segments.groups]
    return torch.cat(parts)[segments.back] if segments.back is not None else parts[0]


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = _EVERYWHERE,
) -> torch.Tensor:
    """Attention of whole batches without padding; flash-attn's `flash_attn_func`. Tensors are (batch, tokens, heads,
    size). With fewer queries than keys the queries are the last tokens, as when decoding goes on from a cache."""
    _refuse(dropout_p, window_size)
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    asked, there = q.shape[2], k.shape[2]
    mask = None
    if causal and asked != there:  # PyTorch would take the queries for the first tokens
        mask = torch.ones(asked, there, dtype=torch.bool, device=q.device).tril(there - asked)
    causal = causal and mask is None
    grouped = q.shape[1] != k.shape[1]
    found = scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, scale=softmax_scale, enable_gqa=grouped
    )
    return found.transpose(1, 2)


def _refuse(dropout: float, window: Sequence[int]) -> None:
    if dropout or tuple(window) != _EVERYWHERE:
        raise NotImplementedError(f"{NAME}: neither dropout nor a sliding window; use attn_implementation sdpa")


def _fits_kernel(q: torch.Tensor) -> bool:
    return q.is_cuda and q.dtype in _HALF and q.shape[-1] % 8 == 0 and q.shape[-1] <= 256


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, group: _Group, scale: float | None, causal: bool
) -> torch.Tensor:
    """The outputs of a group's sequences, one after another: (count * length, heads, size)."""
    q, k, v = (x[group.rows].unflatten(0, (-1, group.length)) for x in (q, k, v))
    return attention(q, k, v, softmax_scale=scale, causal=causal).flatten(0, 1)


def _once(read: Callable[[torch.Tensor], _T]) -> Callable[[torch.Tensor], _T]:
    """`read` for each tensor once: all layers of the vision tower share their boundaries, and a GPU is waited for."""
    known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    @functools.wraps(read)
    def remembered(ends: torch.Tensor) -> _T:
        found = known.get(ends)
        if found is None:
            found = known[ends] = read(ends)
        return found

    return remembered


@_once
def _longest(ends: torch.Tensor) -> int:
    return int(ends.diff().max())


@_once
def _segments(ends: torch.Tensor) -> _Segments:
    cuts = ends.tolist()
    starts: dict[int, list[int]] = {}
    for start, end in itertools.pairwise(cuts):
        if end > start:
            starts.setdefault(end - start, []).append(start)
    groups = []
    for length, firsts in starts.items():
        rows = torch.tensor(firsts).unsqueeze(1) + torch.arange(length)
        groups.append(_Group(length, rows.flatten().to(ends.device)))
    back = torch.cat([group.rows for group in groups]).argsort() if len(groups) > 1 else None
    return _Segments(tuple(groups), back)


def register() -> None:
    """Makes `NAME` known to transformers. Twice is as good as once."""
    from transformers import modeling_flash_attention_utils as flash
    from transformers.integrations.flash_attention import flash_attention_forward
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if NAME in ALL_ATTENTION_FUNCTIONS.valid_keys():
        return
    _provide(flash)
    ALL_ATTENTION_FUNCTIONS.register(NAME, flash_attention_forward)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, flash_attention_mask)


def _provide(flash: Any) -> None:
    """transformers looks up a flash implementation's functions by its name, and would look for one it does not know on
    the hub; there is no other place to hand it ours."""
    lookup: Callable[..., Any] = flash._lazy_imports
    if next(iter(inspect.signature(lookup).parameters), None) != "implementation":
        raise RuntimeError(f"transformers is not the version {NAME} was made for; use attn_implementation sdpa")

    @functools.wraps(lookup)
    def ours_too(implementation: str | None, *args: Any, **kwargs: Any) -> Any:
        if implementation == NAME:
            return attention, varlen_attention, None, flash._pad_input, flash._unpad_input
        return lookup(implementation, *args, **kwargs)

    flash._lazy_imports = ours_too
