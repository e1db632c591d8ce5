"""The store's knowledge of one position of the log: the SQL statement, and the conversion of its row."""

from collections.abc import Mapping
from typing import Any

from gateway.kafka.effect import Effect
from schemas.kafka.places import RecordPlace

# A record ends in one of these tables. Where it is in the log, its row must be of the same run and content, for a log
# that was cut off gives old places to new records. Places are keys of the first three; of the others the run is, where
# it is known. An environment whose place is gone was replaced by a later capture.
OUTCOME = """
    SELECT 'stored' AS outcome, NULL AS reason, NULL AS detail, kafka_partition, kafka_offset, stored_at
    FROM trace_events
    WHERE kafka_partition = %(partition)s AND kafka_offset = %(offset)s AND tenant_id = %(tenant)s
      AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
      AND (%(event_sha256)s::bytea IS NULL OR event_sha256 = %(event_sha256)s)
  UNION ALL
    SELECT 'rejected', reason, detail, kafka_partition, kafka_offset, stored_at
    FROM rejected_events
    WHERE kafka_partition = %(partition)s AND kafka_offset = %(offset)s AND tenant_id = %(tenant)s
      AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
  UNION ALL
    SELECT 'duplicate', NULL, NULL, coalesce(event.kafka_partition, closing.kafka_partition),
           coalesce(event.kafka_offset, closing.kafka_offset), duplicate.stored_at
    FROM duplicate_events AS duplicate
    LEFT JOIN trace_events AS event USING (tenant_id, run_id, seq)
    LEFT JOIN trace_records AS closing ON duplicate.seq IS NULL
        AND closing.tenant_id = duplicate.tenant_id AND closing.run_id = duplicate.run_id
    WHERE duplicate.kafka_partition = %(partition)s AND duplicate.kafka_offset = %(offset)s
      AND duplicate.tenant_id = %(tenant)s
      AND (%(run_id)s::text IS NULL OR duplicate.run_id = %(run_id)s)
  UNION ALL
    SELECT 'stored', NULL, NULL, kafka_partition, kafka_offset, stored_at
    FROM trace_records
    WHERE kafka_partition = %(partition)s AND kafka_offset = %(offset)s AND tenant_id = %(tenant)s
      AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
  UNION ALL
    SELECT CASE WHEN (kafka_partition, kafka_offset) = (%(partition)s, %(offset)s) THEN 'stored' ELSE 'replaced' END,
           NULL, NULL, kafka_partition, kafka_offset, stored_at
    FROM environment_snapshots
    WHERE tenant_id = %(tenant)s AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
      AND (%(run_id)s::text IS NOT NULL OR kafka_partition = %(partition)s)
      AND ((kafka_partition, kafka_offset) = (%(partition)s, %(offset)s)
           OR (%(environment)s AND (kafka_offset > %(offset)s
                                    OR (%(run_id)s::text IS NOT NULL AND kafka_partition <> %(partition)s))))
  LIMIT 1
"""


def effect(row: Mapping[str, Any], place: RecordPlace) -> Effect:
    """Return what a row of `OUTCOME` says of the record at *place*."""
    elsewhere = row["outcome"] in ("duplicate", "replaced") and row["kafka_offset"] is not None
    return Effect(
        outcome=row["outcome"],
        reason=row["reason"],
        detail=row["detail"],
        in_place_of=RecordPlace(place.topic, row["kafka_partition"], row["kafka_offset"]).wal_id if elsewhere else None,
        at=row["stored_at"],
    )
