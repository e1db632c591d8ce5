"""`RunStore` on Postgres. Every statement names the tenant."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.kafka.effect import Effect
from gateway.postgres.pool import PostgresReads
from gateway.runs import stored_run_states
from gateway.runs.integrity import (
    INTEGRITY,
    MISSING_RANGES_MAX,
    REJECTED_SHOWN_MAX,
    REMOVALS_SHOWN_MAX,
    IntegrityView,
    integrity_view,
)
from gateway.runs.parsing.prepared import EventIdentity
from gateway.runs.record_outcomes import OUTCOME, effect
from gateway.runs.sequence.memory import RunKey, RunState
from gateway.runs.store import PAGE_BYTES_MAX, EventFilter, RecordIdentity, RunFilter, RunPlace
from schemas.kafka.places import RecordPlace
from schemas.runs.topics import RUN_EVENTS
from schemas.runs.views import EnvironmentView, EventView, RunView

# The index runs_newest serves this order; a row comparison resumes after the last run shown.
LIST_RUNS = """
    SELECT run_id, agent_id, status, event_count, last_seq, declared_event_count, started_at, updated_at, finalized_at,
           events_removed_at, events_removed_count
    FROM runs
    WHERE tenant_id = %(tenant)s
      AND (%(agent)s::text IS NULL OR agent_id = %(agent)s)
      AND (%(status)s::text IS NULL OR status = %(status)s)
      AND (%(started_from)s::timestamptz IS NULL OR started_at >= %(started_from)s)
      AND (%(started_before)s::timestamptz IS NULL OR started_at < %(started_before)s)
      AND (%(after_run)s::text IS NULL OR (started_at, run_id) < (%(after_started)s, %(after_run)s))
    ORDER BY started_at DESC, run_id DESC
    LIMIT %(limit)s
"""

ONE_RUN = """
    SELECT run_id, agent_id, status, event_count, last_seq, declared_event_count, started_at, updated_at, finalized_at,
           events_removed_at, events_removed_count
    FROM runs
    WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
"""

# Documents leave as text: decoding and encoding them again would change their numbers.
LIST_EVENTS = """
    SELECT seq, t, actor, type, agent_id, payload::text, payload_ref::text, meta::text,
           coalesce(octet_length(payload::text), 0) + octet_length(meta::text) AS size_bytes,
           encode(event_sha256, 'hex') AS event_sha256, kafka_partition, kafka_offset, received_at, stored_at
    FROM trace_events
    WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s AND seq > %(after_seq)s
      AND (%(type)s::text IS NULL OR type = %(type)s)
      AND (%(actor)s::text IS NULL OR actor = %(actor)s)
    ORDER BY seq
    LIMIT %(limit)s
"""

ENVIRONMENT = """
    SELECT run_id, environment::text, encode(environment_sha256, 'hex') AS environment_sha256,
           kafka_partition, kafka_offset, captured_at
    FROM environment_snapshots
    WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
"""

TOPIC_ID = "SELECT topic_id FROM log_topics WHERE topic = %(topic)s"

TRACE = "SELECT document::text FROM trace_records WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s"


class PostgresRunStore:
    """`RunStore` on read-only connections."""

    def __init__(self, reads: PostgresReads) -> None:
        """Read by the connections of *reads*."""
        self._reads = reads

    async def answers(self) -> bool:
        """See `RunStore.answers`."""
        return await self._reads.answers()

    async def runs(
        self, tenant: str, admitted: RunFilter, *, after: RunPlace | None, limit: int
    ) -> tuple[Sequence[RunView], bool]:
        """Return at most *limit* runs, the newest first, and whether more follow."""
        parameters = {
            "tenant": tenant,
            "agent": admitted.agent,
            "status": admitted.status,
            "started_from": admitted.started_from,
            "started_before": admitted.started_before,
            "after_started": after and after.started_at,
            "after_run": after and after.run_id,
            "limit": limit + 1,  # one more tells whether there is a next page
        }
        async with self._reads.connection() as connection:
            rows = await (await connection.execute(LIST_RUNS, parameters)).fetchall()
        return [RunView(**row) for row in rows[:limit]], len(rows) > limit

    async def run(self, tenant: str, run_id: str) -> RunView | None:
        """Return one run; None if the tenant has no such run."""
        row = await self._one(ONE_RUN, tenant, run_id)
        return None if row is None else RunView(**row)

    async def events(
        self, tenant: str, run_id: str, admitted: EventFilter, *, after_seq: int, limit: int
    ) -> tuple[Sequence[EventView], bool]:
        """Return at most *limit* events by seq, fewer where they are large, and whether more follow."""
        parameters = {
            "tenant": tenant,
            "run_id": run_id,
            "type": admitted.type,
            "actor": admitted.actor,
            "after_seq": after_seq,
            "limit": limit + 1,
        }
        page: list[EventView] = []
        size_bytes = 0
        # Row by row: a page of the largest events must never be held whole.
        async with self._reads.connection() as connection, connection.cursor() as cursor:
            async for row in cursor.stream(LIST_EVENTS, parameters):
                if len(page) == limit or size_bytes > PAGE_BYTES_MAX:
                    return page, True
                size_bytes += row["size_bytes"]
                page.append(_event_view(row))
        return page, False

    async def environment(self, tenant: str, run_id: str) -> EnvironmentView | None:
        """Return the newest environment captured; None if there is none."""
        row = await self._one(ENVIRONMENT, tenant, run_id)
        if row is None:
            return None
        return EnvironmentView(
            run_id=row["run_id"],
            environment=msgspec.Raw(row["environment"]),
            environment_sha256=row["environment_sha256"],
            wal_id=_wal_id(row),
            captured_at=row["captured_at"],
        )

    async def integrity(self, tenant: str, run_id: str, *, home_partition: int | None) -> IntegrityView | None:
        """See `RunStore.integrity`."""
        parameters = {
            "tenant": tenant,
            "run_id": run_id,
            "ranges": MISSING_RANGES_MAX,
            "rejected": REJECTED_SHOWN_MAX,
            "removals": REMOVALS_SHOWN_MAX,
            "home": home_partition,
        }
        async with self._reads.connection() as connection:
            row = await (await connection.execute(INTEGRITY, parameters)).fetchone()
        return None if row is None else integrity_view(run_id, row)

    async def trace(self, tenant: str, run_id: str) -> str | None:
        """Return the trace record's JSON text; None until the run is finalized and stored."""
        row = await self._one(TRACE, tenant, run_id)
        return None if row is None else str(row["document"])

    async def effect(self, tenant: str, place: RecordPlace, identity: RecordIdentity) -> Effect | None:
        """Return what the record of *identity* at *place* came to; None if the tenant has nothing of it from there."""
        parameters = {
            "tenant": tenant,
            "partition": place.partition,
            "offset": place.offset,
            "run_id": identity.run_id,
            "event_sha256": identity.event_sha256,
            "environment": identity.environment,
        }
        async with self._reads.connection() as connection:
            row = await (await connection.execute(OUTCOME, parameters)).fetchone()
        return None if row is None else effect(row, place)

    async def topic_id(self, topic: str) -> str | None:
        """See `RunStore.topic_id`."""
        async with self._reads.connection() as connection:
            row = await (await connection.execute(TOPIC_ID, {"topic": topic})).fetchone()
        return None if row is None else str(row["topic_id"])

    async def run_states(self, asked: Sequence[tuple[RunKey, Sequence[EventIdentity]]]) -> Mapping[RunKey, RunState]:
        """
        Return what is stored of the runs that are asked about, and under the seqs and idempotency keys of the events.
        """
        async with self._reads.connection(urgent=True) as connection:
            return await stored_run_states.run_states(connection, asked)

    async def _one(self, statement: str, tenant: str, run_id: str) -> dict[str, Any] | None:
        async with self._reads.connection() as connection:
            return await (await connection.execute(statement, {"tenant": tenant, "run_id": run_id})).fetchone()


def _event_view(row: Mapping[str, Any]) -> EventView:
    return EventView(
        seq=row["seq"],
        t=row["t"],
        actor=row["actor"],
        type=row["type"],
        agent_id=row["agent_id"],
        payload=msgspec.Raw(row["payload"] or "null"),
        payload_ref=msgspec.Raw(row["payload_ref"] or "null"),
        meta=msgspec.Raw(row["meta"]),
        event_sha256=row["event_sha256"],
        wal_id=_wal_id(row),
        received_at=row["received_at"],
        stored_at=row["stored_at"],
    )


def _wal_id(row: Mapping[str, Any]) -> str:
    return RecordPlace(RUN_EVENTS.name, row["kafka_partition"], row["kafka_offset"]).wal_id
