"""
The receipt of one record: whether the log has it, and what each group made of it.

The committed offset is read before the effect: what a group has committed past, its effect shows.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from gateway.errors import LogUnavailable
from gateway.kafka.effect import EXPIRED, NOTHING_KNOWN
from gateway.kafka.facts import FactReaders
from gateway.kafka.followers import GroupFollower
from gateway.kafka.reader import Log, LogEntry, LogRecord
from gateway.status.effects import OF_ROWS, Effects
from gateway.status.endpoints import EndpointViews
from gateway.status.records import describe, may_see
from gateway.status.views import GroupReceipt, LogView, RecordView, State, WalReceipt
from schemas.access.credentials import Principal
from schemas.kafka.partitioner import KEY_BYTES_MAX, partition_of
from schemas.kafka.places import RecordPlace
from schemas.kafka.positions import EXPLANATIONS


class Receipts:
    """A maker of receipts."""

    def __init__(
        self,
        *,
        log: Log,
        effects: Effects,
        facts: FactReaders,
        endpoints: EndpointViews,
        followers: Mapping[str, GroupFollower],
        clock: Callable[[], datetime],
    ) -> None:
        """
        Look into *log*, whose records *facts* read.

        *followers*, by group name, know how far each group is, and *effects* what it did.
        """
        self._facts = facts
        self._log = log
        self._effects = effects
        self._endpoints = endpoints
        self._followers = followers
        self._clock = clock

    async def find(self, place: RecordPlace, principal: Principal) -> WalReceipt | None:
        """
        Return the receipt of the record at *place*; None if the principal's tenant has none there.

        An expired record no longer has a tenant: it is the tenant's if the store or a dead letter says so.

        Raises:
            QueueFull, LogUnavailable: see `Log`. The receipt says if the store is unavailable.
        """
        entry = await self._log.entry(place)
        if entry is None:
            return None
        record = None if entry.record is None else describe(entry.record, self._facts)
        if record is not None and not may_see(principal, record):
            return None
        followers = [each for each in self._followers.values() if each.group.source.name == place.topic]
        if record is not None and entry.record is not None:
            record = _placed(record, entry.record, followers)
        groups = [
            await self._group(follower, place, entry.record, record, principal)
            for follower in followers
            if self._endpoints.is_seen(follower.group, principal)
        ]
        if record is None and all(group.effect in (NOTHING_KNOWN, EXPIRED) for group in groups):
            return None
        return WalReceipt(
            wal_id=place.wal_id,
            log=await self._log_view(place, entry),
            record=record,
            groups=groups,
        )

    async def _log_view(self, place: RecordPlace, entry: LogEntry) -> LogView:
        state: Literal["present", "expired", "undecided"] = "expired" if entry.record is None else "present"
        detail = None
        if entry.undecided:
            state, found = "undecided", await self._log.open_transaction(place.topic, place.partition)
            if found is not None:
                first = await self._log.entry(RecordPlace(place.topic, place.partition, found.first_offset))
                begun_at = first.record.written_at if first is not None and first.record is not None else None
                since = (begun_at or found.last_written_at).isoformat(timespec="milliseconds")
                detail = f"not decided yet: an open transaction of producer {found.producer_id} since {since}"
        return LogView(state=state, first_offset=entry.edges.first, end_offset=entry.edges.end, detail=detail)

    async def _group(
        self,
        follower: GroupFollower,
        place: RecordPlace,
        raw: LogRecord | None,
        record: RecordView | None,
        principal: Principal,
    ) -> GroupReceipt:
        progress = follower.progress()[place.partition]
        faults = await self._log.faults(place.topic, {place.partition: progress.position})
        fault = faults.get(place.partition)
        state = _state(place, progress.committed, expired=record is None)
        effect = None
        if state == "done" or fault is not None:
            effect = await self._effects.find(follower, place, raw, record, principal)
        if fault is not None:
            # The position says nothing, but a row of this very record does.
            state = "done" if effect is not None and effect.outcome in OF_ROWS else "displaced"
        waits_since = record.written_at if record is not None and state == "waiting" else None
        return GroupReceipt(
            group=follower.group.name,
            state=state,
            committed=progress.committed,
            records_ahead=place.offset - (progress.committed or 0) if state == "waiting" else None,
            waiting_s=None if waits_since is None else max(0.0, (self._clock() - waits_since).total_seconds()),
            last_progress_at=progress.moved_at,
            effect=effect if state == "done" else None,
            problem=EXPLANATIONS[fault] if fault is not None and state == "displaced" else None,
        )


def _placed(view: RecordView, record: LogRecord, followers: Sequence[GroupFollower]) -> RecordView:
    """Add to *view* the partition that the record's key belongs in; *followers* know how many its topic has."""
    if record.key is None or len(record.key) > KEY_BYTES_MAX or not followers:
        return view
    try:
        count = len(followers[0].progress())
    except LogUnavailable:
        return view
    if not count:
        return view
    expected = partition_of(record.key, count)
    return msgspec.structs.replace(view, wrong_partition=expected != record.place.partition, key_partition=expected)


def _state(place: RecordPlace, committed: int | None, *, expired: bool) -> State:
    if committed is None:
        return "not_started"
    if committed > place.offset:
        return "done"
    return "missed" if expired else "waiting"
