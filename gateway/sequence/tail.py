"""What the end of one partition holds that the store may not have yet, by run. Pure."""

from collections import deque
from collections.abc import Callable, Sequence

from gateway.log.reader import LogRecord
from gateway.sequence.memory import Candidate, Closing, Entry, Known, RunKey
from schemas import codec
from schemas.credentials import Credentials
from schemas.errors import Poison
from schemas.events import EnvironmentCaptured, RunEvent, RunRecord, TraceRecord
from schemas.validity import check_record


class PartitionTail:
    """The records from one offset to another, as persistence will judge them: the first of a seq counts."""

    def __init__(self, partition: int, *, records_max: int, credentials: Callable[[], Credentials]) -> None:
        """Hold at most *records_max*."""
        self.partition = partition
        self.end = 0  # the offset that follows what was read
        self._records_max = records_max
        self._credentials = credentials
        self._runs: dict[RunKey, _RunTail] = {}
        self._held: deque[tuple[int, RunKey, int]] = deque()  # offset, run, seq: what is to be dropped one day

    @property
    def full(self) -> bool:
        """Whether it can hold no more."""
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

    def take(self, record: LogRecord) -> None:
        """Note *record*, which stands at `end` or later."""
        self.end = record.place.offset + 1
        valid = self._read(record)
        if valid is None or isinstance(valid, EnvironmentCaptured):
            return
        key = (valid.tenant, valid.run_id)
        run = self._runs.setdefault(key, _RunTail())
        if run.closing is None:
            if isinstance(valid, RunEvent):
                entry = Entry(sha256=valid.event_sha256, idempotency_key=valid.idempotency_key, receipt=record.place)
                run.entries.setdefault(valid.seq, entry)
                run.head = max(run.head, valid.seq)
            else:
                run.closing = Closing(status=valid.status, receipt=record.place)
        run.records += 1
        self._held.append((record.place.offset, key, valid.seq if isinstance(valid, RunEvent) else 0))

    def add_to(self, stored: Known, key: RunKey, events: Sequence[Candidate]) -> Known:
        """*stored* and what stands here of the run, as far as it bears on *events*; what is stored came first."""
        run = self._runs.get(key)
        if run is None or stored.closing is not None:
            return stored
        entries = dict(stored.entries)
        wanted_keys = {event.idempotency_key for event in events} - {None}
        found = {event.seq: run.entries.get(event.seq) for event in events}
        if wanted_keys:
            found |= {seq: each for seq, each in run.entries.items() if each.idempotency_key in wanted_keys}
        for seq, entry in found.items():
            if entry is not None:
                entries.setdefault(seq, entry)
        return Known(head=max(stored.head, run.head), entries=entries, closing=run.closing)

    def _read(self, record: LogRecord) -> RunRecord | None:
        try:
            decoded = codec.decode(record.value)
            if isinstance(decoded, TraceRecord):
                return None
            rejection = check_record(
                decoded,
                topic=record.place.topic,
                key=record.key,
                value=record.value or b"",
                headers=record.headers,
                credentials=self._credentials(),
            )
        except Poison:
            return None
        return decoded if rejection is None else None


class _RunTail:
    __slots__ = ("closing", "entries", "head", "records")

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.closing: Closing | None = None
        self.head = 0
        self.records = 0
