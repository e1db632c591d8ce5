"""The client's bounds: timeouts, pauses between attempts, and limits on what it holds."""

import random
from dataclasses import dataclass

JITTER = 0.25  # a pause grows by up to this part, so that many clients do not come back at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """
    The client's patience and its memory.

    Example: `TidegateClient(url, ..., bounds=Bounds(close_timeout_s=2.0))` for a program that must end quickly.
    """

    request_timeout_s: float = 10.0  # one attempt, from connecting to the whole answer
    # All attempts of one `Delivery.deliver`. A limit may ask for 61 s, which the jitter makes 76: time for two.
    give_up_after_s: float = 180.0
    event_timeout_s: float = 5.0  # `event` waits so long for room in a full queue, once an outage
    close_timeout_s: float = 10.0  # the end of a run waits so long for a gateway that takes nothing
    close_max_s: float = 180.0  # the same for a gateway that does take events, or asks for patience (429)
    pause_first_s: float = 0.1  # doubled with each attempt
    pause_max_s: float = 5.0
    retry_after_max_s: float = 120.0  # a longer Retry-After is cut to this
    queue_events_max: int = 10_000  # per run
    queue_bytes_max: int = 32 * 1024 * 1024  # per run, of JSON; one event that is larger is admitted alone
    batch_events_max: int = 200
    batch_bytes_max: int = 1024 * 1024  # one event that is larger is sent alone
    receipts_max: int = 10_000  # per run; the newest are kept
    dropped_max: int = 1_000  # per run; the first are kept, all are counted
    spool_bytes_max: int = 64 * 1024 * 1024  # of the spool file and of what a client is sending from it

    def pause_s(self, attempt: int, retry_after_s: float) -> float:
        """Return how long to wait after the *attempt*-th failure (from 0): never less than the gateway asked for."""
        backoff_s: float = min(self.pause_first_s * 2.0 ** min(attempt, 16), self.pause_max_s)
        asked_s = min(retry_after_s, self.retry_after_max_s)
        return max(backoff_s, asked_s) * (1 + JITTER * random.random())  # noqa: S311  # spreads load, hides nothing
