-- User events: what the events group writes, processing updates and the gateway reads.
-- The exact text of a payload stays in the log; jsonb is for queries, and the digest of the text stands beside it.

CREATE TABLE event_users (
    tenant_id     text        NOT NULL,
    user_id       text        NOT NULL,
    first_seen_at timestamptz NOT NULL,  -- when the gateway received the first event that is stored
    PRIMARY KEY (tenant_id, user_id)
);

CREATE TABLE events (
    uid             bytea       NOT NULL,  -- digest of tenant_id, source, user_id and event_id: the event's identity
    tenant_id       text        NOT NULL,
    event_id        text        NOT NULL,
    source          text        NOT NULL,
    user_id         text,
    anonymous_id    text,
    session_id      text,
    run_id          text,
    type            text        NOT NULL,
    name            text,
    occurred_at     text,                  -- as it was sent; null where none was
    happened_at     timestamptz NOT NULL,  -- occurred_at as a moment; where none was sent, received_at
    clock           text        NOT NULL CHECK (clock IN ('ok', 'future', 'stale')),
    payload         jsonb       NOT NULL,
    context         jsonb,                 -- what else the sender's format says
    payload_sha256  bytea       NOT NULL,  -- of the text that was sent
    event_sha256    bytea       NOT NULL,
    properties      jsonb       NOT NULL,  -- derived from the payload
    authenticated   text        NOT NULL CHECK (authenticated IN ('token', 'key', 'direct')),
    user_verified   boolean     NOT NULL,  -- shown to its user
    submitted_by    text,
    task_id         uuid,
    status          text        NOT NULL CHECK (status IN ('pending', 'processed', 'failed')),
    attempts        integer     NOT NULL DEFAULT 0,
    error_class     text,
    error           text,
    result          jsonb,
    processed_at    timestamptz,           -- null where nothing processes events of its type
    kafka_partition integer     NOT NULL,
    kafka_offset    bigint      NOT NULL,
    received_at     timestamptz NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (uid),
    CONSTRAINT events_place UNIQUE (kafka_partition, kafka_offset),
    FOREIGN KEY (tenant_id, user_id) REFERENCES event_users ON DELETE CASCADE
);
CREATE INDEX events_by_id ON events (tenant_id, event_id);
CREATE INDEX events_of_user ON events (tenant_id, user_id, received_at DESC, kafka_partition DESC, kafka_offset DESC);
CREATE INDEX events_of_tenant ON events (tenant_id, received_at DESC, kafka_partition DESC, kafka_offset DESC);
CREATE INDEX events_unprocessed ON events (tenant_id, status, received_at) WHERE status <> 'processed';

-- Records that repeat a stored event at another place in the log.
CREATE TABLE event_duplicates (
    kafka_partition integer     NOT NULL,
    kafka_offset    bigint      NOT NULL,
    tenant_id       text        NOT NULL,
    event_id        text        NOT NULL,
    user_id         text,
    task_id         uuid,
    in_partition    integer     NOT NULL,  -- the place of the event that is stored
    in_offset       bigint      NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kafka_partition, kafka_offset)
);

CREATE INDEX event_duplicates_of_task ON event_duplicates (tenant_id, task_id);

-- Records that decode but break a rule, with their bytes.
CREATE TABLE event_rejections (
    kafka_partition integer     NOT NULL,
    kafka_offset    bigint      NOT NULL,
    tenant_id       text        NOT NULL,  -- as the record claims
    event_id        text        NOT NULL,
    user_id         text,
    task_id         uuid,
    reason          text        NOT NULL,
    detail          text        NOT NULL,
    key             bytea,
    value           bytea       NOT NULL,
    received_at     timestamptz NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kafka_partition, kafka_offset)
);
CREATE INDEX event_rejections_of_task ON event_rejections (tenant_id, task_id);

GRANT SELECT ON event_users, events, event_duplicates, event_rejections TO tidegate_read, tidegate_write;
GRANT INSERT, UPDATE ON event_users, events, event_duplicates, event_rejections TO tidegate_write;
GRANT DELETE ON event_duplicates, event_rejections TO tidegate_replay;
