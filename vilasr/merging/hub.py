"""Model card and upload to the Hugging Face hub."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from vilasr.data_check.writing import write
from vilasr.merging import PARTIAL
from vilasr.tasks import DataError

log = logging.getLogger(__name__)

CARD = "README.md"
_PAPER = "https://arxiv.org/abs/2506.09965"


@dataclass(frozen=True, slots=True)
class Card:
    """What a model card says. Paths of a machine are shortened to their last part. `scores`: benchmark to percent."""

    name: str
    base: str | None
    data: tuple[str, ...]
    recipe: tuple[tuple[str, str], ...]
    scores: Mapping[str, float]
    about: Mapping[str, Any]

    def text(self) -> str:
        front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "image-text-to-text"}
        if self.base:
            front["base_model"] = self.base
        front["tags"] = ["vilasr", "spatial-reasoning", "grpo"]
        lines = ["---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "", f"# {self.name}", ""]
        lines += [
            f"A vision-language model that answers spatial questions by drawing, trained with the [ViLaSR]({_PAPER}) "
            "recipe. `vilasr_profile.yaml`, where it is in this repository, holds the wording it was trained with.",
            "",
            "| | |",
            "|---|---|",
            f"| base model | {self.base or 'not stated'} |",
            f"| training data | {', '.join(self.data) or 'not stated'} |",
            *(f"| {key} | {value} |" for key, value in self.recipe),
            *(f"| {key.replace('_', ' ')} | {value} |" for key, value in self.about.items()),
            "",
        ]
        if self.scores:
            lines += ["| benchmark | score (%) |", "|---|---|"]
            lines += [f"| {name} | {score:.1f} |" for name, score in self.scores.items()] + [""]
        return "\n".join(lines)


def read_recipe(run: Path) -> tuple[str | None, tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Base model, data and settings from the `config.yaml` of a GRPO run; nothing where there is none."""
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, ArithmeticError, RecursionError):
        return None, (), ()

    def value(path: str) -> Any:
        found: Any = config
        for key in path.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return found

    base = value("actor_rollout_ref.model.path")
    files = value("data.train_files")
    files = files if isinstance(files, list) else [files]
    settings = {
        "learning rate": value("actor_rollout_ref.actor.optim.lr"),
        "prompts a step": value("data.train_batch_size"),
        "rollouts a prompt": value("actor_rollout_ref.rollout.n"),
        "advantage": value("algorithm.adv_estimator"),
    }
    return (
        _public(base) if isinstance(base, str) else None,
        tuple(PurePath(file).name for file in files if isinstance(file, str)),
        tuple((key, str(found)) for key, found in settings.items() if isinstance(found, str | int | float)),
    )


def _public(name: str) -> str:
    """A name on the hub as it is; of a path, which is nobody's business, the last part."""
    return name if name.count("/") == 1 and not name.startswith(("/", ".", "~")) else PurePath(name).name


def read_scores(path: Path) -> dict[str, float]:
    """The `corrected` scores of `eval/evaluate.py --json`, in percent. Raises DataError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): 100 * float(summary["scores"]["corrected"][0]["mean"]) for name, summary in content.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise DataError(f"{path}: holds no scores of eval/evaluate.py --json ({exc!r}); write them anew") from exc


def write_card(folder: Path, card: Card) -> None:
    """Unless there is one that somebody wrote. Raises OSError."""
    path = folder / CARD
    if path.exists() and "trained with the [ViLaSR]" not in path.read_text(encoding="utf-8", errors="replace"):
        log.warning("%s: is there already and stays", path)
        return
    write(path, card.text())


def push(folder: Path, repo: str, public: bool) -> str:
    """Upload a merged folder; returns its address. The token is that of the hub's own login or of HF_TOKEN, read by
    the hub's library and by nobody here. Raises DataError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi()
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        if not public and not api.model_info(repo).private:
            raise DataError(f"{repo}: exists and is public; give --public if everybody may see the model")
        return str(api.upload_folder(repo_id=repo, folder_path=folder, ignore_patterns=[f"{PARTIAL}/**"]))
    except DataError:
        raise
    except HFValidationError as exc:
        raise DataError(f"--push-to-hub {repo}: is no name of a repository (NAME or OWNER/NAME)") from exc
    except Exception as exc:  # of the hub's library, its HTTP client and its storage
        raise DataError(f"--push-to-hub {repo}: {_reason(exc)}; the merged model stays in {folder}") from exc


def _reason(exc: Exception) -> str:
    status = getattr(getattr(exc, "response", None), "status_code", None)
    if status in (401, 403):
        return "the hub refused it: log in with `hf auth login` or set HF_TOKEN to a token that may write there"
    if status is not None:
        return f"the hub answered {status}; try again later"
    return f"the hub cannot be reached ({type(exc).__name__})"
