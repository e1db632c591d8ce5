"""The completeness of a run: the view, the SQL statement, and the conversion of its row."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.kafka.places import RecordPlace
from schemas.runs.topics import RUN_EVENTS

MISSING_RANGES_MAX = 100  # shown; the counts are exact
REJECTED_SHOWN_MAX = 10
REMOVALS_SHOWN_MAX = 10


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
    """Records that name this tenant and run but broke a rule: kept with their bytes, not part of the run."""

    count: int
    reasons: Annotated[Mapping[str, int], Meta(description="How many of each", examples=[{"signature_invalid": 1}])]
    last: Annotated[Sequence[RejectedView], Meta(description=f"The newest {REJECTED_SHOWN_MAX}, the newest first")]


class SignaturesView(msgspec.Struct, frozen=True, kw_only=True):
    """Stored events by whether they have a signature; one that does not verify is rejected, not stored."""

    signed: int
    unsigned: int


class RemovalView(msgspec.Struct, frozen=True, kw_only=True):
    """One removal of events by retention."""

    at: datetime
    event_count: int
    chain_head: Annotated[str, Meta(description="Of the run before it, as hex: verify exports from then with it")]


class RemovedView(msgspec.Struct, frozen=True, kw_only=True):
    """Events that retention removed and that are not stored again; they do not count as missing."""

    at: Annotated[datetime, Meta(description="The last removal")]
    event_count: int
    ranges: Annotated[
        Sequence[tuple[int, int]],
        Meta(description=f"First and last of each, the first {MISSING_RANGES_MAX}", examples=[[[1, 3]]]),
    ]
    removals: Annotated[Sequence[RemovalView], Meta(description=f"The newest {REMOVALS_SHOWN_MAX}, the newest first")]


class IntegrityView(msgspec.Struct, frozen=True, kw_only=True):
    """Completeness of a stored run: its event count, gaps, duplicates and rejected records."""

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
    chain_head: Annotated[
        str | None,
        Meta(description="Of the trace record, as hex; without one that at the last removal, or null"),
    ]
    wrong_partition: Annotated[
        int | None,
        Meta(
            description="Records of the run (its stored events, its end) in another partition than its key's, because "
            "their producer does not use murmur2: their order against the others is not that of the log. null while "
            "Kafka does not answer"
        ),
    ] = None
    removed: Annotated[
        RemovedView | None, Meta(description="null unless retention removed events that are not stored again")
    ] = None


# One statement, and so one snapshot. What is missing comes from the primary key's index alone, in its order; whether
# events are signed takes their rows. A run of which everything was rejected has no row in runs.
INTEGRITY = """
    WITH counted AS (
        SELECT count(*) AS event_count, coalesce(max(seq), 0) AS last_seq,
               count(*) FILTER (WHERE meta ->> 'signature' IS NOT NULL) AS signed,
               count(*) FILTER (WHERE kafka_partition <> %(home)s::integer AND kafka_partition >= 0) AS misplaced
        FROM trace_events
        WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
    ), numbered AS (
        SELECT seq, lag(seq, 1, 0::bigint) OVER (ORDER BY seq) AS before
        FROM trace_events
        WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
    ), removed AS (
        SELECT events_removed_seqs AS seqs FROM runs WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
    ), missing AS (
        -- Up to the last seq that is stored or removed, as ranges of numeric: [first, last + 1).
        SELECT unnest(
            (SELECT coalesce(range_agg(numrange(before::numeric + 1, seq::numeric)), '{}')
             FROM numbered WHERE seq > before + 1) - removed.seqs
            + (nummultirange(numrange(counted.last_seq::numeric + 1,
                                      greatest(counted.last_seq::numeric + 1, upper(removed.seqs)))) - removed.seqs)
        ) AS range
        FROM counted, removed
    ), rejected AS (
        SELECT kafka_partition, kafka_offset, seq, reason, detail, stored_at
        FROM rejected_events
        WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
    )
    SELECT run.status, run.declared_event_count, run.finalized_at, run.events_removed_at,
           coalesce(run.events_removed_count, 0) AS events_removed_count,
           counted.event_count, counted.last_seq,
           counted.signed, counted.misplaced, %(home)s::integer AS home,
           trace.kafka_partition AS end_partition,
           (SELECT coalesce(sum(upper(range) - lower(range)), 0)::bigint FROM missing) AS missing_count,
           (SELECT count(*) FROM missing) AS missing_range_count,
           (SELECT coalesce(json_agg(json_build_array(lower(range), upper(range) - 1) ORDER BY lower(range)), '[]')
            FROM (SELECT range FROM missing ORDER BY lower(range) LIMIT %(ranges)s) AS shown) AS missing_ranges,
           (SELECT coalesce(json_agg(json_build_array(lower(range), upper(range) - 1) ORDER BY lower(range)), '[]')
            FROM (SELECT range FROM removed, unnest(removed.seqs) AS range ORDER BY lower(range)
                  LIMIT %(ranges)s) AS shown) AS removed_ranges,
           (SELECT coalesce(json_agg(shown), '[]')
            FROM (SELECT removed_at AS at, event_count, encode(chain_head, 'hex') AS chain_head
                  FROM event_removals WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
                  ORDER BY removed_at DESC LIMIT %(removals)s) AS shown) AS removals,
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
    """Return what a row of `INTEGRITY` says of the run."""
    whole = row["missing_count"] == 0 and row["declared_event_count"] in (None, row["event_count"])
    complete = whole and row["finalized_at"] is not None
    missing = MissingView(
        count=row["missing_count"], range_count=row["missing_range_count"], ranges=row["missing_ranges"]
    )
    removed = None
    if row["events_removed_count"]:
        removed = RemovedView(
            at=row["events_removed_at"],
            event_count=row["events_removed_count"],
            ranges=row["removed_ranges"],
            removals=[_removal_view(each) for each in row["removals"]],
        )
        complete = _was_complete(row["trace"])
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
        wrong_partition=_misplaced(row),
        removed=removed,
    )


class _Trace(msgspec.Struct):
    complete: bool


def _was_complete(trace: str | None) -> bool:
    """Return True if a run that lost events to retention was complete when it was summed up."""
    return trace is not None and msgspec.json.decode(trace, type=_Trace).complete


def _misplaced(row: Mapping[str, Any]) -> int | None:
    if row["home"] is None:
        return None
    end = row["end_partition"]
    # A negative partition is a place that the log has lost.
    return int(row["misplaced"]) + (end is not None and end >= 0 and end != row["home"])


def _removal_view(removal: Mapping[str, Any]) -> RemovalView:
    return RemovalView(
        at=datetime.fromisoformat(removal["at"]),
        event_count=removal["event_count"],
        chain_head=removal["chain_head"],
    )


def _rejected_view(record: Mapping[str, Any]) -> RejectedView:
    return RejectedView(
        wal_id=RecordPlace(RUN_EVENTS.name, record["kafka_partition"], record["kafka_offset"]).wal_id,
        seq=record["seq"],
        reason=record["reason"],
        detail=record["detail"],
        stored_at=datetime.fromisoformat(record["stored_at"]),
    )
