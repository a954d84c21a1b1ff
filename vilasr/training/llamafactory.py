"""LLaMA-Factory's training with the attention of `vilasr.training.varlen_attention`.

    python -m vilasr.training.llamafactory CONFIG      (torchrun takes it as well)

In place of `llamafactory.launcher`, whose `flash_attn` knows a fixed list. `vilasr.training.sft` starts it for
`flash_attn: torch_flash_varlen`; CONFIG itself then says `auto`.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

from vilasr.training import varlen_attention

log = logging.getLogger("vilasr.training.llamafactory")  # also where this is the program


def use_varlen_attention() -> None:
    """Every model that LLaMA-Factory loads from now on in this process has it, vision tower and language model."""
    from llamafactory.model import patcher

    varlen_attention.register()
    configure = patcher.configure_attn_implementation

    @functools.wraps(configure)
    def chosen(config: Any, model_args: Any) -> None:
        configure(config, model_args)
        config._attn_implementation = varlen_attention.NAME
        log.info("attention: %s", varlen_attention.NAME)  # LLaMA-Factory calls what it does not know vanilla

    patcher.configure_attn_implementation = chosen


def main() -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # other libraries' logs stay as they are
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)
    use_varlen_attention()
    from llamafactory.train.tuner import run_exp

    run_exp()


if __name__ == "__main__":
    main()
