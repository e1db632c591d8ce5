-- Agent runs: what persistence writes and the gateway reads.
-- JSON that came from outside is kept as `json`, not `jsonb`: the text with its numbers comes back as it was sent.

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidegate_read') THEN
        CREATE ROLE tidegate_read NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidegate_write') THEN
        CREATE ROLE tidegate_write NOLOGIN;
    END IF;
END $$;

CREATE TABLE runs (
    tenant_id            text        NOT NULL,
    run_id               text        NOT NULL,
    agent_id             text,                  -- of its first event; null until one is stored
    status               text        NOT NULL DEFAULT 'open'
                         CHECK (status IN ('open', 'succeeded', 'failed', 'cancelled', 'abandoned')),
    event_count          bigint      NOT NULL DEFAULT 0,  -- events stored
    last_seq             bigint      NOT NULL DEFAULT 0,  -- highest stored
    declared_event_count bigint,                -- what the client said on finalization
    started_at           timestamptz NOT NULL,  -- when the gateway received its first record
    updated_at           timestamptz NOT NULL,
    finalized_at         timestamptz,           -- null while open
    PRIMARY KEY (tenant_id, run_id)
);
CREATE INDEX runs_newest ON runs (tenant_id, started_at DESC, run_id DESC);

CREATE TABLE trace_events (
    tenant_id       text        NOT NULL,
    run_id          text        NOT NULL,
    seq             bigint      NOT NULL,
    idempotency_key text,
    t               text        NOT NULL,  -- as it was sent
    happened_at     timestamptz NOT NULL,  -- t as a moment
    actor           text        NOT NULL,
    type            text        NOT NULL,
    agent_id        text        NOT NULL,
    payload         json,                  -- null only where payload_ref is set
    payload_ref     json,
    meta            json        NOT NULL,
    event_sha256    bytea       NOT NULL,
    kafka_partition integer     NOT NULL,
    kafka_offset    bigint      NOT NULL,
    received_at     timestamptz NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, run_id, seq),
    CONSTRAINT trace_events_place UNIQUE (kafka_partition, kafka_offset)
);
CREATE UNIQUE INDEX trace_events_idempotency ON trace_events (tenant_id, run_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- Records that repeat a stored event at another place in the log.
CREATE TABLE duplicate_events (
    kafka_partition integer     NOT NULL,
    kafka_offset    bigint      NOT NULL,
    tenant_id       text        NOT NULL,
    run_id          text        NOT NULL,
    seq             bigint,                -- null for a repeated finalization
    stored_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kafka_partition, kafka_offset)
);
CREATE INDEX duplicate_events_run ON duplicate_events (tenant_id, run_id);

-- Records that decode but break a rule, with their bytes.
CREATE TABLE rejected_events (
    kafka_partition integer     NOT NULL,
    kafka_offset    bigint      NOT NULL,
    tenant_id       text        NOT NULL,  -- as the record claims: unproven where the signature is what failed
    run_id          text        NOT NULL,
    seq             bigint,                -- null where the record is no event
    reason          text        NOT NULL,
    detail          text        NOT NULL,
    key             bytea,
    value           bytea       NOT NULL,
    received_at     timestamptz NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kafka_partition, kafka_offset)
);
CREATE INDEX rejected_events_run ON rejected_events (tenant_id, run_id);

CREATE TABLE environment_snapshots (
    tenant_id          text        NOT NULL,
    run_id             text        NOT NULL,
    environment        json        NOT NULL,
    environment_sha256 bytea       NOT NULL,
    captured_at        timestamptz NOT NULL,
    kafka_partition    integer     NOT NULL,
    kafka_offset       bigint      NOT NULL,
    stored_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, run_id),
    CONSTRAINT environment_snapshots_place UNIQUE (kafka_partition, kafka_offset)
);

CREATE TABLE trace_records (
    tenant_id       text        NOT NULL,
    run_id          text        NOT NULL,
    status          text        NOT NULL,
    event_count     bigint      NOT NULL,
    chain_head      bytea       NOT NULL,
    document        json        NOT NULL,
    kafka_partition integer     NOT NULL,  -- place of the finalization
    kafka_offset    bigint      NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, run_id),
    CONSTRAINT trace_records_place UNIQUE (kafka_partition, kafka_offset)
);

GRANT SELECT ON ALL TABLES IN SCHEMA public TO tidegate_read, tidegate_write;
GRANT INSERT, UPDATE ON runs, trace_events, duplicate_events, rejected_events,
    environment_snapshots, trace_records TO tidegate_write;
