"""Composes verl's whole configuration from a recipe, as Hydra would, with paths that mean the same from anywhere."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vilasr.tasks import DataError
from vilasr.training.grpo.keys import UNREAD, leaves, near, unknown_keys
from vilasr.training.grpo.questions import files_of
from vilasr.training.recipe import ROOT, absolute

RECIPES = ROOT / "train" / "rl"
CPU_RECIPE = RECIPES / "cpu.yaml"
MODEL = "actor_rollout_ref.model.path"
OUTPUT = "trainer.default_local_dir"
_BASE = "ppo_trainer"  # verl's own
_PATHS = (
    OUTPUT,  # first: others follow from it
    "data.train_files",
    "data.val_files",
    "data.data_root",
    "trainer.resume_from_path",
    "trainer.rollout_data_dir",
    "trainer.validation_data_dir",
    "actor_rollout_ref.model.lora_adapter_path",
    "actor_rollout_ref.rollout.agent.agent_loop_config_path",
    "vilasr.profile",
    "vilasr.rollouts",
    MODEL,
)


def compose(recipe: Path, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of a recipe with overrides in Hydra's syntax, resolved; nothing in it is left to be found.

    Relative paths in the recipe start at the repository, those in overrides at the working directory. Raises DataError
    naming the recipe, the key and what to do.
    """
    given = overridden_keys(overrides)
    _check_keys(recipe)
    own = own_keys(recipe)
    for key, read in UNREAD.items():
        if key in given or key in own:
            raise DataError(f"{recipe.name}: {key}: verl 0.9.1 does not read it; the key that counts is {read}")
    config = _compose(recipe, overrides)
    if value_of(config, "trainer.device") == "cpu":
        config = _compose(recipe, overrides, (CPU_RECIPE,))
    try:
        for key in _PATHS:
            _make_absolute(config, key, Path.cwd() if key in given else ROOT)
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as exc:
        raise DataError(f"{recipe.name}: key {exc.full_key}: {_first_line(exc)}") from exc
    return cast(DictConfig, OmegaConf.create(cast(dict[str, Any], resolved)))


def overridden_keys(overrides: Sequence[str]) -> frozenset[str]:
    """The keys a user has set. Raises DataError for what is no override."""
    keys = set()
    for override in overrides:
        try:
            (parsed,) = OverridesParser.create().parse_overrides([override])
        except HydraException as exc:
            raise DataError(
                f"{override!r}: overrides are written key=value, +key=value for a new key, ~key to remove one; a value "
                f"with special signs in quotes, as in 'data.train_files=\"a (b).jsonl\"' ({_first_line(exc)})"
            ) from exc
        if parsed.key_or_group.startswith("hydra."):
            raise DataError(f"{override!r}: Hydra's own keys are set by the launcher")
        if parsed.is_sweep_override():
            raise DataError(f"{override!r}: one run has one value; a list is written [a,b]")
        keys.add(parsed.key_or_group)
    return frozenset(keys)


def own_keys(recipe: Path) -> frozenset[str]:
    """Those the recipe's file sets itself, not the ones it starts from."""
    return frozenset(key for key, _ in leaves(_plain(_read(recipe))))


def value_of(config: DictConfig, key: str, default: Any = None) -> Any:
    """What a dotted key holds, or the default where it is absent or null."""
    found = OmegaConf.select(config, key)
    return default if found is None else found


def whole_number(config: DictConfig, key: str, least: int = 1) -> int:
    """Raises DataError naming the key."""
    value = value_of(config, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DataError(f"{key}: must be a whole number from {least}, not {value!r}")
    return value


def files_in(config: DictConfig, key: str) -> list[Path]:
    """The files a key names: one, several or none."""
    return files_of(value_of(config, key))


def text_of(config: DictConfig) -> str:
    return OmegaConf.to_yaml(config)


def _compose(recipe: Path, overrides: Sequence[str], over: Sequence[Path] = ()) -> DictConfig:
    """Several files cannot be named by a path in Hydra, and a recipe may be called like the one it starts from: so each
    goes into Hydra's store by a name of its own."""
    names = []
    for number, path in enumerate((recipe, *over)):
        names.append(f"vilasr_recipe_{number}")
        ConfigStore.instance().store(names[-1], _read(path))
    ConfigStore.instance().store("vilasr_run", {"defaults": [*names, "_self_"]})
    places = ",".join(f"'file://{folder}'" for folder in (RECIPES.parent, recipe.resolve().parent, verl_folder()))
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(RECIPES), version_base=None):
            return hydra_compose("vilasr_run", [f"hydra.searchpath=[{places}]", *overrides])
    except HydraException as exc:
        raise DataError(f"{recipe.name}: {_explained(exc, recipe)}") from exc
    except OmegaConfBaseException as exc:
        raise DataError(f"{recipe.name}: key {exc.full_key}: {_first_line(exc)}") from exc


def _read(path: Path) -> DictConfig:
    try:
        config = OmegaConf.load(path)
    except Exception as exc:  # YAML's, OmegaConf's and the system's
        raise DataError(f"{path}: cannot be read ({exc})") from exc
    if not isinstance(config, DictConfig):
        raise DataError(f"{path}: must hold a mapping of keys")
    return config


def verl_folder() -> Path:
    """Where verl keeps its YAMLs. Importing verl would take ten seconds."""
    found = importlib.util.find_spec("verl")
    folder = Path(found.origin).parent / "trainer" / "config" if found and found.origin else None
    if folder is None or not (folder / f"{_BASE}.yaml").is_file():
        raise DataError(f"verl is not installed here, or has no {_BASE}.yaml; run bash setup.sh")
    return folder


def _explained(exc: HydraException, recipe: Path) -> str:
    text = str(exc).split("Config search path")[0]
    wrong = re.search(r"Could not (?:override|delete from config|append to config)[^']*'([^']+)'", text)
    if wrong is None:
        return " ".join(text.split())
    key = wrong[1]
    if "append" in wrong[0]:
        return f"+{key}: the key is there already; write {key}=..."
    known = {name for config in (_base(), _read(recipe)) for name, _ in leaves(_plain(config))}
    return f"there is no key {key!r}{near(key, known)}; one that verl's YAML lacks is added by +{key}=..."


def _check_keys(recipe: Path) -> None:
    base = _plain(_base())
    for key in unknown_keys(_plain(_read(recipe)), base, verl_folder().parents[1]):
        raise DataError(f"{recipe}: verl has no key {key!r}{near(key, dict(leaves(base)))}")


@functools.cache
def _base() -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(verl_folder()), version_base=None):
        return hydra_compose(_BASE)


def _plain(config: DictConfig) -> dict[Any, Any]:
    return cast(dict[Any, Any], OmegaConf.to_container(config))


def _make_absolute(config: DictConfig, key: str, start: Path) -> None:
    value = value_of(config, key)
    if OmegaConf.is_list(value):
        made: Any = [absolute(str(Path(path).expanduser()), start) for path in value]
    elif isinstance(value, str) and value:
        made = absolute(str(Path(value).expanduser()), start, key == MODEL)
    else:
        return
    OmegaConf.update(config, key, made)


def _first_line(exc: Exception) -> str:
    return str(exc).strip().split("\n")[0]
