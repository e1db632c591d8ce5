"""The records at the end of one partition that the store may not have yet, by run. Pure."""

import operator
from collections import deque
from collections.abc import Sequence

import msgspec

from gateway.kafka.reader import LogRecord
from gateway.runs.parsing.prepared import EventIdentity
from gateway.runs.reading import read_record
from gateway.runs.sequence.memory import KnownEvent, RunEnd, RunKey, RunState
from schemas.access.credentials import CurrentCredentials, decide
from schemas.errors import Poison, Reason
from schemas.kafka import headers as header_names
from schemas.kafka.places import RecordPlace
from schemas.kafka.seal import is_sealed
from schemas.runs.records import RunEvent, RunFinalized, RunRecord


class PartitionTail:
    """The records from one offset to another, as persistence will judge them: the first of a seq counts."""

    def __init__(self, partition: int, *, records_max: int, credentials: CurrentCredentials) -> None:
        """Hold at most *records_max*."""
        self.partition = partition
        self.end = 0  # the offset that follows what was read
        self._records_max = records_max
        self._credentials = credentials
        self._runs: dict[RunKey, _RunTail] = {}
        self._held: deque[tuple[int, RunKey, int]] = deque()  # offset, run, seq: what is to be dropped one day

    @property
    def full(self) -> bool:
        """Return True if it can hold no more."""
        return len(self._held) >= self._records_max

    def begin_at(self, offset: int) -> None:
        """Forget what lies before *offset*, which the store has."""
        self.end = max(self.end, offset)
        while self._held and self._held[0][0] < offset:
            _, key, seq = self._held.popleft()
            run = self._runs[key]
            run.entries.pop(seq, None)
            run.records -= 1
            if not run.records:
                del self._runs[key]

    def add(self, record: LogRecord) -> None:
        """Note *record*, which stands at `end` or later."""
        self.end = record.place.offset + 1
        valid = self._read(record)
        if isinstance(valid, RunEvent | RunFinalized):
            self._note(record.place, valid)

    def _note(self, place: RecordPlace, valid: RunEvent | RunFinalized) -> None:
        key = (valid.tenant, valid.run_id)
        run = self._runs.setdefault(key, _RunTail())
        if run.closing is None:
            if isinstance(valid, RunEvent):
                entry = KnownEvent(sha256=valid.event_sha256, idempotency_key=valid.idempotency_key, place=place)
                run.entries.setdefault(valid.seq, entry)
                run.head = max(run.head, valid.seq)
            else:
                run.closing = RunEnd(status=valid.status, place=place)
        self._hold(place, key, seq=valid.seq if isinstance(valid, RunEvent) else 0)

    def _hold(self, place: RecordPlace, key: RunKey, *, seq: int) -> None:
        self._runs[key].records += 1
        self._held.append((place.offset, key, seq))

    def add_to(self, stored: RunState, key: RunKey, events: Sequence[EventIdentity]) -> RunState | None:
        """
        Return *stored* and what the tail holds of the run and of *events*; what is stored came first.

        None where a gateway of a newer release has written what this one cannot read.
        """
        run = self._runs.get(key)
        if run is None or stored.closing is not None:
            return msgspec.structs.replace(stored, read_to=self.end)
        if run.newer:
            return None
        entries = dict(stored.entries)
        wanted_keys = {event.idempotency_key for event in events} - {None}
        found = {event.seq: run.entries.get(event.seq) for event in events}
        if wanted_keys:
            found |= {seq: each for seq, each in run.entries.items() if each.idempotency_key in wanted_keys}
        for seq, entry in found.items():
            if entry is not None:
                entries.setdefault(seq, entry)
        return RunState(
            head=max(stored.head, run.head),
            entries=entries,
            closing=run.closing,
            read_to=self.end,
            removed=stored.removed,
        )

    def _read(self, record: LogRecord) -> RunRecord | None:
        try:
            decoded, rejection = read_record(record, self._credentials)
        except Poison as poison:
            if poison.reason is Reason.UNKNOWN_SCHEMA:
                self._note_newer(record)
            return None
        return decoded if rejection is None else None

    def _note_newer(self, record: LogRecord) -> None:
        by_name = dict(record.headers)
        tenant = by_name.get(header_names.TENANT)
        sealed = decide(
            lambda by: is_sealed(
                topic=record.place.topic,
                key=record.key,
                value=record.value,
                headers=by_name,
                secrets=by.gateway.mac_secrets,
            ),
            self._credentials,
            refuses=operator.not_,
        )
        if sealed and tenant is not None and record.key is not None:
            key = (tenant.decode(), record.key.decode())
            self._runs.setdefault(key, _RunTail()).newer = True
            self._hold(record.place, key, seq=0)


class _RunTail:
    __slots__ = ("closing", "entries", "head", "newer", "records")

    def __init__(self) -> None:
        self.entries: dict[int, KnownEvent] = {}
        self.closing: RunEnd | None = None
        self.head = 0
        self.newer = False
        self.records = 0
