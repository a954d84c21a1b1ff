"""verl's agent loop around a drawing episode: one question in, tokens, masks, images and reward out.

Whatever happens inside an episode ends that episode with a StopReason and no reward; verl itself would fail all
episodes of a question for one exception.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput

from vilasr.engines.base import Session
from vilasr.engines.chat import ChatTokens
from vilasr.prompts import Profile
from vilasr.runner import run_episode
from vilasr.traces import StopReason
from vilasr.training.grpo.episodes import FAILURES, read_question, why_unread
from vilasr.training.grpo.item import Item
from vilasr.training.grpo.profile import chosen_profile
from vilasr.training.grpo.record import Record
from vilasr.training.grpo.rollout import Rollout, TokenLimits, VerlEngine

log = logging.getLogger(__name__)

_BLANK = Image.new("RGB", (56, 56), "gray")


@dataclass(frozen=True)
class Settings:
    """What of the configuration an episode needs."""

    profile: Profile
    limits: TokenLimits
    beta: float


def read_settings(config: Any) -> Settings:
    """From verl's whole configuration with our section `vilasr`. Raises ProfileError."""
    ours, rollout = config.vilasr, config.actor_rollout_ref.rollout
    profile = chosen_profile(ours.profile, config.actor_rollout_ref.model.path, ours.max_pixels)
    turn = ours.turn_tokens or profile.budget.turn_tokens
    return Settings(profile, TokenLimits(rollout.prompt_length, rollout.response_length, turn), ours.beta)


class DrawingAgentLoop(AgentLoopBase):
    """See the module. verl makes one for each episode and awaits `run`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = read_settings(self.config)

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        """`kwargs` are the fields of `vilasr.training.grpo.dataset.RLDataset` and verl's `session_id` (which of the
        question's episodes) and `global_steps`."""
        item, sample = Item.from_json(kwargs["item"]), int(kwargs["session_id"])
        engine = self.engine(item, sample, sampling_params)
        session = engine.session(sample)
        record = await play(item, engine, session, self.settings)
        return self._output(session.state, record, int(kwargs["global_steps"]))

    def engine(self, item: Item, sample: int, sampling_params: Mapping[str, Any]) -> VerlEngine:
        """What answers in episode number `sample` of `item`."""
        chat, generate = _chat_tokens(self.tokenizer), self.server_manager.generate
        return VerlEngine(self.continuous_token_builder, generate, chat, self.settings.limits, sampling_params)

    def _output(self, rollout: Rollout, record: Record, step: int) -> AgentLoopOutput:
        if not rollout.ids:  # the question could not be shown
            rollout.ids = self._stand_in()
            rollout.prompt, rollout.images = len(rollout.ids), [_BLANK]
        if not rollout.mask:  # nothing was sampled; verl needs a token to put the reward on
            rollout.append([_chat_tokens(self.tokenizer).end], sampled=False)
        if record.stop_reason in FAILURES:
            rollout.mask = [0] * len(rollout.mask)
        versions = rollout.versions or [step - 1]  # verl cannot log an episode without one
        return AgentLoopOutput(
            prompt_ids=rollout.ids[: rollout.prompt],
            response_ids=rollout.ids[rollout.prompt :],
            response_mask=rollout.mask,
            response_logprobs=rollout.logprobs,
            multi_modal_data={"images": rollout.images},
            reward_score=record.reward.total,
            num_turns=2 * len(record.trace.steps) if record.trace else 0,
            metrics=AgentLoopMetrics(
                generate_sequences=rollout.generating, tool_calls=rollout.building, num_preempted=rollout.preempted
            ),
            extra_fields={
                "turn_scores": [],
                "tool_rewards": [],
                "min_global_steps": min(versions),
                "max_global_steps": max(versions),
                "reward_extra_info": record.scores(),
                "row": json.dumps(record.row()),  # this and the next for vilasr.training.grpo.sampler
                "seconds": {**rollout.seconds(), "reward": record.seconds},
            },
        )

    def _stand_in(self) -> list[int]:
        """A prompt for an episode that has none. It has an image: the actor fails on a batch without any."""
        content = [{"type": "image", "image": _BLANK}, {"type": "text", "text": "(not shown)"}]
        turns = [{"role": "user", "content": content}]
        return list(self.continuous_token_builder.build_initial_tokens(turns, images=[_BLANK]))


async def play(item: Item, engine: VerlEngine, session: Session, settings: Settings) -> Record:
    """Drive the episode of `item` to its end. Total: every failure is an ending."""
    beta, sample = settings.beta, session.seed
    try:
        question = await asyncio.to_thread(read_question, item, settings.profile)
        episode = question.episode(settings.profile)
    except Exception as exc:
        return Record(item.example, None, why_unread(item, exc), (), sample, beta)
    try:
        trace = await run_episode(episode, engine, session)
    except Exception as exc:  # a defect of ours or of a library must not take the other episodes along
        log.exception("item %s", item.example.id)
        episode.close(StopReason.ENGINE_ERROR, f"{type(exc).__name__}: {exc}")
        trace = episode.trace()
    rollout: Rollout = session.state
    rollout.drawing = episode.seconds
    usage = {"prompt": rollout.prompt, "response": len(rollout.mask), "sampled": sum(rollout.mask)}
    return Record(episode.example, trace, trace.detail, question.files, sample, beta, usage)


@functools.cache
def _chat_tokens(tokenizer: Any) -> ChatTokens:
    return ChatTokens(tokenizer)
