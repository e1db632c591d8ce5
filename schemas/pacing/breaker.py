"""The states of a circuit breaker."""

from enum import StrEnum


class BreakerState(StrEnum):
    """The state of the circuit breaker of a receiver."""

    CLOSED = "closed"  # it is
    OPEN = "open"  # it fails: nothing is attempted for a while
    HALF_OPEN = "half_open"  # one attempt decides
    DISABLED = "disabled"  # it said 410: nothing is attempted until an operator enables it
