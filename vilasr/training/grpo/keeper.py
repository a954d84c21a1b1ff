"""What verl calls after each checkpoint (trainer.checkpoint_callback_class): the profile goes in, old ones go."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

from vilasr.prompts import ProfileError
from vilasr.tasks import DataError
from vilasr.training.grpo.checkpoints import CONTENTS, clean_configuration, keep_newest, put_profile, read_checkpoint
from vilasr.training.grpo.config import value_of
from vilasr.training.grpo.settings import profile_of

log = logging.getLogger(__name__)


class Keeper(CheckpointCallback):
    """verl hands it the whole configuration. What fails here ends no training: it is logged, and nothing is removed."""

    def on_save(
        self, trainer: Any, global_step: int, checkpoint_dir: str, async_save: bool = False, **kwargs: Any
    ) -> None:
        config: Any = self.config
        folder = Path(checkpoint_dir)
        contents = value_of(config, "actor_rollout_ref.actor.checkpoint.save_contents", CONTENTS)
        try:
            put_profile(folder, profile_of(config).source)
            clean_configuration(folder)
            read_checkpoint(folder, contents)
            removed = keep_newest(folder.parent, folder, value_of(config, "vilasr.keep_checkpoints", 0))
        except (DataError, ProfileError, OSError) as exc:
            log.error("%s: older checkpoints stay: %s", checkpoint_dir, exc)
            return
        for path in removed:
            log.info("%s: removed", path)
