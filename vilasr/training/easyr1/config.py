"""Composes an EasyR1 run: a recipe, overrides, and EasyR1's defaults, with our section `vilasr` taken out."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (EasyR1's verl is not that of the environment that is checked)
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vilasr.tasks import DataError
from vilasr.training.easyr1.run_settings import RunSettings
from vilasr.training.recipe import ROOT, absolute

MODEL = "worker.actor.model.model_path"
OUTPUT = "trainer.save_checkpoint_path"
_PATHS = ("data.train_files", "data.val_files", OUTPUT, "trainer.load_checkpoint_path")
_PATHS += ("vilasr.profile", "vilasr.data_root", "vilasr.rollouts")


@dataclass(frozen=True)
class Composed:
    """`theirs` is EasyR1's whole configuration, `ours` the section it does not know."""

    theirs: DictConfig
    ours: RunSettings

    def value(self, key: str) -> Any:
        return OmegaConf.select(self.theirs, key)

    @property
    def output(self) -> Path:
        return Path(self.value(OUTPUT))

    @property
    def model(self) -> str:
        return str(self.value(MODEL))


def compose(recipe: Path, overrides: Sequence[str]) -> Composed:
    """Relative paths of the recipe start at the repository, those of overrides at the working directory. Raises
    DataError naming the file or the key."""
    from verl.trainer.config import PPOConfig

    try:
        found: Any = OmegaConf.load(recipe)
    except (OSError, YAMLError, UnicodeDecodeError) as exc:
        raise DataError(f"{recipe}: cannot be read ({exc})") from exc
    if not isinstance(found, DictConfig):
        raise DataError(f"{recipe}: must hold a mapping of keys")
    for text in overrides:
        if "=" not in text:
            raise DataError(f"{text!r}: overrides are written key=value")
        try:
            OmegaConf.from_dotlist([text])
        except (YAMLError, OmegaConfBaseException) as exc:
            raise DataError(f"{text!r}: cannot be read ({str(exc).splitlines()[0]})") from exc
    try:
        given = OmegaConf.from_dotlist(list(overrides))
        # A mapping of typed sections: EasyR1's own root would take no section of ours.
        section = OmegaConf.structured(RunSettings())
        OmegaConf.set_readonly(section, False)  # its class is frozen
        schema = OmegaConf.create({**OmegaConf.structured(PPOConfig()), "vilasr": section})
        for key in [key for config in (found, given) for key in config if key not in schema]:
            raise DataError(f"{recipe.name}: there is no section {key!r}; there are {', '.join(map(str, schema))}")
        for key in [key for config in (found, given) for key in config if not isinstance(config[key], DictConfig)]:
            raise DataError(f"{recipe.name}: {key}: must be a mapping of keys, as in {key}.name=value")
        merged: Any = OmegaConf.merge(schema, _with_paths(found, ROOT), _with_paths(given, Path.cwd()))
        resolved: Any = OmegaConf.to_container(merged, resolve=True)
        ours = RunSettings(**resolved.pop("vilasr"))
    except OmegaConfBaseException as exc:
        key = getattr(exc, "full_key", None) or "a key"
        raise DataError(f"{recipe.name}: {key}: {str(exc).splitlines()[0]}") from exc
    for key in (MODEL, OUTPUT, "data.train_files"):
        if not OmegaConf.select(merged, key):
            raise DataError(f"key {key!r} must be given in {recipe} or as {key}=...")
    return Composed(OmegaConf.create(_without_automatic(resolved)), ours)


def _with_paths(config: DictConfig, start: Path) -> DictConfig:
    for key in (*_PATHS, MODEL):
        value = OmegaConf.select(config, key) if not _interpolated(config, key) else None
        if isinstance(value, str) and value:
            OmegaConf.update(config, key, absolute(value, start, model=key == MODEL))
    return config


def _interpolated(config: DictConfig, key: str) -> bool:
    section, _, name = key.rpartition(".")
    node = OmegaConf.select(config, section) if section else config
    return node is not None and name in node and OmegaConf.is_interpolation(node, name)


def _without_automatic(config: dict[str, Any]) -> dict[str, Any]:
    """What EasyR1 finds out by itself it does not take from a file."""
    from verl.trainer.config import PPOConfig

    def strip(values: dict[str, Any], known: Any) -> dict[str, Any]:
        kept = {}
        for name, value in values.items():
            field = known.__dataclass_fields__.get(name) if hasattr(known, "__dataclass_fields__") else None
            if field is not None and not field.init:
                continue
            kept[name] = strip(value, getattr(known, name)) if field is not None and isinstance(value, dict) else value
        return kept

    return strip(config, PPOConfig())
