"""`UserEventStore` on Postgres. Every statement names the tenant, and a user's own reads the user too."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, LiteralString

import msgspec

from gateway.events.store import COUNTED_MAX, PAGE_BYTES_MAX, EventPlace, Reader, UserEventFilter
from gateway.events.views import ErrorCount, TaskEvent, UnprocessedView, UserEventView
from gateway.kafka.effect import Effect
from gateway.postgres.pool import PostgresReads
from schemas.events.topics import USER_EVENTS
from schemas.ids import moment_of_uuid7
from schemas.kafka.places import RecordPlace

ERRORS_SHOWN_MAX = 20
RATES_OF_S = 3600

# A user is shown what came by the user's own token, or by a key that may speak for users: nobody else can plant events.
_READER: LiteralString = """
    tenant_id = %(tenant)s AND (%(user)s::text IS NULL OR (user_id = %(user)s AND user_verified))
"""
_ADMITTED: LiteralString = (
    _READER
    + """
      AND (%(of_user)s::text IS NULL OR user_id = %(of_user)s)
      AND (%(type)s::text IS NULL OR type = %(type)s)
      AND (%(name)s::text IS NULL OR name = %(name)s)
      AND (%(status)s::text IS NULL OR status = %(status)s)
      AND (%(from)s::timestamptz IS NULL OR received_at >= %(from)s)
      AND (%(before)s::timestamptz IS NULL OR received_at < %(before)s)
      AND properties @> %(properties)s::jsonb
"""
)
_COLUMNS: LiteralString = """
    event_id, source, user_id, anonymous_id, session_id, run_id, type, name, occurred_at, received_at, clock,
    payload::text, context::text, properties::text, status, attempts, error_class, error, result::text,
    CASE status WHEN 'pending' THEN NULL ELSE coalesce(processed_at, stored_at) END AS processed_at,
    authenticated, user_verified, task_id::text, kafka_partition, kafka_offset, stored_at
"""

# The indexes events_of_user and events_of_tenant serve this order; a row comparison resumes after the last one shown.
LIST_EVENTS = f"""
    SELECT {_COLUMNS}
    FROM events
    WHERE {_ADMITTED}
      AND (%(after_partition)s::integer IS NULL OR (received_at, kafka_partition, kafka_offset)
           < (%(after_received)s, %(after_partition)s, %(after_offset)s))
    ORDER BY received_at DESC, kafka_partition DESC, kafka_offset DESC
    OFFSET %(skip)s
    LIMIT %(limit)s
"""  # noqa: S608  the parts are literals

COUNT_EVENTS = f"SELECT count(*) AS count FROM (SELECT FROM events WHERE {_ADMITTED} LIMIT %(limit)s) AS admitted"  # noqa: S608

ONE_EVENT = f"""
    SELECT {_COLUMNS}
    FROM events
    WHERE {_READER} AND event_id = %(event_id)s
    ORDER BY received_at DESC, kafka_partition DESC, kafka_offset DESC
    LIMIT 1
"""  # noqa: S608

UNPROCESSED = f"""
    SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           min(received_at) FILTER (WHERE status = 'pending') AS oldest_pending_at
    FROM events
    WHERE {_READER} AND status <> 'processed'
"""  # noqa: S608

RATES = f"""
    SELECT count(*) AS received, count(*) FILTER (WHERE status = 'processed') AS processed
    FROM events
    WHERE {_READER} AND received_at >= now() - make_interval(secs => %(seconds)s)
"""  # noqa: S608

ERRORS = f"""
    SELECT coalesce(error_class, '') AS error_class, count(*) AS count
    FROM events
    WHERE {_READER} AND status = 'failed'
    GROUP BY error_class
    ORDER BY count(*) DESC, error_class
    LIMIT %(limit)s
"""  # noqa: S608

# A task's id says when its events were received, so that events_of_tenant finds them.
TASK = f"""
    SELECT event_id, status, error_class, error, kafka_partition, kafka_offset
    FROM events
    WHERE {_READER} AND task_id = %(task_id)s AND received_at >= %(from)s AND received_at < %(before)s
  UNION ALL
    SELECT event_id, 'duplicate', NULL, NULL, kafka_partition, kafka_offset
    FROM event_duplicates
    WHERE tenant_id = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) AND task_id = %(task_id)s
  UNION ALL
    SELECT event_id, 'rejected', reason, detail, kafka_partition, kafka_offset
    FROM event_rejections
    WHERE tenant_id = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) AND task_id = %(task_id)s
"""  # noqa: S608

# Where a record is in the log, its row must be of the same content, for a log that was cut off gives old places to new
# records.
OUTCOME = """
    SELECT 'stored' AS outcome, NULL AS reason, NULL AS detail, NULL::integer AS in_partition,
           NULL::bigint AS in_offset, stored_at
    FROM events
    WHERE kafka_partition = %(partition)s AND kafka_offset = %(offset)s AND tenant_id = %(tenant)s
      AND (%(event_sha256)s::bytea IS NULL OR event_sha256 = %(event_sha256)s)
  UNION ALL
    SELECT 'duplicate', NULL, NULL, in_partition, in_offset, stored_at
    FROM event_duplicates
    WHERE kafka_partition = %(partition)s AND kafka_offset = %(offset)s AND tenant_id = %(tenant)s
  UNION ALL
    SELECT 'rejected', reason, detail, NULL, NULL, stored_at
    FROM event_rejections
    WHERE kafka_partition = %(partition)s AND kafka_offset = %(offset)s AND tenant_id = %(tenant)s
  LIMIT 1
"""

# A row that waits or has failed says so, and the record that waits, or the dead letter, says more.
PROCESSED = """
    SELECT CASE WHEN processed_at IS NULL THEN 'filtered' ELSE 'processed' END AS outcome, processed_at
    FROM events
    WHERE kafka_partition = %(partition)s AND kafka_offset = %(offset)s AND tenant_id = %(tenant)s
      AND (%(event_sha256)s::bytea IS NULL OR event_sha256 = %(event_sha256)s)
      AND status = 'processed'
  UNION ALL
    SELECT 'filtered', NULL
    FROM (SELECT tenant_id, kafka_partition, kafka_offset FROM event_duplicates
          UNION ALL
          SELECT tenant_id, kafka_partition, kafka_offset FROM event_rejections) AS not_stored
    WHERE kafka_partition = %(partition)s AND kafka_offset = %(offset)s AND tenant_id = %(tenant)s
  LIMIT 1
"""


class PostgresUserEventStore:
    """`UserEventStore` on read-only connections."""

    def __init__(self, reads: PostgresReads) -> None:
        """Read by the connections of *reads*."""
        self._reads = reads

    async def events(
        self, reader: Reader, admitted: UserEventFilter, *, after: EventPlace | None, skip: int, limit: int
    ) -> tuple[Sequence[UserEventView], EventPlace | None]:
        """See `UserEventStore.events`."""
        parameters = _admitted(reader, admitted) | {
            "after_received": after and after.received_at,
            "after_partition": None if after is None else after.partition,
            "after_offset": None if after is None else after.offset,
            "skip": skip,
            "limit": limit + 1,  # one more tells whether there is a next page
        }
        page: list[UserEventView] = []
        last: EventPlace | None = None
        size_bytes = 0
        # Row by row: a page of the largest events must never be held whole.
        async with self._reads.connection() as connection, connection.cursor() as cursor:
            async for row in cursor.stream(LIST_EVENTS, parameters):
                if len(page) == limit or size_bytes > PAGE_BYTES_MAX:
                    return page, last
                size_bytes += len(row["payload"])
                page.append(_event_view(row))
                last = EventPlace(row["received_at"], row["kafka_partition"], row["kafka_offset"])
        return page, None

    async def count(self, reader: Reader, admitted: UserEventFilter) -> int:
        """See `UserEventStore.count`."""
        return int((await self._one(COUNT_EVENTS, _admitted(reader, admitted) | {"limit": COUNTED_MAX}))["count"])

    async def event(self, reader: Reader, event_id: str) -> UserEventView | None:
        """See `UserEventStore.event`."""
        async with self._reads.connection() as connection:
            row = await (await connection.execute(ONE_EVENT, _reader(reader) | {"event_id": event_id})).fetchone()
        return None if row is None else _event_view(row)

    async def unprocessed(self, reader: Reader) -> UnprocessedView:
        """See `UserEventStore.unprocessed`."""
        asked = _reader(reader)
        async with self._reads.connection() as connection:
            counts = await (await connection.execute(UNPROCESSED, asked)).fetchone()
            rates = await (await connection.execute(RATES, asked | {"seconds": RATES_OF_S})).fetchone()
            errors = await (await connection.execute(ERRORS, asked | {"limit": ERRORS_SHOWN_MAX})).fetchall()
        assert counts is not None
        assert rates is not None
        return UnprocessedView(
            **counts,
            received_last_hour=rates["received"],
            processed_last_hour=rates["processed"],
            errors=[ErrorCount(**row) for row in errors],
        )

    async def task(self, reader: Reader, task_id: str) -> Sequence[TaskEvent]:
        """See `UserEventStore.task`."""
        if (received_at := moment_of_uuid7(task_id)) is None:
            return []
        asked = _reader(reader) | {
            "task_id": task_id,
            "from": received_at,
            "before": received_at + timedelta(milliseconds=1),
        }
        async with self._reads.connection() as connection:
            rows = await (await connection.execute(TASK, asked)).fetchall()
        return [
            TaskEvent(
                event_id=row["event_id"],
                status=row["status"],
                wal_id=_wal_id(row),
                error_class=row["error_class"],
                error=row["error"],
            )
            for row in rows
        ]

    async def effect(self, tenant: str, place: RecordPlace, event_sha256: bytes | None) -> Effect | None:
        """See `UserEventStore.effect`."""
        async with self._reads.connection() as connection:
            row = await (await connection.execute(OUTCOME, _record(tenant, place, event_sha256))).fetchone()
        if row is None:
            return None
        first = None
        if row["in_offset"] is not None:
            first = RecordPlace(place.topic, row["in_partition"], row["in_offset"]).wal_id
        return Effect(
            outcome=row["outcome"], reason=row["reason"], detail=row["detail"], in_place_of=first, at=row["stored_at"]
        )

    async def processing_effect(self, tenant: str, place: RecordPlace, event_sha256: bytes | None) -> Effect | None:
        """See `UserEventStore.processing_effect`."""
        async with self._reads.connection() as connection:
            row = await (await connection.execute(PROCESSED, _record(tenant, place, event_sha256))).fetchone()
        return None if row is None else Effect(outcome=row["outcome"], at=row["processed_at"])

    async def _one(self, statement: LiteralString, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        async with self._reads.connection() as connection:
            row = await (await connection.execute(statement, parameters)).fetchone()
        assert row is not None
        return row


def _record(tenant: str, place: RecordPlace, event_sha256: bytes | None) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "partition": place.partition,
        "offset": place.offset,
        "event_sha256": event_sha256,
    }


def _reader(reader: Reader) -> dict[str, Any]:
    return {"tenant": reader.tenant, "user": reader.user_id}


def _admitted(reader: Reader, admitted: UserEventFilter) -> dict[str, Any]:
    return _reader(reader) | {
        "of_user": admitted.user_id,
        "type": admitted.type,
        "name": admitted.name,
        "status": admitted.status,
        "from": admitted.received_from,
        "before": admitted.received_before,
        "properties": msgspec.json.encode(admitted.properties).decode(),
    }


def _event_view(row: Mapping[str, Any]) -> UserEventView:
    documents: dict[str, Any] = {name: _raw(row[name]) for name in ("payload", "context", "properties", "result")}
    plain = {name: value for name, value in row.items() if name not in documents and not name.startswith("kafka_")}
    return UserEventView(**plain, **documents, wal_id=_wal_id(row))


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text)


def _wal_id(row: Mapping[str, Any]) -> str:
    return RecordPlace(USER_EVENTS.name, row["kafka_partition"], row["kafka_offset"]).wal_id
