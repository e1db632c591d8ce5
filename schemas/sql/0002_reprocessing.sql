-- Reprocessing: a replay stores what was rejected before, and with --overwrite writes rows anew. The live group may not.

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidegate_replay') THEN
        CREATE ROLE tidegate_replay NOLOGIN;
    END IF;
END $$;

GRANT tidegate_write TO tidegate_replay;
GRANT DELETE ON trace_events, duplicate_events, rejected_events TO tidegate_replay;
