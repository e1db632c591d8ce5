"""
The receipt of one record: whether the log has it, and what each group made of it.

The committed offset is read before the store: what a group has committed past, its store shows. The store goes before
the dead letters, since a dead letter that was sent back and stored is both.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from gateway.errors import StoreUnavailable
from gateway.log.followers import GroupFollower
from gateway.log.reader import Log, LogRecord
from gateway.publisher import Receipt
from gateway.queries.runs import RunStore
from gateway.receipts.records import describe, may_see, text
from gateway.receipts.views import Effect, GroupReceipt, LogView, RecordView, State, WalReceipt
from schemas import headers
from schemas.credentials import Principal
from schemas.events import EnvironmentCaptured
from schemas.topics import GROUPS, Group

_NOTHING_KNOWN = Effect(outcome="unknown", detail="neither in the store nor among the dead letters from its time on")
_NOT_SEARCHED = Effect(outcome="unknown", detail="there was no time to search all dead letters")


class Receipts:
    """Makes receipts."""

    def __init__(
        self, *, log: Log, store: RunStore, followers: Mapping[str, GroupFollower], clock: Callable[[], datetime]
    ) -> None:
        """Look into *log* and *store*; *followers*, by group name, know how far each group is."""
        self._log = log
        self._store = store
        self._followers = followers
        self._clock = clock

    async def find(self, place: Receipt, principal: Principal) -> WalReceipt | None:
        """
        What became of the record at *place*; None if the principal's tenant has none there.

        An expired record bears no tenant any more: it is the tenant's if the store or a dead letter says so.

        Raises:
            QueueFull, LogUnavailable: see `Log`. That the store is away is said in the receipt.
        """
        look = await self._log.look(place)
        if look is None:
            return None
        record = None if look.record is None else describe(look.record)
        if record is not None and not may_see(principal, record):
            return None
        groups = [
            await self._group(group, place, record, principal) for group in GROUPS if group.source.name == place.topic
        ]
        if record is None and all(group.effect == _NOTHING_KNOWN for group in groups):
            return None
        return WalReceipt(
            wal_id=place.wal_id,
            log=LogView(
                state="expired" if record is None else "present",
                first_offset=look.edges.first,
                end_offset=look.edges.end,
            ),
            record=record,
            groups=groups,
        )

    async def _group(
        self, group: Group, place: Receipt, record: RecordView | None, principal: Principal
    ) -> GroupReceipt:
        progress = self._followers[group.name].progress()[place.partition]
        state = _state(place, progress.committed, expired=record is None)
        waits_since = record.written_at if record is not None and state == "waiting" else None
        return GroupReceipt(
            group=group.name,
            state=state,
            committed=progress.committed,
            records_ahead=place.offset - (progress.committed or 0) if state == "waiting" else None,
            waiting_s=None if waits_since is None else max(0.0, (self._clock() - waits_since).total_seconds()),
            last_progress_at=progress.moved_at,
            effect=await self._effect(group, place, record, principal) if state == "done" else None,
        )

    async def _effect(self, group: Group, place: Receipt, record: RecordView | None, principal: Principal) -> Effect:
        run_id, written_at = (record.run_id, record.written_at) if record is not None else (None, None)
        is_environment = record is not None and record.name == EnvironmentCaptured.__name__
        away = None
        try:
            stored = await self._store.effect(principal.tenant, place, run_id=run_id, environment=is_environment)
        except StoreUnavailable as error:
            stored, away = None, Effect(outcome="unknown", detail=str(error))
        if stored is not None:
            return stored
        search = await self._log.dead_letter(group, place, written_at=written_at)
        if search.letter is not None and (record is not None or may_see(principal, describe(search.letter))):
            return _dead_lettered(search.letter)
        return away or (_NOTHING_KNOWN if search.complete else _NOT_SEARCHED)


def _state(place: Receipt, committed: int | None, *, expired: bool) -> State:
    if committed is None:
        return "not_started"
    if committed > place.offset:
        return "done"
    return "missed" if expired else "waiting"


def _dead_lettered(letter: LogRecord) -> Effect:
    reason, detail = (headers.find(letter.headers, name) for name in (headers.ERROR_CLASS, headers.ERROR_MESSAGE))
    return Effect(
        outcome="dead_lettered",
        reason=text(reason),
        detail=text(detail),
        dead_letter=letter.place.wal_id,
        at=letter.written_at,
    )
