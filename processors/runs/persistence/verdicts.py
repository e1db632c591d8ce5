"""
The verdict on each record of a slice: new, a duplicate, or against the rules. Pure.

Records are judged in log order, against the store and against those before them in the slice, so that the first record
of a (run, seq) wins and nothing after a finalization is accepted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from processors.runtime.contract import Arrival, Outcome, Tally
from processors.runtime.errors import LogRewritten
from schemas.errors import Poison, Reason, Rejection
from schemas.kafka.partitioner import partition_of
from schemas.kafka.places import RecordPlace
from schemas.runs.records import EnvironmentCaptured, RunEvent, RunFinalized, RunRecord, RunStatus

# Plain tuples, since one of each is made for every record.
RunKey = tuple[str, str]  # tenant, run_id: a run id is unique within its tenant only
Place = tuple[int, int]  # partition, offset; the topic is the group's source


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalization:
    """The end of a closed run: its status and its record."""

    status: RunStatus
    place: Place


@dataclass(slots=True, kw_only=True)
class StoredState:
    """The stored data that decide about a slice."""

    finalized: dict[RunKey, Finalization] = field(default_factory=dict)
    sha256: dict[tuple[str, str, int], bytes] = field(default_factory=dict)  # by tenant, run_id, seq
    seq: dict[tuple[str, str, str], int] = field(default_factory=dict)  # by tenant, run_id, idempotency key
    at: dict[Place, tuple[str, str, int, bytes]] = field(default_factory=dict)  # tenant, run_id, seq, sha256
    rewrites: bool = False  # a stored event whose record comes again is written again
    partition_count: int = 0  # of the source; 0: not known


@dataclass(slots=True, kw_only=True)
class Verdicts:
    """The slice, sorted by what is to be written."""

    events: list[Arrival[RunRecord]] = field(default_factory=list)
    environments: dict[RunKey, Arrival[RunRecord]] = field(default_factory=dict)  # the last of each run
    finalizations: dict[RunKey, Arrival[RunRecord]] = field(default_factory=dict)
    duplicates: list[Arrival[RunRecord]] = field(default_factory=list)
    rejected: list[tuple[Arrival[RunRecord], Rejection]] = field(default_factory=list)
    traces_again: set[RunKey] = field(default_factory=set)  # redelivered finalizations: their trace may not be out
    reopened: set[RunKey] = field(default_factory=set)  # closed runs that late events were added to
    kept: int = 0  # stored events that would be rejected now
    tally: Tally = field(default_factory=Tally)


def place_of(arrival: Arrival[RunRecord]) -> Place:
    """Return where *arrival* stands in the log."""
    return arrival.raw.partition, arrival.raw.offset


def run_of(arrival: Arrival[RunRecord]) -> RunKey:
    """Return the run that *arrival* belongs to."""
    return arrival.record.tenant, arrival.record.run_id


def judge(arrivals: Sequence[Arrival[RunRecord]], known: StoredState) -> Verdicts:
    """
    Sort *arrivals* by what they are; *known* grows with the events taken.

    Raises:
        LogRewritten: a place in the log holds another event than the one stored from it.
        Poison: the same, of a record that an operator sent back.
    """
    verdicts = Verdicts()
    for arrival in arrivals:
        record = arrival.record
        if known.at and isinstance(record, RunEvent) and _is_stored_here(arrival, record, known):
            _judge_again(verdicts, arrival, record, known)
        elif arrival.rejection is not None:
            _reject(verdicts, arrival, arrival.rejection)
        elif isinstance(record, RunEvent):
            _judge_event(verdicts, arrival, record, known)
        elif isinstance(record, EnvironmentCaptured):
            verdicts.environments[run_of(arrival)] = arrival
            verdicts.tally[Outcome.DONE, None] += 1
        else:
            _judge_finalization(verdicts, arrival, record, known)
    verdicts.tally[Outcome.DONE, None] += len(verdicts.events) + len(verdicts.finalizations)
    verdicts.tally[Outcome.DUPLICATE, None] += len(verdicts.duplicates)
    return verdicts


def may_repeat_stored(verdicts: Verdicts) -> bool:
    """Return True if *verdicts*, reached without a look at what is stored, may be wrong though no key is taken."""
    # A rejected event violates no key of the tables, and may still be a duplicate, or stored from this very place.
    return bool(verdicts.rejected)


def _judge_again(verdicts: Verdicts, arrival: Arrival[RunRecord], event: RunEvent, known: StoredState) -> None:
    """Judge a record whose event is stored: it is never taken back, whatever would be said of it now."""
    if arrival.rejection is not None:
        verdicts.kept += 1
    if not known.rewrites or arrival.rejection is not None:
        verdicts.tally[Outcome.REDELIVERY, None] += 1
        return
    known.sha256[event.tenant, event.run_id, event.seq] = event.event_sha256
    verdicts.events.append(arrival)
    if (event.tenant, event.run_id) in known.finalized:
        verdicts.reopened.add((event.tenant, event.run_id))


def _judge_event(verdicts: Verdicts, arrival: Arrival[RunRecord], event: RunEvent, known: StoredState) -> None:
    identity = event.tenant, event.run_id, event.seq
    stored = known.sha256.get(identity)
    if stored is not None:
        if stored == event.event_sha256:
            verdicts.duplicates.append(arrival)
        else:
            detail = f"seq {event.seq} has other content"
            _reject(verdicts, arrival, Rejection(reason=Reason.CONFLICT, detail=detail))
        return
    closed = known.finalized.get((event.tenant, event.run_id)) if known.finalized else None
    if closed is not None and not _is_before(place_of(arrival), closed.place):
        _reject(verdicts, arrival, _behind_the_end(arrival, event, closed, known.partition_count))
        return
    if event.idempotency_key is not None:
        taken_by = known.seq.setdefault((event.tenant, event.run_id, event.idempotency_key), event.seq)
        if taken_by != event.seq:
            detail = f"idempotency key of seq {taken_by}"
            _reject(verdicts, arrival, Rejection(reason=Reason.CONFLICT, detail=detail))
            return
    known.sha256[identity] = event.event_sha256
    verdicts.events.append(arrival)
    if closed is not None:
        verdicts.reopened.add((event.tenant, event.run_id))


def _is_before(place: Place, other: Place) -> bool:
    # A record that is handled again (sent back, replayed) may be older than what closed its run meanwhile.
    return place[0] == other[0] and place[1] < other[1]


def _behind_the_end(
    arrival: Arrival[RunRecord], event: RunEvent, closed: Finalization, partition_count: int
) -> Rejection:
    """Return why an event is not part of a run that is *closed*."""
    partition, offset = closed.place
    if partition == arrival.raw.partition or partition < 0:  # negative: the log has lost that place
        return Rejection(reason=Reason.RUN_FINALIZED, detail="the run was finalized before")
    detail = (
        f"the run was finalized by {RecordPlace(arrival.raw.topic, partition, offset).wal_id}, in another partition"
    )
    expected = partition_of(event.run_id.encode(), partition_count) if partition_count else partition
    if expected == arrival.raw.partition:
        return Rejection(reason=Reason.RUN_FINALIZED, detail=detail)
    detail += f": the event was written to partition {arrival.raw.partition} and not to {expected}, where its key "
    return Rejection(
        reason=Reason.WRONG_PARTITION, detail=detail + "belongs; set the producer's partitioner to murmur2"
    )


def _is_stored_here(arrival: Arrival[RunRecord], event: RunEvent, known: StoredState) -> bool:
    """
    Return True if the event of *arrival* is stored from this place of the log.

    Raises:
        LogRewritten, Poison: see `judge`.
    """
    here = known.at.get(place_of(arrival))
    if here is None:
        return False
    is_same = here[:3] == (event.tenant, event.run_id, event.seq)
    if not is_same or (here[3] != event.event_sha256 and not known.rewrites):
        found = f"{arrival.raw.place.wal_id} was stored as seq {here[2]} of run "
        found += f"{here[1]}, and now holds another event"
        if arrival.raw.attempt:  # whoever sent it back says where it is from
            raise Poison(Reason.NOT_STORABLE, found)
        raise LogRewritten(arrival.raw.offset, found)
    return True


def _judge_finalization(
    verdicts: Verdicts, arrival: Arrival[RunRecord], record: RunFinalized, known: StoredState
) -> None:
    run = run_of(arrival)
    place = place_of(arrival)
    earlier = known.finalized.get(run)
    if earlier is None:
        known.finalized[run] = Finalization(status=record.status, place=place)
        verdicts.finalizations[run] = arrival
    elif earlier.place == place:
        verdicts.traces_again.add(run)
        verdicts.tally[Outcome.REDELIVERY, None] += 1
    elif earlier.status == record.status:
        verdicts.duplicates.append(arrival)
    else:
        detail = f"the run was finalized as {earlier.status} before"
        _reject(verdicts, arrival, Rejection(reason=Reason.CONFLICT, detail=detail))


def _reject(verdicts: Verdicts, arrival: Arrival[RunRecord], rejection: Rejection) -> None:
    verdicts.rejected.append((arrival, rejection))
    verdicts.tally[Outcome.REJECTED, rejection.reason] += 1
