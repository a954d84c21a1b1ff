"""What a model class wants: its parameters, their shapes, and the names they have in a Hugging Face folder.

A training saves names as they are in memory, which depend on the version of transformers; a folder has the names that
save_pretrained writes. Which become which is asked of transformers itself, the same function that save_pretrained uses,
with tensors that have no memory.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from vilasr.tasks import DataError

log = logging.getLogger(__name__)

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ModelNames:
    """`shapes` are those of every parameter and saved buffer by its name in memory, each once; `tied` names the other
    names of such a parameter; `on_disk` is the name of each in a folder."""

    architecture: str
    shapes: dict[str, tuple[int, ...]]
    tied: dict[str, str]
    on_disk: dict[str, str]

    @property
    def parameters(self) -> Collection[str]:
        return self.shapes.keys()


def of_config(folder: Path) -> ModelNames:
    """Raises DataError where the folder has no configuration of a model that transformers knows."""
    import transformers

    path = folder / "config.json"
    if not path.is_file():
        raise DataError(f"{path}: is missing; the trainer writes it, or copy that of the base model there")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, attn_implementation="eager", local_files_only=True)
    except Exception as exc:  # a damaged file gives errors of all kinds
        raise DataError(
            f"{path}: is no configuration that transformers can read ({_line(exc)}); copy that of the base model there"
        ) from exc
    names = config.architectures or []
    name = names[0] if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str) else ""
    cls = getattr(transformers, name, None) if name else None
    if not isinstance(cls, type) or not issubclass(cls, transformers.PreTrainedModel):  # it is called below
        raise DataError(
            f"{path}: field 'architectures' is {names}, and must name one model class of transformers; "
            "copy the configuration of the base model there"
        )
    try:
        with torch.device("meta"):
            model = cls(config)
    except Exception as exc:
        raise DataError(f"{path}: no {names[0]} can be made of it ({_line(exc)})") from exc
    return of_model(model, names[0])


def of_model(model: torch.nn.Module, architecture: str) -> ModelNames:
    """Of a model on the meta device. Raises DataError where transformers does more than rename its weights."""
    from transformers.core_model_loading import revert_weight_conversion

    model.tie_weights()  # type: ignore[operator]  # of a PreTrainedModel
    state = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    tied: dict[str, str] = {}
    for name, tensor in state.items():
        if id(tensor) in first:
            tied[name] = first[id(tensor)]
        first.setdefault(id(tensor), name)
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    kept = {name: tensor for name, tensor in state.items() if name not in tied and name not in ignored}
    marked = {name: torch.empty(tensor.shape, device="meta") for name, tensor in kept.items()}
    names = {id(tensor): name for name, tensor in marked.items()}
    written = revert_weight_conversion(model, dict(marked))  # type: ignore[arg-type]
    on_disk = {names[id(tensor)]: name for name, tensor in written.items() if id(tensor) in names}
    if on_disk.keys() != kept.keys() or len(set(on_disk.values())) != len(kept) or len(written) != len(kept):
        changed = sorted(kept.keys() - on_disk.keys())
        raise DataError(
            f"{architecture}: transformers does more than rename its weights when it saves them (such as "
            f"{(changed or sorted(kept))[0]!r}); merge it with verl's own merger"
        )
    return ModelNames(architecture, {name: tuple(t.shape) for name, t in kept.items()}, tied, on_disk)


def in_memory(found: Collection[str], names: ModelNames) -> dict[str, str]:
    """The name in memory for each name found in a checkpoint. Older versions of transformers had names in memory like
    those in folders; where one is unknown it is taken as such. Unknown ones stay as they are."""
    known = names.shapes.keys() | names.tied.keys()
    by_disk = {disk: name for name, disk in names.on_disk.items()}

    def find(name: str) -> str:
        if name in known:
            return name
        for candidate in (by_disk.get(name), f"model.{name}"):
            if candidate in known:
                assert candidate is not None
                return candidate
        return name

    return {name: find(name) for name in found}


def check(found: Mapping[str, tuple[int, ...]], names: ModelNames, where: Path) -> None:
    """That what was found (names in memory, with shapes) is what the model class wants, each once. Tied weights may be
    there under several names. Raises DataError."""
    missing = [name for name in names.shapes if name not in found]
    for name in [*missing]:
        if any(alias in found for alias, main in names.tied.items() if main == name):
            missing.remove(name)
    if missing:
        raise DataError(
            f"{where}: lacks {_some(missing)} of {names.architecture}; the checkpoint and its huggingface/config.json "
            "are of different models"
        )
    extra = [name for name in found if name not in names.shapes and name not in names.tied]
    if extra:
        raise DataError(
            f"{where}: holds {_some(extra)}, unknown to {names.architecture}; the checkpoint and its "
            "huggingface/config.json are of different models"
        )
    for name, shape in found.items():
        wanted = names.shapes[names.tied.get(name, name)]
        if shape != wanted:
            raise DataError(
                f"{where}: tensor {name!r}: is of shape {list(shape)}, and {names.architecture} wants {list(wanted)}; "
                "the checkpoint and its huggingface/config.json are of different models"
            )


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _line(exc: BaseException) -> str:
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:200]
