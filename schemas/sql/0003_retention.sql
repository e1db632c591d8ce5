-- Retention: a run may lose its events and keep its row, its environment and its trace record. What removes them has a
-- role of its own: it deletes and marks, and can neither add an event nor change one.

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidegate_maintain') THEN
        CREATE ROLE tidegate_maintain NOLOGIN;
    END IF;
END $$;

ALTER TABLE runs
    ADD COLUMN events_removed_at         timestamptz,                -- null: retention took nothing from it
    ADD COLUMN events_removed_count      bigint NOT NULL DEFAULT 0,  -- they are back once event_count is no less
    ADD COLUMN events_removed_chain_head bytea;                      -- of a run without a trace record, as it was then

-- The predicate alone is updated, and rarely: updates of open runs stay within their page.
CREATE INDEX runs_open ON runs (tenant_id, run_id) WHERE status = 'open';
-- Which stored events refer to an object.
CREATE INDEX trace_events_objects ON trace_events ((payload_ref ->> 'key')) WHERE payload_ref IS NOT NULL;

GRANT SELECT ON runs, trace_events, duplicate_events, rejected_events, trace_records, schema_migrations
    TO tidegate_maintain;
GRANT UPDATE (status, event_count, events_removed_at, events_removed_count, events_removed_chain_head) ON runs
    TO tidegate_maintain;
GRANT DELETE ON trace_events, duplicate_events, rejected_events TO tidegate_maintain;
