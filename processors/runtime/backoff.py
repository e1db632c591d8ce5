"""Delays between the retries of a lane: doubled each time, bounded, with jitter so that lanes do not retry at once."""

FIRST_S = 0.1
LAST_S = 5.0


def delay_s(attempt: int, *, jitter: float) -> float:
    """Return the seconds to wait after failed *attempt* 1, 2, ...; *jitter* in [0, 1) takes up to half of it away."""
    ceiling = min(LAST_S, FIRST_S * 2.0 ** min(attempt - 1, 16))
    return ceiling * (1.0 - jitter / 2)
