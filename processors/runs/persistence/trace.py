"""
The trace record of a finalized run, folded from its stored events by seq. Pure.

The hash chain over them (`schemas.runs.chain`) binds every event's content and number.

Calls and tokens are told by payloads, and those in object storage are not read: a tool's result of more than 102,400
bytes leaves its call without an answer, and its `usage` is not counted. `payloads_unread` says how many those are;
counts by type, sizes, times and the chain are whole.

Of a run from which retention removed events the record sums up what came since, and its chain goes on from the head at
the removal: it ends as it would have ended with them. `wrong_partition` says how many of the run's records, its end
included, were in another partition than its key's: their order against the others is not that of the log.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from processors.runs.persistence.calls import ToolCalls
from processors.runs.persistence.named_counts import NamedCounts, bounded
from schemas.runs.chain import CHAIN_START, link

MISSING_RANGES_MAX = 100  # listed; the count is exact
USAGE_DEPTH_MAX = 3  # of counts within counts, such as input_tokens_details.cached

ERROR_TYPE = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """The fields of a stored event that the trace record needs."""

    seq: int
    type: str
    actor: str
    happened_at: datetime
    payload: str | None
    referenced_bytes: int | None = None  # of a payload that is not here but in object storage
    event_sha256: bytes
    partition: int = 0
    is_chained: bool = False  # the chain that the trace goes on from covers it already


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingSeqs:
    """Seqs of a run that nothing is known of: how many, and the first ranges."""

    count: int
    ranges: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedEvents:
    """Events that retention removed from a run before it was summed up."""

    at: datetime
    count: int
    ranges: Sequence[Sequence[int]]  # the first ones
    chain_head: bytes  # of the chain up to then; later events go on from it
    missing: MissingSeqs  # what is neither stored nor removed


@dataclass(slots=True)
class Trace:
    """The trace of one run; its events are added in the order of their seq."""

    event_count: int = 0
    chain_head: bytes = CHAIN_START
    home_partition: int | None = None  # where the run's key belongs; None: not looked at
    _last_seq: int = 0
    _missing_count: int = 0
    _missing_ranges: list[list[int]] = field(default_factory=list)
    _types: NamedCounts = field(default_factory=NamedCounts)
    _actors: NamedCounts = field(default_factory=NamedCounts)
    _tokens: NamedCounts = field(default_factory=NamedCounts)
    _error_count: int = 0
    _payload_bytes: int = 0
    _unread_count: int = 0
    _misplaced_count: int = 0
    _first: datetime | None = None
    _last: datetime | None = None
    _calls: ToolCalls = field(default_factory=ToolCalls)

    def add(self, event: StoredEvent) -> None:
        """Take the next event."""
        self.event_count += 1
        self._misplaced_count += self.home_partition is not None and is_misplaced(event.partition, self.home_partition)
        if not event.is_chained:
            self.chain_head = link(self.chain_head, event.seq, event.event_sha256)
        if event.seq > self._last_seq + 1:
            self._missing_count += event.seq - self._last_seq - 1
            if len(self._missing_ranges) < MISSING_RANGES_MAX:
                self._missing_ranges.append([self._last_seq + 1, event.seq - 1])
        self._last_seq = event.seq
        self._types.add(event.type)
        self._actors.add(event.actor)
        self._error_count += event.type == ERROR_TYPE
        self._first = event.happened_at if self._first is None else min(self._first, event.happened_at)
        self._last = event.happened_at if self._last is None else max(self._last, event.happened_at)
        if event.referenced_bytes is not None:
            self._payload_bytes += event.referenced_bytes
            self._unread_count += 1
        payload = None
        if event.payload is not None:
            self._payload_bytes += len(event.payload.encode())
            decoded = json.loads(event.payload)
            payload = decoded if isinstance(decoded, dict) else None
        if payload is not None:
            self._add_usage(payload.get("usage"))
        self._calls.add(event.type, event.seq, event.happened_at, payload)

    def document(
        self,
        *,
        status: str,
        declared_event_count: int | None,
        duplicates: int,
        rejected: int,
        removed: RemovedEvents | None = None,
        is_end_misplaced: bool = False,
    ) -> str:
        """Return the trace record as JSON text; every number in it fits in 64 bits."""
        gone = {} if removed is None else {"events_removed": _removed_document(removed)}
        missing = MissingSeqs(count=self._missing_count, ranges=self._missing_ranges)
        missing = missing if removed is None else removed.missing
        whole = missing.count == 0 and declared_event_count in (None, self.event_count)
        return json.dumps(
            gone
            | {
                "status": status,
                "event_count": self.event_count,
                "declared_event_count": declared_event_count,
                "complete": whole and removed is None,
                "types": self._types.shown(),
                "actors": self._actors.shown(),
                "errors": self._error_count,
                "first_t": self._first and self._first.isoformat(),
                "last_t": self._last and self._last.isoformat(),
                "duration_s": (self._last - self._first).total_seconds() if self._first and self._last else None,
                "missing": {"count": missing.count, "ranges": missing.ranges},
                "duplicates": duplicates,
                "rejected": rejected,
                "wrong_partition": self._misplaced_count + is_end_misplaced,
                "payload_bytes": bounded(self._payload_bytes),
                "payloads_unread": self._unread_count,
                "tool_calls": self._calls.document(),
                "tokens": self._tokens.shown(),
                "chain_head": self.chain_head.hex(),
            }
        )

    def _add_usage(self, usage: Any, *, within: str = "", depth: int = 1) -> None:
        if not isinstance(usage, dict):
            return
        for name, count in usage.items():
            if isinstance(count, int) and not isinstance(count, bool):
                self._tokens.add(within + name, count)
            elif depth < USAGE_DEPTH_MAX:
                self._add_usage(count, within=f"{within}{name}.", depth=depth + 1)


def is_misplaced(partition: int, home: int) -> bool:
    """Return True if a record is not in *home*, its key's partition. A negative one stands for a lost place."""
    return partition >= 0 and partition != home


def _removed_document(removed: RemovedEvents) -> dict[str, object]:
    return {
        "at": removed.at.isoformat(),
        "count": removed.count,
        "ranges": removed.ranges,
        "chain_head": removed.chain_head.hex(),
    }
