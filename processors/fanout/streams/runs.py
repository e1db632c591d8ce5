"""Streams of runs: one run with its end and its trace record, or the events of one agent over all its runs."""

from collections.abc import Mapping
from typing import Any

import msgspec

from processors.fanout.messages import Key, Kind, StreamRecord
from processors.fanout.seq_ranges import SeqRanges
from processors.fanout.streams.contract import Source, Stream, unsealed
from schemas.kafka.places import Partition
from schemas.objects.references import Kept, PayloadRef
from schemas.runs.codec import RUN_CODEC, TRACE_CODEC
from schemas.runs.pushed import EventDocument, FinalizedDocument, event_document, finalized_document
from schemas.runs.records import EnvironmentCaptured, RunEvent, RunFinalized, TraceRecord, reference_of
from schemas.runs.topics import RUN_EVENTS, RUN_TRACES, trace_key
from schemas.runs.validity import check_direct

RUN, AGENT = "run", "agent"


class RunStreamRecord(StreamRecord):
    """A record of a run: an event, its end, or its trace record."""

    __slots__ = ("agent_id", "run_id", "value")

    def __init__(
        self,
        value: RunEvent | RunFinalized | TraceRecord,
        *,
        partition: Partition,
        offset: int,
        timestamp_ms: int,
        kept: Kept | None = None,
    ) -> None:
        """Hold *value*, found at *offset* of *partition*; *kept* is what its payload's reference stands for."""
        keys: tuple[Key, ...] = ((RUN, value.tenant, value.run_id),)
        self.agent_id: str | None = None
        seq = 0
        if isinstance(value, RunEvent):
            kind = Kind.TRACE_EVENT
            self.agent_id, seq = value.agent_id, value.seq
            keys = (*keys, (AGENT, value.tenant, value.agent_id))
        else:
            kind = Kind.RUN_FINALIZED if isinstance(value, RunFinalized) else Kind.TRACE_RECORD
        super().__init__(kind, keys, seq=seq, partition=partition, offset=offset, timestamp_ms=timestamp_ms, kept=kept)
        self.run_id = value.run_id
        self.value = value

    @property
    def reference(self) -> PayloadRef | None:
        """See `StreamRecord.reference`."""
        return reference_of(self.value)

    @property
    def held_characters(self) -> int:
        """See `StreamRecord.held_characters`."""
        return len(self.value.payload or "") if isinstance(self.value, RunEvent) else 0

    def resolved(self, kept: Kept) -> "RunStreamRecord":
        """See `StreamRecord.resolved`."""
        return RunStreamRecord(
            self.value, partition=self.partition, offset=self.offset, timestamp_ms=self.timestamp_ms, kept=kept
        )

    def members(self) -> Mapping[str, Any]:
        """See `StreamRecord.members`."""
        record = self.value
        if isinstance(record, TraceRecord):
            return {"run_id": record.run_id, "trace": msgspec.Raw(record.document.encode())}
        document: EventDocument | FinalizedDocument
        if isinstance(record, RunFinalized):
            document = finalized_document(record)
            return {**msgspec.structs.asdict(document), "wal_id": self.wal_id}
        document = event_document(record, self.kept)
        return {"event": document, "wal_id": self.wal_id}


class RunSelection:
    """The records of runs for one socket: each seq once, and nothing after the end of a run but its trace record."""

    __slots__ = ("_agents", "_finalized", "_sent")

    def __init__(self, agents: frozenset[str] | None) -> None:
        """Take the events of *agents* alone; None: of all."""
        self._agents = agents
        self._sent = SeqRanges()
        self._finalized = False

    def takes(self, record: StreamRecord) -> bool:
        """See `Selection.takes`."""
        assert isinstance(record, RunStreamRecord), "its key is that of a run or of an agent"
        if record.kind is Kind.TRACE_EVENT:
            # What follows the end of its run in the log is no part of it.
            if self._finalized or (self._agents is not None and record.agent_id not in self._agents):
                return False
            return self._sent.add(record.run_id, record.seq)
        if record.kind is Kind.RUN_FINALIZED:
            first, self._finalized = not self._finalized, True
            return first
        return self._agents is None  # a trace record sums up what every agent did


def _run_keys(tenant: str, run_id: str) -> Mapping[str, bytes | None]:
    return {RUN_EVENTS.name: run_id.encode(), RUN_TRACES.name: trace_key(tenant, run_id)}


def _agent_keys(_tenant: str, _agent_id: str) -> Mapping[str, bytes | None]:
    return {RUN_EVENTS.name: None}


def _is_run_sent(record: object, _key: bytes | None) -> bool:
    return not isinstance(record, EnvironmentCaptured)


def _is_trace_sent(record: TraceRecord, key: bytes | None) -> bool:
    return key == trace_key(record.tenant, record.run_id)


SOURCES = (
    Source(topic=RUN_EVENTS, codec=RUN_CODEC, check=check_direct, is_sent=_is_run_sent, record=RunStreamRecord),
    Source(
        topic=RUN_TRACES,
        codec=TRACE_CODEC,
        check=unsealed,
        is_sent=_is_trace_sent,
        record=RunStreamRecord,
        after=RUN_EVENTS,
    ),
)
STREAMS = (
    Stream(name=RUN, path="/ws/runs/{name}", record_keys=_run_keys, select=RunSelection, resolves=True),
    Stream(name=AGENT, path="/ws/agents/{name}", record_keys=_agent_keys, select=RunSelection, resolves=True),
)
