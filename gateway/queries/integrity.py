"""Whether a run is whole: the view, the statement, and what its row says."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.publisher import Receipt
from schemas.topics import RUN_EVENTS

MISSING_RANGES_MAX = 100  # shown; the counts are exact
REJECTED_SHOWN_MAX = 10


class MissingView(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers below the last stored one that no stored event has."""

    count: int
    range_count: int
    ranges: Annotated[
        Sequence[tuple[int, int]],
        Meta(description=f"First and last of each, the first {MISSING_RANGES_MAX}", examples=[[[3, 5], [8, 8]]]),
    ]


class RejectedView(msgspec.Struct, frozen=True, kw_only=True):
    """One record that broke a rule."""

    wal_id: str
    seq: Annotated[int | None, Meta(description="null where the record is no event")]
    reason: str
    detail: str
    stored_at: datetime


class RejectionsView(msgspec.Struct, frozen=True, kw_only=True):
    """Records that name this tenant and run, and broke a rule: kept with their bytes, not part of the run."""

    count: int
    reasons: Annotated[Mapping[str, int], Meta(description="How many of each", examples=[{"signature_invalid": 1}])]
    last: Annotated[Sequence[RejectedView], Meta(description=f"The newest {REJECTED_SHOWN_MAX}, the newest first")]


class SignaturesView(msgspec.Struct, frozen=True, kw_only=True):
    """Stored events by whether they bear a signature; one that does not verify is rejected, not stored."""

    signed: int
    unsigned: int


class RemovedView(msgspec.Struct, frozen=True, kw_only=True):
    """Events that retention took; what is said of missing and complete is as it was told before."""

    at: datetime
    event_count: int


class IntegrityView(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a run, and what is not."""

    run_id: str
    complete: Annotated[
        bool, Meta(description="Finalized, nothing missing, and as many events as were declared, if any number was")
    ]
    status: Annotated[str | None, Meta(description="null where every record of the run was rejected")]
    event_count: Annotated[int, Meta(description="Events stored")]
    declared_event_count: Annotated[int | None, Meta(description="What the client said on finalization, if it did")]
    last_seq: int
    missing: MissingView
    duplicates: Annotated[int, Meta(description="Records that repeat a stored one elsewhere in the log")]
    rejected: RejectionsView
    signatures: SignaturesView
    chain_head: Annotated[str | None, Meta(description="Of the trace record, as hex; null until there is one")]
    removed: Annotated[RemovedView | None, Meta(description="null unless retention took events that are not back")] = (
        None
    )


# One statement, and so one snapshot. What is missing comes from the primary key's index alone, in its order; whether
# events are signed takes their rows. A run of which everything was rejected has no row in runs.
INTEGRITY = """
    WITH counted AS (
        SELECT count(*) AS event_count, coalesce(max(seq), 0) AS last_seq,
               count(*) FILTER (WHERE meta ->> 'signature' IS NOT NULL) AS signed
        FROM trace_events
        WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
    ), numbered AS (
        SELECT seq, lag(seq, 1, 0::bigint) OVER (ORDER BY seq) AS before
        FROM trace_events
        WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
    ), missing AS (
        SELECT before + 1 AS first, seq - 1 AS last FROM numbered WHERE seq > before + 1
    ), rejected AS (
        SELECT kafka_partition, kafka_offset, seq, reason, detail, stored_at
        FROM rejected_events
        WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
    )
    SELECT run.status, run.declared_event_count, run.finalized_at, run.events_removed_at, run.events_removed_count,
           counted.event_count, counted.last_seq,
           counted.signed,
           (SELECT coalesce(sum(last - first + 1), 0)::bigint FROM missing) AS missing_count,
           (SELECT count(*) FROM missing) AS missing_range_count,
           (SELECT coalesce(json_agg(json_build_array(first, last) ORDER BY first), '[]')
            FROM (SELECT first, last FROM missing ORDER BY first LIMIT %(ranges)s) AS shown) AS missing_ranges,
           (SELECT count(*) FROM duplicate_events
            WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s) AS duplicates,
           (SELECT coalesce(json_object_agg(reason, records ORDER BY reason), '{}')
            FROM (SELECT reason, count(*) AS records FROM rejected GROUP BY reason) AS by_reason) AS reasons,
           (SELECT coalesce(json_agg(shown), '[]')
            FROM (SELECT * FROM rejected ORDER BY stored_at DESC, kafka_partition, kafka_offset DESC
                  LIMIT %(rejected)s) AS shown) AS last_rejected,
           encode(coalesce(trace.chain_head, run.events_removed_chain_head), 'hex') AS chain_head,
           trace.document::text AS trace
    FROM counted
    LEFT JOIN runs AS run ON run.tenant_id = %(tenant)s AND run.run_id = %(run_id)s
    LEFT JOIN trace_records AS trace ON trace.tenant_id = %(tenant)s AND trace.run_id = %(run_id)s
    WHERE run.run_id IS NOT NULL OR EXISTS (SELECT FROM rejected)
"""


def integrity_view(run_id: str, row: Mapping[str, Any]) -> IntegrityView:
    """What a row of `INTEGRITY` says of the run."""
    whole = row["missing_count"] == 0 and row["declared_event_count"] in (None, row["event_count"])
    complete = whole and row["finalized_at"] is not None
    missing = MissingView(
        count=row["missing_count"], range_count=row["missing_range_count"], ranges=row["missing_ranges"]
    )
    removed = None
    if row["events_removed_at"] is not None and row["event_count"] < row["events_removed_count"]:
        removed = RemovedView(at=row["events_removed_at"], event_count=row["events_removed_count"])
        complete, missing = _as_it_was_summed_up(row["trace"])
    return IntegrityView(
        run_id=run_id,
        complete=complete,
        status=row["status"],
        event_count=row["event_count"],
        declared_event_count=row["declared_event_count"],
        last_seq=row["last_seq"],
        missing=missing,
        duplicates=row["duplicates"],
        rejected=RejectionsView(
            count=sum(row["reasons"].values()),
            reasons=row["reasons"],
            last=[_rejected_view(each) for each in row["last_rejected"]],
        ),
        signatures=SignaturesView(signed=row["signed"], unsigned=row["event_count"] - row["signed"]),
        chain_head=row["chain_head"],
        removed=removed,
    )


class _Missing(msgspec.Struct):
    count: int
    ranges: list[tuple[int, int]]


class _Trace(msgspec.Struct):
    complete: bool
    missing: _Missing


def _as_it_was_summed_up(trace: str | None) -> tuple[bool, MissingView]:
    """Whether a run without its events was complete, and what was missing then; of an open one nothing is known."""
    if trace is None:
        return False, MissingView(count=0, range_count=0, ranges=[])
    was = msgspec.json.decode(trace, type=_Trace)
    return was.complete, MissingView(
        count=was.missing.count, range_count=len(was.missing.ranges), ranges=was.missing.ranges
    )


def _rejected_view(record: Mapping[str, Any]) -> RejectedView:
    return RejectedView(
        wal_id=Receipt(RUN_EVENTS.name, record["kafka_partition"], record["kafka_offset"]).wal_id,
        seq=record["seq"],
        reason=record["reason"],
        detail=record["detail"],
        stored_at=datetime.fromisoformat(record["stored_at"]),
    )
