-- Documents: what the groups documents.intake, documents.embed and documents.store write, and the gateway reads.
-- `documents` has a row for each document that ever was, deleted ones too: a late record of an old revision meets it.
-- The chunks stand in a table for each embedder, made by add_document_embedder: rows in it are of live versions only.

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidegate_documents') THEN
        CREATE ROLE tidegate_documents NOLOGIN;
    END IF;
END $$;
-- Both are trusted extensions. Without them everything but documents works, and doctor says what is missing.
DO $$ BEGIN
    CREATE EXTENSION IF NOT EXISTS vector;
    CREATE EXTENSION IF NOT EXISTS btree_gin;
EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
    RAISE NOTICE 'pgvector or btree_gin is not installed: documents cannot be stored';
END $$;

CREATE TABLE document_embedders (
    embedder   text        NOT NULL PRIMARY KEY,  -- the id: a SHA-256 of all that decides about its vectors
    name       text        NOT NULL,
    dimensions integer     NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
    chunks     name        NOT NULL UNIQUE,       -- the table of its chunks
    canonical  bytea       NOT NULL,              -- the vectors of three known texts: another process must get the same
    added_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp()  -- a process that has it started: of one name, the last counts
);

CREATE TABLE document_collections (
    tenant_id   text        NOT NULL,
    collection  text        NOT NULL,
    embedder    text        NOT NULL REFERENCES document_embedders,  -- the active one, which searches use
    building    text        REFERENCES document_embedders,           -- the one that takes its place when all is embedded
    builds      integer     NOT NULL DEFAULT 0,                      -- how many were begun: the number of the newest
    built_since timestamptz,                                         -- what failed before is tried once more
    skips_failed boolean    NOT NULL DEFAULT false,                  -- what fails does not hold the change up
    leaving     text[]      NOT NULL DEFAULT '{}',                   -- embedders whose chunks are to be deleted
    config      regconfig   NOT NULL DEFAULT 'english',
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, collection)
);
CREATE INDEX document_collections_building ON document_collections (tenant_id, collection)
    WHERE building IS NOT NULL OR leaving <> '{}';

CREATE TABLE documents (
    tenant_id         text        NOT NULL,
    collection        text        NOT NULL,
    document          text        NOT NULL,
    partition         integer     NOT NULL,  -- of document.commands: offsets of one partition are in order
    latest_revision   bigint      NOT NULL,  -- of its newest Put or Delete
    live_revision     bigint,                -- null: no version is live
    live_job          uuid,                  -- whose text it is
    deleted_revision  bigint,                -- of its newest Delete; it outlives the log's retention
    building_revision bigint,                -- the one whose chunks the collection's next embedder has,
    build             integer,               -- in the build of this number: a later one begins with nothing
    text_sha256       bytea,
    parser            text,
    chunker           text,
    characters        integer,
    chunks            integer,
    missing           jsonb,                 -- chunks that were left out
    metadata          jsonb,
    stored_at         timestamptz,
    updated_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, collection, document)
) WITH (fillfactor = 80);
CREATE INDEX documents_live ON documents (tenant_id, collection, document) WHERE live_revision IS NOT NULL;
CREATE INDEX documents_metadata ON documents USING gin (metadata jsonb_path_ops);
CREATE INDEX documents_of_partition ON documents (tenant_id, collection, partition);

CREATE TABLE document_jobs (
    job_id         uuid        NOT NULL PRIMARY KEY,
    tenant_id      text        NOT NULL,
    collection     text        NOT NULL,
    document       text        NOT NULL,
    partition      integer     NOT NULL,
    revision       bigint      NOT NULL,
    kind           text        NOT NULL CHECK (kind IN ('put', 'delete', 'reembed')),
    phase          text        NOT NULL DEFAULT 'submitted',
    priority       smallint    NOT NULL,
    lane           text        NOT NULL,
    cost           bigint      NOT NULL,             -- characters; of a file that is not parsed yet an estimate
    max_retries    smallint    NOT NULL,
    skips_bad      boolean     NOT NULL DEFAULT false,
    generation     integer     NOT NULL DEFAULT 1,   -- grows with each retry by hand
    starts         smallint    NOT NULL DEFAULT 0,   -- of this generation, that have not come to an end
    attempts       smallint    NOT NULL DEFAULT 0,   -- of this generation, that failed
    version        integer     NOT NULL DEFAULT 1,
    embedders      text[]      NOT NULL DEFAULT '{}',
    is_markdown    boolean     NOT NULL DEFAULT false,
    source         jsonb,                            -- content_type, filename and, of a kept file, its reference
    parser         text,                             -- how the text came out of what was sent
    text_sha256    bytea,
    metadata       jsonb,
    chunks         integer,
    chunks_done    integer,
    error          jsonb,                            -- stage, reason, detail and chunk
    parts          jsonb,                            -- of a file: the documents that it became
    parent_job     uuid,
    submitted_by   text,
    traceparent    text,
    content_sha256 bytea,
    submitted_at   timestamptz NOT NULL,             -- when the gateway received it
    queued_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    begun_at       timestamptz,
    chunked_at     timestamptz,
    embedded_at    timestamptz,
    ended_at       timestamptz
) WITH (fillfactor = 70);
CREATE INDEX document_jobs_newest ON document_jobs (tenant_id, submitted_at DESC, job_id DESC);
CREATE INDEX document_jobs_of_phase ON document_jobs (tenant_id, phase, submitted_at DESC, job_id DESC)
    WHERE phase IN ('failed', 'cancelled', 'superseded');
CREATE INDEX document_jobs_of_document ON document_jobs (tenant_id, collection, document, revision DESC);
CREATE INDEX document_jobs_of_parent ON document_jobs (parent_job) WHERE parent_job IS NOT NULL;
CREATE INDEX document_jobs_in_flight ON document_jobs (lane, queued_at) INCLUDE (cost) WHERE ended_at IS NULL;
-- What waits for its next attempt is in no embedder's queue.
CREATE INDEX document_jobs_tried ON document_jobs (lane) INCLUDE (cost) WHERE ended_at IS NULL AND attempts > 0;
CREATE INDEX document_jobs_in_flight_of_tenant ON document_jobs (tenant_id) WHERE ended_at IS NULL;
CREATE INDEX document_jobs_unstored ON document_jobs (embedded_at) INCLUDE (cost)
    WHERE ended_at IS NULL AND embedded_at IS NOT NULL;
-- What a build must not begin again: few rows, while those of builds that are over would be many.
CREATE INDEX document_jobs_of_builds ON document_jobs (tenant_id, collection, document)
    WHERE kind = 'reembed' AND (ended_at IS NULL OR phase = 'failed');
CREATE INDEX document_jobs_ended ON document_jobs (tenant_id, ended_at, job_id) WHERE ended_at IS NOT NULL;

-- The text of a job that is in flight, failed or live: normalised; of a file its bytes until it is parsed.
CREATE TABLE document_texts (
    job_id uuid  NOT NULL PRIMARY KEY,
    text   text,
    source bytea
);
ALTER TABLE document_texts ALTER COLUMN source SET STORAGE EXTERNAL;

-- A cache, by the content of a chunk: an attempt that died, and an edited document, find most of their vectors.
CREATE TABLE document_vectors (
    tenant_id text        NOT NULL,
    embedder  text        NOT NULL,
    sha256    bytea       NOT NULL,
    vector    bytea       NOT NULL,  -- float16, little-endian
    used_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, embedder, sha256)
);
CREATE INDEX document_vectors_oldest ON document_vectors (used_at);

-- How many jobs were submitted and came to each end: what is in flight of a lane is the difference, without a look at
-- the jobs. A row for each partition: only its groups wait for each other.
CREATE TABLE document_totals (
    tenant_id text    NOT NULL,
    partition integer NOT NULL,
    outcome   text    NOT NULL,  -- submitted, or the phase of the end
    lane      text    NOT NULL,
    count     bigint  NOT NULL,
    cost      bigint  NOT NULL,
    PRIMARY KEY (tenant_id, partition, outcome, lane)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE document_changes (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id      uuid        NOT NULL,
    tenant_id   text        NOT NULL,
    collection  text        NOT NULL,
    document    text        NOT NULL,
    version     integer     NOT NULL,
    revision    bigint      NOT NULL,
    phase       text        NOT NULL,
    chunks_done integer,
    chunks      integer,
    error       text,
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- The outcome of each command, by its place in the log.
CREATE TABLE document_commands (
    kafka_partition integer     NOT NULL,
    kafka_offset    bigint      NOT NULL,
    tenant_id       text        NOT NULL,
    command_id      text        NOT NULL,  -- the id of its record
    job_id          uuid,                  -- null: of a whole collection
    kind            text        NOT NULL,  -- put, delete, delete_collection, cancel, retry, reembed
    outcome         text        NOT NULL CHECK (outcome IN ('stored', 'duplicate', 'refused')),
    detail          text,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kafka_partition, kafka_offset)
);
CREATE UNIQUE INDEX document_commands_of_id ON document_commands (command_id)
    WHERE kind NOT IN ('put', 'delete') AND outcome <> 'duplicate';
CREATE INDEX document_commands_oldest ON document_commands (stored_at);

-- Records that decode but break a rule, with their bytes.
CREATE TABLE document_rejections (
    kafka_partition integer     NOT NULL,
    kafka_offset    bigint      NOT NULL,
    tenant_id       text        NOT NULL,  -- as the record claims
    target          text        NOT NULL,
    reason          text        NOT NULL,
    detail          text        NOT NULL,
    key             bytea,
    value           bytea       NOT NULL,
    received_at     timestamptz NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kafka_partition, kafka_offset)
);
CREATE INDEX document_rejections_oldest ON document_rejections (stored_at);

-- The table of an embedder's chunks: processors have no right to create tables, and call this instead.
CREATE FUNCTION add_document_embedder(id text, called text, size integer, known bytea) RETURNS name
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '10s' AS $$
DECLARE
    part name := 'document_chunks_' || left(id, 16);
BEGIN
    IF id !~ '^[0-9a-f]{64}$' THEN
        RAISE EXCEPTION 'the id of an embedder is a SHA-256 in hex' USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('add_document_embedder'));
    UPDATE document_embedders SET seen_at = clock_timestamp() WHERE embedder = id;
    IF FOUND THEN
        RETURN part;
    END IF;
    EXECUTE format('CREATE TABLE %I (
        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant_id  text      NOT NULL,
        collection text      NOT NULL,
        document   text      NOT NULL,
        ordinal    integer   NOT NULL,
        start_at   integer   NOT NULL,
        end_at     integer   NOT NULL,
        sha256     bytea     NOT NULL,
        heading    text,
        text       text      NOT NULL,
        config     regconfig NOT NULL,
        words      tsvector  NOT NULL GENERATED ALWAYS AS
                   (to_tsvector(config, replace(coalesce(heading || E''\n'', '''') || text, ''/'', '' ''))) STORED,
        vector     halfvec(%s) NOT NULL
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02)', part, size);
    EXECUTE format('ALTER TABLE %I ALTER COLUMN vector SET STORAGE PLAIN', part);
    EXECUTE format('CREATE INDEX %I ON %I (tenant_id, collection, document)', part || '_of_document', part);
    EXECUTE format('CREATE INDEX %I ON %I USING gin (tenant_id, collection, words)', part || '_words', part);
    EXECUTE format('CREATE INDEX %I ON %I USING hnsw (vector halfvec_ip_ops) WITH (m = 16, ef_construction = 64)',
        part || '_vector', part);
    EXECUTE format('GRANT SELECT ON %I TO tidegate_read', part);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO tidegate_documents', part);
    INSERT INTO document_embedders (embedder, name, dimensions, chunks, canonical) VALUES (id, called, size, part, known);
    RETURN part;
END $$;
REVOKE ALL ON FUNCTION add_document_embedder(text, text, integer, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION add_document_embedder(text, text, integer, bytea) TO tidegate_documents;

GRANT SELECT ON document_embedders, document_collections, documents, document_jobs, document_texts, document_totals,
    document_changes, document_commands, document_rejections TO tidegate_read, tidegate_documents;
GRANT INSERT, UPDATE, DELETE ON document_collections, documents, document_jobs, document_texts, document_totals,
    document_changes TO tidegate_documents;
GRANT SELECT, INSERT, UPDATE, DELETE ON document_vectors TO tidegate_documents;
GRANT INSERT, DELETE ON document_commands, document_rejections TO tidegate_documents;
GRANT SELECT ON schema_migrations, log_topics TO tidegate_documents;
GRANT INSERT ON log_topics TO tidegate_documents;
GRANT DELETE ON document_commands, document_rejections TO tidegate_replay;
