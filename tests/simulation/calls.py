"""Whatever the product waits for, as a call that the schedule answers when and how it likes."""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any

from processors.runtime.errors import Transient


class Fate(Enum):
    """How a call ends."""

    DONE = "done"
    AWAY = "away"  # nothing was done, and the caller knows that it failed
    LOST = "lost"  # all was done, and the caller believes that it failed


class Call:
    """One call under way."""

    def __init__(self, effect: Callable[[], Any], *, can_fail: bool) -> None:
        """Stand for *effect*, which is done at once or not at all."""
        self._effect = effect
        self._can_fail = can_fail
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answer(self, fate: Fate) -> None:
        """
        Bring about what *fate* says.

        The effect may come although nobody waits for it any more: so does a COMMIT of a worker that was cut off.
        """
        error, result = None, None
        if fate is not Fate.AWAY or not self._can_fail:
            try:
                result = self._effect()
            except AssertionError:
                raise
            except Exception as refusal:  # noqa: BLE001 - whatever it is, it is the caller's
                error = refusal
        if error is None and fate is not Fate.DONE and self._can_fail:
            error = Transient(f"the schedule says {fate.value}")
        if self.reply.done():
            return
        if error is None:
            self.reply.set_result(result)
        else:
            self.reply.set_exception(error)


class Calls:
    """The calls under way, oldest first."""

    def __init__(self) -> None:
        """Hold none."""
        self.waiting: list[Call] = []

    async def make(self, effect: Callable[[], Any], *, can_fail: bool = True) -> Any:
        """Wait until the schedule answers; the result is what *effect* returns or raises."""
        call = Call(effect, can_fail=can_fail)
        self.waiting.append(call)
        return await call.reply

    def answer(self, index: int, fate: Fate) -> None:
        """Answer one of those that wait, if any does."""
        if self.waiting:
            self.waiting.pop(index % len(self.waiting)).answer(fate)
