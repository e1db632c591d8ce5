-- Which events of a run retention removed, by seq, and the head of its hash chain at each removal. A count cannot tell
-- events that came later from removed ones that a replay stored again.
-- The ranges are of numeric, half open: the end of a range that holds the highest seq does not fit in a bigint.

ALTER TABLE runs ADD COLUMN events_removed_seqs nummultirange NOT NULL DEFAULT '{}';  -- removed, and not stored again

CREATE TABLE event_removals (
    tenant_id   text          NOT NULL,
    run_id      text          NOT NULL,
    removed_at  timestamptz   NOT NULL DEFAULT now(),
    seqs        nummultirange NOT NULL,
    event_count bigint        NOT NULL,
    chain_head  bytea         NOT NULL,  -- of the run before the removal: earlier exports are verified against it
    PRIMARY KEY (tenant_id, run_id, removed_at)
);

-- Of an earlier removal only the count is known. Its seqs are all up to the last one, without those that are stored or
-- that the trace record lists as missing.
WITH removed AS (
    SELECT run.tenant_id, run.run_id, run.events_removed_at, run.events_removed_count,
           coalesce(trace.chain_head, run.events_removed_chain_head) AS chain_head,
           nummultirange(numrange(1, greatest(run.last_seq, run.events_removed_count)::numeric + 1))
           - coalesce((SELECT range_agg(numrange(event.seq::numeric, event.seq::numeric + 1))
                       FROM trace_events AS event
                       WHERE event.tenant_id = run.tenant_id AND event.run_id = run.run_id), '{}')
           - coalesce((SELECT range_agg(numrange((gap ->> 0)::numeric, (gap ->> 1)::numeric + 1))
                       FROM json_array_elements(trace.document -> 'missing' -> 'ranges') AS gap
                       WHERE trace.document -> 'events_removed' IS NULL), '{}') AS seqs
    FROM runs AS run
    LEFT JOIN trace_records AS trace USING (tenant_id, run_id)
    WHERE run.events_removed_at IS NOT NULL AND run.event_count < run.events_removed_count
), remembered AS (
    INSERT INTO event_removals (tenant_id, run_id, removed_at, seqs, event_count, chain_head)
    SELECT tenant_id, run_id, events_removed_at, seqs, events_removed_count, chain_head
    FROM removed WHERE chain_head IS NOT NULL
)
UPDATE runs SET events_removed_seqs = removed.seqs, events_removed_chain_head = removed.chain_head
FROM removed WHERE (runs.tenant_id, runs.run_id) = (removed.tenant_id, removed.run_id);

-- From now on the count is that of events_removed_seqs.
UPDATE runs SET events_removed_count = (
    SELECT coalesce(sum(upper(seqs) - lower(seqs)), 0)::bigint FROM unnest(events_removed_seqs) AS seqs
)
WHERE events_removed_at IS NOT NULL;

GRANT SELECT ON event_removals TO tidegate_read, tidegate_write, tidegate_maintain;
GRANT INSERT ON event_removals TO tidegate_maintain;
GRANT UPDATE (events_removed_seqs) ON runs TO tidegate_maintain;
