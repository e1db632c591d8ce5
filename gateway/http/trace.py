"""W3C trace context: the caller's `traceparent` is passed on unchanged, or one is made."""

import re
from random import getrandbits

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")


def traceparent_of(given: str | None) -> str:
    """Return the caller's `traceparent`, or a new one where it is missing or malformed."""
    if given is not None and _TRACEPARENT.match(given):
        return given
    # An id, no secret: the system's generator would cost a system call a request. The 1s keep both from being zero.
    return f"00-{getrandbits(128) | 1:032x}-{getrandbits(64) | 1:016x}-01"


def trace_id_of(traceparent: str) -> str:
    """Return the 32 hex digits that logs and problem documents show."""
    return traceparent[3:35]
