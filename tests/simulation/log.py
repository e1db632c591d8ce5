"""
A log in memory, and what each of its records must come to.

The expectation is worked out while the log is written, one record after the other and without the product's help.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from functools import cache

from processors.runs.persistence.verdicts import Place, RunKey
from processors.runtime.batch import Cut
from schemas.errors import Reason
from schemas.kafka.places import Partition
from schemas.runs.records import EnvironmentCaptured, RunFinalized, RunStatus
from tests.support.builders import TENANT, TOPIC, Raw, event, raw, run_event

PARTITIONS = (Partition(TOPIC, 0), Partition(TOPIC, 1))
RUNS = {"run-a": PARTITIONS[0], "run-b": PARTITIONS[0], "run-c": PARTITIONS[1]}
UNSTORABLE = "what only the store cannot take"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Kind(Enum):
    """What is written to the log next."""

    NEXT = "the next event of its run"
    AGAIN = "an event of its run for the second time"
    OTHER = "other content under a number that is taken"
    KEYED = "the next event of its run, under an idempotency key that may be taken"
    FINALIZED = "the end of its run"
    FAILED = "another end of its run"
    ENVIRONMENT = "the environment of its run"
    UNSEALED = "an event that no gateway vouches for"
    UNSTORABLE = "the next event of its run, poison to the store alone"
    UNDECODABLE = "bytes that are no record"
    LARGE = "a record whose batch inflates to so much that it comes without its bytes, and no second batch beside it"
    MARKER = "an offset that holds no record"


class End(Enum):
    """Where a record must be found in the end."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    DEAD_LETTER = "dead letter"


@dataclass
class _Run:
    last_seq: int = 0
    repeatable: list[int] = field(default_factory=list)  # the events that are stored, less those with a key
    key_is_taken: bool = False
    status: RunStatus | None = None


@dataclass
class Log:
    """The partitions of one topic."""

    records: dict[Place, Raw] = field(default_factory=dict)
    ends: dict[Place, End] = field(default_factory=dict)  # what each record must come to, less environments
    environments: dict[RunKey, Place] = field(default_factory=dict)  # the last one alone is kept
    lengths: dict[Partition, int] = field(default_factory=lambda: dict.fromkeys(PARTITIONS, 0))
    _runs: dict[str, _Run] = field(default_factory=lambda: {run_id: _Run() for run_id in RUNS})

    def append(self, kind: Kind, run_id: str) -> None:
        """Write one more record to the partition of *run_id*."""
        partition = RUNS[run_id]
        place = partition.partition, self.lengths[partition]
        self.lengths[partition] += 1
        if kind is Kind.MARKER:
            return
        run = self._runs[run_id]
        if kind in (Kind.AGAIN, Kind.OTHER) and not run.repeatable:
            kind = Kind.NEXT
        written = _content(kind, run_id, _seq(kind, run))
        self.records[place] = replace(written, partition=partition.partition, offset=place[1])
        if kind is Kind.ENVIRONMENT:
            self.environments[TENANT, run_id] = place
        else:
            self.ends[place] = _end(kind, run)

    def slice(self, partition: Partition, start: int, count: int) -> list[Raw]:
        """Up to *count* records from offset *start* on."""
        offsets = range(start, self.lengths[partition])
        held = (self.records.get((partition.partition, offset)) for offset in offsets)
        return [record for record in held if record is not None][:count]


def _seq(kind: Kind, run: _Run) -> int:
    if kind in (Kind.AGAIN, Kind.OTHER):
        return run.repeatable[len(run.repeatable) // 2]
    return run.last_seq + 1


def _end(kind: Kind, run: _Run) -> End:
    """Work out what the record comes to, and what of the run decides about those after it."""
    if kind in (Kind.UNDECODABLE, Kind.LARGE):
        return End.DEAD_LETTER
    if kind is Kind.UNSEALED:
        return End.REJECTED
    if kind in (Kind.FINALIZED, Kind.FAILED):
        return _end_of_finalization(RunStatus.SUCCEEDED if kind is Kind.FINALIZED else RunStatus.FAILED, run)
    if kind in (Kind.AGAIN, Kind.OTHER):
        return End.DUPLICATE if kind is Kind.AGAIN else End.REJECTED
    if run.status is not None:
        return End.REJECTED
    return _end_of_new_event(kind, run)


def _end_of_finalization(status: RunStatus, run: _Run) -> End:
    if run.status is None:
        run.status = status
        return End.STORED
    return End.DUPLICATE if run.status is status else End.REJECTED


def _end_of_new_event(kind: Kind, run: _Run) -> End:
    run.last_seq += 1
    if kind is Kind.UNSTORABLE:
        return End.DEAD_LETTER
    if kind is Kind.KEYED:
        if run.key_is_taken:
            return End.REJECTED
        run.key_is_taken = True
        return End.STORED
    run.repeatable.append(run.last_seq)
    return End.STORED


@cache
def _content(kind: Kind, run_id: str, seq: int) -> Raw:
    """Return the record without its place. Cached: encoding and sealing would be most of a simulation's time."""
    if kind is Kind.UNDECODABLE:
        return Raw(key=run_id.encode(), value=b"\xff" * 7, headers=[("x", None)])
    if kind is Kind.LARGE:
        return Raw(cut=Cut(Reason.TOO_LARGE, "its batch inflates to too much"))
    if kind is Kind.ENVIRONMENT:
        return raw(
            EnvironmentCaptured(
                tenant=TENANT, run_id=run_id, environment="{}", environment_sha256=bytes(32), captured_at=NOW
            )
        )
    if kind in (Kind.FINALIZED, Kind.FAILED):
        status = RunStatus.SUCCEEDED if kind is Kind.FINALIZED else RunStatus.FAILED
        return raw(RunFinalized(tenant=TENANT, run_id=run_id, status=status, finalized_at=NOW))
    changes = {"payload": kind.value} if kind is Kind.OTHER else {}
    if kind is Kind.UNSTORABLE:
        changes = {"payload": UNSTORABLE}
    if kind is Kind.KEYED:
        changes = {"meta": {"idempotency_key": "key"}}
    return raw(run_event(event(seq, run_id=run_id, **changes)), checked=kind is not Kind.UNSEALED)
