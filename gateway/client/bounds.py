"""How long the client waits and how much it holds: every bound in one place."""

import random
from dataclasses import dataclass

JITTER = 0.25  # a pause grows by up to this part, so that many clients do not come back at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The client's patience and its memory."""

    request_timeout_s: float = 10.0  # one attempt, from connecting to the whole answer
    # All attempts at one request. A limit may ask for 61 s, which the pause below makes 76: there is time for two.
    give_up_after_s: float = 180.0
    close_timeout_s: float = 300.0  # the end of a run: its queue and its finalization
    pause_first_s: float = 0.1  # doubled with each attempt
    pause_max_s: float = 5.0
    queue_events_max: int = 1_000  # per run; `event` waits beyond it
    receipts_max: int = 10_000  # per run; the newest are kept
    dropped_max: int = 1_000  # per run; the first are kept, all are counted

    def pause_s(self, attempt: int, retry_after_s: float) -> float:
        """How long to wait after the *attempt*-th failure (from 0): never less than the gateway asked for."""
        backoff_s: float = min(self.pause_first_s * 2.0 ** min(attempt, 16), self.pause_max_s)
        return max(backoff_s, retry_after_s) * (1 + JITTER * random.random())  # noqa: S311  # spreads load, hides nothing
