"""
The trace record of a finalized run, folded from its stored events by seq. Pure.

The hash chain binds every event's content and number: h(0) is 32 zero bytes and
h(i) = SHA-256(h(i-1) || seq as 8 bytes, big-endian || event_sha256).

Calls and tokens are told by payloads, and those in object storage are not read: a tool's result of more than 102,400
bytes leaves its call without an answer, and its `usage` is not counted. `payloads_unread` says how many those are;
counts by type, sizes, times and the chain are whole.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

CHAIN_START = bytes(32)
OPEN_CALLS_MAX = 10_000  # calls without a result that are remembered to find their latency
MISSING_RANGES_MAX = 100  # listed; the count is exact

CALL_TYPE = "tool_call"
RESULT_TYPE = "tool_result"
ERROR_TYPE = "error"
CALL_ID_FIELDS = ("call_id", "tool_call_id", "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """What the trace record needs of a stored event."""

    seq: int
    type: str
    actor: str
    happened_at: datetime
    payload: str | None
    referenced_bytes: int | None = None  # of a payload that is not here but in object storage
    event_sha256: bytes


def chain(previous: bytes, seq: int, event_sha256: bytes) -> bytes:
    """The next link: 32 bytes."""
    return hashlib.sha256(previous + seq.to_bytes(8, "big") + event_sha256).digest()


@dataclass(slots=True)
class Trace:
    """Takes the events of one run in the order of their seq."""

    event_count: int = 0
    chain_head: bytes = CHAIN_START
    _last_seq: int = 0
    _missing_count: int = 0
    _missing_ranges: list[list[int]] = field(default_factory=list)
    _types: Counter[str] = field(default_factory=Counter)
    _actors: Counter[str] = field(default_factory=Counter)
    _tokens: Counter[str] = field(default_factory=Counter)
    _payload_bytes: int = 0
    _unread_count: int = 0
    _first: datetime | None = None
    _last: datetime | None = None
    _open_calls: dict[str, datetime] = field(default_factory=dict)
    _call_latencies_s: list[float] = field(default_factory=list)

    def add(self, event: StoredEvent) -> None:
        """Take the next event."""
        self.event_count += 1
        self.chain_head = chain(self.chain_head, event.seq, event.event_sha256)
        if event.seq > self._last_seq + 1:
            self._missing_count += event.seq - self._last_seq - 1
            if len(self._missing_ranges) < MISSING_RANGES_MAX:
                self._missing_ranges.append([self._last_seq + 1, event.seq - 1])
        self._last_seq = event.seq
        self._types[event.type] += 1
        self._actors[event.actor] += 1
        self._first = event.happened_at if self._first is None else min(self._first, event.happened_at)
        self._last = event.happened_at if self._last is None else max(self._last, event.happened_at)
        if event.referenced_bytes is not None:
            self._payload_bytes += event.referenced_bytes
            self._unread_count += 1
        if event.payload is not None:
            self._payload_bytes += len(event.payload.encode())
            payload = json.loads(event.payload)
            if isinstance(payload, dict):
                self._add_usage(payload.get("usage"))
                self._add_call(event, payload)

    def document(self, *, status: str, declared_event_count: int | None, duplicates: int, rejected: int) -> str:
        """The trace record as JSON text."""
        return json.dumps(
            {
                "status": status,
                "event_count": self.event_count,
                "declared_event_count": declared_event_count,
                "complete": self._missing_count == 0 and declared_event_count in (None, self.event_count),
                "types": dict(sorted(self._types.items())),
                "actors": dict(sorted(self._actors.items())),
                "errors": self._types[ERROR_TYPE],
                "first_t": self._first and self._first.isoformat(),
                "last_t": self._last and self._last.isoformat(),
                "duration_s": (self._last - self._first).total_seconds() if self._first and self._last else None,
                "missing": {"count": self._missing_count, "ranges": self._missing_ranges},
                "duplicates": duplicates,
                "rejected": rejected,
                "payload_bytes": self._payload_bytes,
                "payloads_unread": self._unread_count,
                "tool_calls": {
                    "count": self._types[CALL_TYPE],
                    "answered": len(self._call_latencies_s),
                    "latency_max_s": max(self._call_latencies_s, default=None),
                    "latency_sum_s": sum(self._call_latencies_s),
                },
                "tokens": dict(sorted(self._tokens.items())),
                "chain_head": self.chain_head.hex(),
            }
        )

    def _add_usage(self, usage: Any) -> None:
        if isinstance(usage, dict):
            for name, count in usage.items():
                if isinstance(count, int) and not isinstance(count, bool):
                    self._tokens[name] += count

    def _add_call(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        call_id = next((payload[name] for name in CALL_ID_FIELDS if isinstance(payload.get(name), str)), None)
        if call_id is None:
            return
        if event.type == CALL_TYPE and len(self._open_calls) < OPEN_CALLS_MAX:
            self._open_calls[call_id] = event.happened_at
        elif event.type == RESULT_TYPE and (called_at := self._open_calls.pop(call_id, None)) is not None:
            self._call_latencies_s.append((event.happened_at - called_at).total_seconds())
