"""The statements of maintenance. Runs are locked before they are judged; every deletion names what was judged."""

# Page by page through the primary key. How old is old is another for each tenant: `own` has those that differ, and no
# moment where a tenant keeps all.
OLD_RUNS = """
    SELECT runs.tenant_id, runs.run_id, runs.event_count
    FROM runs
    LEFT JOIN unnest(%(tenants)s::text[], %(cutoffs)s::timestamptz[]) AS own (tenant_id, cutoff)
        ON own.tenant_id = runs.tenant_id
    WHERE (runs.tenant_id, runs.run_id) > (%(after_tenant)s, %(after_run)s) AND runs.event_count > 0
      AND runs.updated_at < CASE WHEN own.tenant_id IS NULL THEN %(cutoff)s::timestamptz ELSE own.cutoff END
    ORDER BY runs.tenant_id, runs.run_id
    LIMIT %(limit)s
"""

# Whoever writes to a run locks it first: what is locked here does not change until the transaction ends. A run that
# somebody writes to is not removed, and nobody waits.
LOCK_RUNS = """
    SELECT tenant_id, run_id FROM runs
    WHERE (tenant_id, run_id) IN (SELECT * FROM unnest(%(tenants)s::text[], %(runs)s::text[]))
    ORDER BY tenant_id, run_id
    FOR UPDATE SKIP LOCKED
"""

# A row for each partition that a run's events or their duplicates came from. Sizes as they are stored, which costs no
# look at what is kept apart.
RUN_FACTS = """
    SELECT runs.tenant_id, runs.run_id, runs.updated_at, part.kafka_partition, part.last_offset, part.event_count,
           part.size_bytes, part.last_stored_at,
           EXISTS (SELECT FROM trace_records AS trace
                   WHERE trace.tenant_id = runs.tenant_id AND trace.run_id = runs.run_id) AS has_trace
    FROM unnest(%(tenants)s::text[], %(runs)s::text[]) AS asked (tenant_id, run_id)
    JOIN runs USING (tenant_id, run_id)
    CROSS JOIN LATERAL (
        SELECT kafka_partition, max(kafka_offset) AS last_offset, count(*) AS event_count,
               sum(coalesce(pg_column_size(payload), 0) + pg_column_size(meta))::bigint AS size_bytes,
               max(stored_at) AS last_stored_at
        FROM trace_events AS event
        WHERE event.tenant_id = runs.tenant_id AND event.run_id = runs.run_id
        GROUP BY kafka_partition
      UNION ALL
        SELECT kafka_partition, max(kafka_offset), 0, 0, max(stored_at)
        FROM duplicate_events AS duplicate
        WHERE duplicate.tenant_id = runs.tenant_id AND duplicate.run_id = runs.run_id
        GROUP BY kafka_partition
    ) AS part
"""

# Where the chain of a run goes on from, while removed events are not stored again.
CHAIN_BEFORE = """
    SELECT events_removed_chain_head FROM runs
    WHERE tenant_id = %s AND run_id = %s AND events_removed_count > 0 AND events_removed_chain_head IS NOT NULL
"""

CHAIN = "SELECT seq, event_sha256 FROM trace_events WHERE tenant_id = %s AND run_id = %s ORDER BY seq"

# Without the events that an earlier removal's head covers, though a replay has stored them again.
CHAIN_SINCE = """
    SELECT seq, event_sha256 FROM trace_events AS event
    WHERE tenant_id = %s AND run_id = %s
      AND NOT EXISTS (SELECT FROM event_removals AS removal
                      WHERE removal.tenant_id = event.tenant_id AND removal.run_id = event.run_id
                        AND event.seq::numeric <@ removal.seqs)
    ORDER BY seq
"""

TRACE_HEAD = "SELECT chain_head FROM trace_records WHERE tenant_id = %s AND run_id = %s"

DELETE_EVENTS = """
    DELETE FROM trace_events
    WHERE (tenant_id, run_id) IN (SELECT * FROM unnest(%(tenants)s::text[], %(runs)s::text[]))
"""

DELETE_DUPLICATES = """
    DELETE FROM duplicate_events
    WHERE (tenant_id, run_id) IN (SELECT * FROM unnest(%(tenants)s::text[], %(runs)s::text[]))
"""

# Before the deletion. Consecutive seqs become one range first, so that a long run takes no more memory than a short.
MARK_RUNS = """
    WITH gone AS (
        SELECT * FROM unnest(%(tenants)s::text[], %(runs)s::text[], %(heads)s::bytea[])
            AS gone (tenant_id, run_id, head)
    ), islands AS (
        SELECT tenant_id, run_id, numrange(min(seq)::numeric, max(seq)::numeric + 1) AS seqs, count(*) AS events
        FROM (SELECT tenant_id, run_id, seq,
                     seq - row_number() OVER (PARTITION BY tenant_id, run_id ORDER BY seq) AS island
              FROM trace_events JOIN gone USING (tenant_id, run_id)) AS numbered
        GROUP BY tenant_id, run_id, island
    ), removed AS (
        SELECT tenant_id, run_id, range_agg(seqs) AS seqs, sum(events)::bigint AS events
        FROM islands GROUP BY tenant_id, run_id
    ), remembered AS (
        INSERT INTO event_removals (tenant_id, run_id, seqs, event_count, chain_head)
        SELECT tenant_id, run_id, seqs, events, head FROM removed JOIN gone USING (tenant_id, run_id)
    )
    UPDATE runs SET event_count = 0, events_removed_at = now(),
        events_removed_seqs = runs.events_removed_seqs + removed.seqs,
        events_removed_count = runs.events_removed_count + removed.events,
        events_removed_chain_head = gone.head
    FROM removed JOIN gone USING (tenant_id, run_id)
    WHERE (runs.tenant_id, runs.run_id) = (removed.tenant_id, removed.run_id)
"""

OLD_REJECTED = """
    SELECT rejected.tenant_id, kafka_partition, kafka_offset, stored_at, octet_length(value) AS size_bytes
    FROM rejected_events AS rejected
    LEFT JOIN unnest(%(tenants)s::text[], %(cutoffs)s::timestamptz[]) AS own (tenant_id, cutoff)
        ON own.tenant_id = rejected.tenant_id
    WHERE (kafka_partition, kafka_offset) > (%(after_partition)s, %(after_offset)s)
      AND stored_at < CASE WHEN own.tenant_id IS NULL THEN %(cutoff)s::timestamptz ELSE own.cutoff END
    ORDER BY kafka_partition, kafka_offset
    LIMIT %(limit)s
"""

DELETE_REJECTED = """
    DELETE FROM rejected_events
    WHERE (kafka_partition, kafka_offset) IN (SELECT * FROM unnest(%(partitions)s::integer[], %(offsets)s::bigint[]))
"""

REFERRING_EVENTS = """
    SELECT DISTINCT payload_ref ->> 'key' AS key, tenant_id, run_id
    FROM trace_events
    WHERE payload_ref IS NOT NULL AND payload_ref ->> 'key' = ANY(%(keys)s)
"""

# A record with a reference has no payload: a larger record has none.
REFERRING_REJECTED = """
    SELECT tenant_id, kafka_partition, kafka_offset, stored_at, octet_length(value) AS size_bytes, value
    FROM rejected_events
    WHERE (tenant_id, run_id) IN (SELECT DISTINCT * FROM unnest(%(tenants)s::text[], %(runs)s::text[]))
      AND octet_length(value) <= %(size_bytes_max)s
"""

# By when its events were stored as well: a direct producer's clock may be years behind. OFFSET keeps that a look at one
# run's events each: joined, it could become one at all events there are.
ABANDON_RUNS = """
    UPDATE runs SET status = 'abandoned'
    WHERE (tenant_id, run_id) IN (
        SELECT tenant_id, run_id FROM runs AS idle
        WHERE status = 'open' AND updated_at < %(cutoff)s
          AND NOT EXISTS (SELECT FROM trace_events AS event
                          WHERE event.tenant_id = idle.tenant_id AND event.run_id = idle.run_id
                            AND event.stored_at >= %(cutoff)s
                          OFFSET 0)
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
"""

TRY_LOCK = "SELECT pg_try_advisory_lock(%s)"
