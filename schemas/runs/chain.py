"""
The hash chain over the events of a run: it binds every event's content, its number and what came before it.

h(0) is 32 zero bytes and h(i) = SHA-256(h(i-1) || seq as 8 bytes, big-endian || event_sha256), by seq. Persistence
folds it into the trace record, an export carries it line by line, and whoever verifies the export folds it again.
"""

import hashlib
from collections.abc import Iterable

CHAIN_START = bytes(32)


def link(previous: bytes, seq: int, event_sha256: bytes) -> bytes:
    """Return the next link: 32 bytes."""
    return hashlib.sha256(previous + seq.to_bytes(8, "big") + event_sha256).digest()


def head(events: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the last link over *events*, each its seq and event_sha256, by seq."""
    current = CHAIN_START
    for seq, event_sha256 in events:
        current = link(current, seq, event_sha256)
    return current
