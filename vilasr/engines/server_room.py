"""How many tokens a turn may ask of a server. Some refuse a turn that could outgrow the context, where vLLM in this
process would give what room is left."""

from __future__ import annotations

from vilasr.engines.server_errors import Failure

_MARGIN = 1024  # tokens for what came after the last prompt, where a server refuses even one too many


class Room:
    """`wanted` tokens, or what room is left. A server tells its context's length when it refuses a request for it; then
    less is asked for at once, where the last prompt fills so much."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._context: int | None = None
        self._counts = False  # the server tells how long a prompt is that leaves some room

    def limit(self, last_prompt: int) -> int | None:
        """None is to ask without a limit, so that the server gives all the room there is: that is less than wanted."""
        if self._context is None:
            return self._wanted
        room = self._context - last_prompt
        if not self._counts:
            return self._wanted if room > self._wanted else None
        room -= _MARGIN
        return min(room, self._wanted) if room > 0 else self._wanted

    def after(self, refusal: Failure, asked: int) -> tuple[bool, int | None]:
        """Whether to ask again after `asked` tokens were refused, and for how many. vLLM tells only that a prompt is
        longer than it can be; what it gives without a limit is less than was asked for, or it would not refuse."""
        if refusal.context is None:
            return False, None
        self._context = refusal.context
        if refusal.prompt is None:
            return True, None
        room = refusal.context - refusal.prompt
        again = 0 < room < asked
        self._counts |= again  # vLLM does tell the length of a prompt that leaves no room at all
        return again, room
