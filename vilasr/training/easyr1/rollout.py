"""EasyR1's vLLM rollout, with drawing episodes in place of single replies."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (EasyR1's verl is not that of the environment that is checked)
from __future__ import annotations

import logging
import os
import uuid
from typing import Any

import torch
from PIL import Image
from tensordict import TensorDict
from verl.models.transformers.qwen2_vl import get_rope_index
from verl.protocol import DataProto
from verl.workers.rollout.vllm_rollout_spmd import vLLMRollout
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, SamplingParams

from vilasr.engines.chat import ChatTokens
from vilasr.training.easyr1.batch import make_objects, make_tensors
from vilasr.training.easyr1.play import Sampled, Settings, play
from vilasr.training.easyr1.run_settings import RunSettings
from vilasr.training.grpo.item import Item
from vilasr.training.grpo.profile import chosen_profile
from vilasr.training.grpo.rollout import TokenLimits

log = logging.getLogger(__name__)

ITEM = "item"  # what our dataset puts beside the (empty) images of a question


class VllmSteps:
    """`vilasr.training.easyr1.play.Steps` by vLLM's engine. `base` are the sampling parameters of all replies,
    `lora` is the adapter that samples, if one is trained."""

    def __init__(self, engine: Any, base: SamplingParams, chat: ChatTokens, lora: LoRARequest | None = None) -> None:
        self._engine = engine
        self._base = base
        self._lora = lora
        self._stop = [chat.end, chat.end_of_text, *sorted(chat.forbidden)]
        self._call = uuid.uuid4().hex  # an aborted call must not answer a later one

    def add(self, name: str, ids: list[int], images: list[Image.Image], max_tokens: int, seed: int) -> None:
        params = self._base.clone()
        params.n, params.max_tokens = 1, max_tokens
        params.seed = None if params.temperature == 0 else seed
        params.logprobs, params.detokenize, params.output_kind = 0, False, RequestOutputKind.FINAL_ONLY
        # A forbidden token ends the reply, and is not kept (Tokens.take); a bias would move the log-probabilities of
        # all the others away from those that the actor finds.
        params.logit_bias = None
        params.stop_token_ids = self._stop
        prompt = {"prompt_token_ids": ids, "multi_modal_data": {"image": images}}
        self._engine.add_request(f"{self._call}/{name}", prompt, params, lora_request=self._lora)

    def step(self) -> list[Sampled]:
        if not self._engine.has_unfinished_requests():
            raise RuntimeError("vLLM has lost a request")
        ended = []
        for output in self._engine.step():
            if not output.finished or not output.request_id.startswith(self._call):
                continue
            name = output.request_id.removeprefix(f"{self._call}/")
            completion = output.outputs[0]
            if completion.finish_reason not in ("stop", "length"):
                ended.append(Sampled(name, failure=f"vLLM ended the reply by itself ({completion.finish_reason})"))
                continue
            ids = list(completion.token_ids)
            logprobs = [at[token].logprob for token, at in zip(ids, completion.logprobs or (), strict=False)]
            ended.append(Sampled(name, ids, logprobs))
        return ended


class DrawingRollout(vLLMRollout):
    """See the module."""

    def __init__(self, model_path: str, config: Any, tokenizer: Any, processor: Any, **kwargs: Any) -> None:
        super().__init__(model_path, config, tokenizer, processor, **kwargs)
        ours = RunSettings.from_environment(os.environ)
        profile = chosen_profile(ours.profile, model_path, ours.max_pixels)
        turn = ours.turn_tokens or profile.budget.turn_tokens
        limits = TokenLimits(config.prompt_length, config.response_length, turn)
        self.settings = Settings(profile, limits, ours.beta)
        self.chat = ChatTokens(tokenizer)
        self.processor = processor
        self._calls = 0

    @torch.no_grad()
    def generate_sequences(self, prompts: DataProto) -> DataProto:
        """`prompts` are the rows of `vilasr.training.easyr1.data`. Returns what `vilasr.training.easyr1.batch` makes,
        the samples of a question next to each other."""
        self._calls += 1
        items = [Item.from_json(data[ITEM]) for data in prompts.non_tensor_batch["multi_modal_data"]]
        with self.update_sampling_params(**prompts.meta_info):
            base = self.sampling_params
            seed = f"{base.seed}:{self._calls}"
            steps = VllmSteps(self.inference_engine.llm_engine, base, self.chat, self._adapter())
            played = play(items, base.n, steps, self.chat, self.settings.of_call(seed))
        tensors = make_tensors(
            played,
            self.config.prompt_length,
            self.config.response_length,
            self.pad_token_id,
            self._rope,
            self.processor.image_processor.patch_size,
        )
        batch = TensorDict(tensors, batch_size=len(played))
        objects = make_objects(played, uuid.uuid4().hex)
        return DataProto(batch=batch, non_tensor_batch=objects, meta_info=prompts.meta_info)

    def _adapter(self) -> LoRARequest | None:
        """The one EasyR1 has carried to vLLM, as its own rollout names it; its weights are there already."""
        there = list(self.inference_engine.llm_engine.list_loras()) if self.lora_kwargs else []
        return LoRARequest(lora_name=f"{there[0]}", lora_int_id=there[0], lora_path="/carried") if there else None

    def _rope(self, ids: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
        return get_rope_index(self.processor, input_ids=ids, image_grid_thw=grids, attention_mask=torch.ones_like(ids))
