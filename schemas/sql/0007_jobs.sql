-- Background jobs: what the group jobs.intake and executors write, and the gateway reads.
-- `jobs` has one row a job for good; what is claimed and polled stands in narrow tables that stay small, so that a
-- snapshot which pins VACUUM costs them little. No index of `jobs` mentions what changes while a job runs: its updates
-- stay within their page (HOT).

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidegate_jobs') THEN
        CREATE ROLE tidegate_jobs NOLOGIN;
    END IF;
END $$;

CREATE TABLE jobs (
    job_id          uuid        NOT NULL PRIMARY KEY,
    tenant_id       text        NOT NULL,
    type            text        NOT NULL,
    queue           text        NOT NULL,
    status          text        NOT NULL DEFAULT 'pending'
                    CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    reason          text,                            -- beside failed, cancelled, and a pending job's last attempt
    priority        smallint    NOT NULL,            -- 1 to 10, 10 is the most urgent
    parameters      json        NOT NULL,            -- the text that was sent
    metadata        jsonb,
    tags            text[]      NOT NULL DEFAULT '{}',
    user_id         text,
    dedupe_key      text,
    max_attempts    smallint    NOT NULL,
    timeout_s       double precision,
    run_at          timestamptz NOT NULL,
    expires_at      timestamptz,
    generation      integer     NOT NULL DEFAULT 1,  -- grows with each retry by hand
    attempts        smallint    NOT NULL DEFAULT 0,  -- that failed, of this generation
    runs            integer     NOT NULL DEFAULT 0,  -- attempts of any outcome, of all generations
    lost            smallint    NOT NULL DEFAULT 0,  -- attempts whose executor was lost, of this generation
    snoozes         integer     NOT NULL DEFAULT 0,
    version         bigint      NOT NULL DEFAULT 1,
    error_type      text,
    error           text,
    summary         jsonb,                           -- of the result, kept when the result is dropped
    schedule_id     uuid,
    submitted_by    text,
    content_sha256  bytea       NOT NULL,
    traceparent     text,
    created_at      timestamptz NOT NULL,            -- when the gateway received it
    started_at      timestamptz,                     -- its last attempt was claimed
    finished_at     timestamptz,
    failed_at       timestamptz,
    duplicate_of    uuid                             -- an alias: the other job had the dedupe key
) WITH (fillfactor = 70);
CREATE INDEX jobs_newest ON jobs (tenant_id, created_at DESC, job_id DESC);
CREATE INDEX jobs_failed ON jobs (tenant_id, failed_at DESC, job_id DESC) WHERE failed_at IS NOT NULL;
CREATE INDEX jobs_of_schedule ON jobs (schedule_id, created_at DESC) WHERE schedule_id IS NOT NULL;

-- A row for each unfinished job with a dedupe key: the key is free again when it goes.
CREATE TABLE job_dedupe_keys (
    tenant_id  text NOT NULL,
    type       text NOT NULL,
    dedupe_key text NOT NULL,
    job_id     uuid NOT NULL UNIQUE,
    PRIMARY KEY (tenant_id, type, dedupe_key)
);

CREATE TABLE job_ready (
    job_id     uuid        NOT NULL PRIMARY KEY,
    queue      text        NOT NULL,
    tenant_id  text        NOT NULL,
    type       text        NOT NULL,
    rank       timestamptz NOT NULL,  -- run_at - (priority - 1) * step: the lowest goes first
    ready_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    lost       smallint    NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX job_ready_order ON job_ready (queue, tenant_id, rank, job_id) WHERE lost = 0;
CREATE INDEX job_ready_suspects ON job_ready (queue, rank, job_id) WHERE lost > 0;
CREATE INDEX job_ready_expiring ON job_ready (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX job_ready_of_tenant ON job_ready (tenant_id);

CREATE TABLE job_delayed (
    job_id    uuid        NOT NULL PRIMARY KEY,
    queue     text        NOT NULL,
    tenant_id text        NOT NULL,
    run_at    timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX job_delayed_due ON job_delayed (run_at, job_id);
CREATE INDEX job_delayed_of_tenant ON job_delayed (tenant_id, run_at, job_id);
CREATE INDEX job_delayed_of_queue ON job_delayed (queue);

-- A row for each job that an executor holds. Its authority over the job is the random attempt_id.
CREATE TABLE job_running (
    job_id       uuid        NOT NULL PRIMARY KEY,
    attempt_id   uuid        NOT NULL,
    executor_id  uuid        NOT NULL,
    queue        text        NOT NULL,
    tenant_id    text        NOT NULL,
    type         text        NOT NULL,
    claimed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    deadline_at  timestamptz NOT NULL,   -- past it the executor's own limits have failed
    cancelled_by text,                   -- who asked to cancel it
    fraction     real,
    message      text
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX job_running_of_queue ON job_running (queue, tenant_id);
CREATE INDEX job_running_of_executor ON job_running (executor_id);
CREATE INDEX job_running_of_tenant ON job_running (tenant_id);

CREATE TABLE job_attempts (
    attempt_id  uuid        NOT NULL PRIMARY KEY,
    job_id      uuid        NOT NULL,
    tenant_id   text        NOT NULL,
    number      integer     NOT NULL,  -- 1, 2, ... of the job
    generation  integer     NOT NULL,
    executor_id uuid        NOT NULL,
    outcome     text        NOT NULL
                CHECK (outcome IN ('completed', 'failed', 'cancelled', 'snoozed', 'interrupted', 'lost')),
    reason      text,
    error_type  text,
    error       text,
    traceback   text,
    log         text,                  -- what it wrote: the head and the tail, secrets masked
    cpu_s       real,
    peak_bytes  bigint,
    claimed_at  timestamptz NOT NULL,
    started_at  timestamptz,           -- null: its executor was lost, or gave it back before it ran
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX job_attempts_of_job ON job_attempts (job_id, number);

-- Kept for hours, in partitions of an hour that are dropped whole; the summary stays with the job.
CREATE TABLE job_results (
    job_id      uuid        NOT NULL,
    attempt_id  uuid        NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    result      json        NOT NULL
) PARTITION BY RANGE (finished_at);
CREATE INDEX job_results_of_job ON job_results (job_id);
CREATE TABLE job_results_other PARTITION OF job_results DEFAULT;  -- where no partition was made in time

-- What changed, in the transaction that changed it; a relay writes it to jobs.events and deletes it.
CREATE TABLE job_changes (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id       uuid        NOT NULL,
    tenant_id    text        NOT NULL,
    version      bigint      NOT NULL,
    type         text        NOT NULL,
    queue        text        NOT NULL,
    status       text        NOT NULL,
    reason       text,
    priority     smallint    NOT NULL,
    attempts     smallint    NOT NULL,
    duplicate_of uuid,
    error        text,
    at           timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- Progress and output on their way to jobs.reports: for who watches now, so a crash of Postgres may lose them.
CREATE UNLOGGED TABLE job_reports (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id     uuid        NOT NULL,
    tenant_id  text        NOT NULL,
    attempt_id uuid        NOT NULL,
    fraction   real,
    message    text,
    output     text,
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE executors (
    executor_id uuid        NOT NULL PRIMARY KEY,  -- random, of one start of a process: never a name that may return
    host        text        NOT NULL,
    pid         integer     NOT NULL,
    version     text        NOT NULL,
    queues      text[]      NOT NULL,
    types       text[]      NOT NULL,
    slots       integer     NOT NULL,
    busy        integer     NOT NULL DEFAULT 0,
    is_draining boolean     NOT NULL DEFAULT false,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at     timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

CREATE TABLE job_queues (
    queue                  text             NOT NULL PRIMARY KEY,
    step_s                 double precision NOT NULL DEFAULT 60,  -- of waiting, worth a level of priority
    max_running            integer,
    max_running_per_tenant integer,
    paused_at              timestamptz,                           -- null: not paused
    paused_until           timestamptz,
    paused_by              text,
    pause_reason           text
);
INSERT INTO job_queues (queue)
VALUES ('default'), ('ari_analysis'), ('ffe_planning'), ('edm_analysis'), ('model_training'), ('maintenance');

CREATE TABLE job_schedules (
    schedule_id   uuid        NOT NULL PRIMARY KEY,
    tenant_id     text        NOT NULL,
    name          text        NOT NULL,
    definition    json        NOT NULL,
    paused_at     timestamptz,
    next_at       timestamptz,             -- null: it never fires again
    last_fired_at timestamptz,             -- the time that it stands for, not when it was seen
    last_job_id   uuid,
    created_by    text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (tenant_id, name)
);
CREATE INDEX job_schedules_due ON job_schedules (next_at) WHERE paused_at IS NULL;

CREATE TABLE job_operations (
    operation_id uuid        NOT NULL PRIMARY KEY,
    tenant_id    text        NOT NULL,
    action       text        NOT NULL,
    priority     smallint,
    filter       json        NOT NULL,
    job_count    integer     NOT NULL,
    done_count   integer     NOT NULL DEFAULT 0,
    refused_count integer    NOT NULL DEFAULT 0,  -- jobs whose state forbade it by then
    started_by   text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz
);
CREATE INDEX job_operations_open ON job_operations (created_at) WHERE finished_at IS NULL;
CREATE INDEX job_operations_of_tenant ON job_operations (tenant_id, created_at DESC);

CREATE TABLE job_operation_items (
    operation_id uuid NOT NULL REFERENCES job_operations,
    job_id       uuid NOT NULL,
    outcome      text,              -- null: not done yet
    PRIMARY KEY (operation_id, job_id)
);
CREATE INDEX job_operation_items_open ON job_operation_items (operation_id) WHERE outcome IS NULL;

CREATE TABLE audit_log (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant_id text        NOT NULL,
    by        text        NOT NULL,
    action    text        NOT NULL,  -- job.cancel, queue.pause, schedule.put, operation.retry, ...
    target    text        NOT NULL,
    detail    jsonb
);
CREATE INDEX audit_log_of_tenant ON audit_log (tenant_id, id DESC);

-- The outcome of each command, by its place in the log.
CREATE TABLE job_commands (
    kafka_partition integer     NOT NULL,
    kafka_offset    bigint      NOT NULL,
    tenant_id       text        NOT NULL,
    command_id      text        NOT NULL,  -- the id of its record
    target          text        NOT NULL,  -- the job, queue, schedule or operation
    kind            text        NOT NULL,  -- submit, cancel, retry, reprioritise, queue, schedule, operation
    outcome         text        NOT NULL CHECK (outcome IN ('stored', 'duplicate', 'refused')),
    detail          text,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kafka_partition, kafka_offset)
);
-- Only changes repeat under one id: a job's submission is found by its job.
CREATE UNIQUE INDEX job_commands_of_id ON job_commands (command_id) WHERE kind <> 'submit' AND outcome <> 'duplicate';

-- Records that decode but break a rule, with their bytes.
CREATE TABLE job_rejections (
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

-- Partitions of results: executors have no right to create or drop tables, and call this instead.
CREATE FUNCTION rotate_job_results(keep interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '1s' AS $$
DECLARE
    hour    timestamptz := date_trunc('hour', clock_timestamp());
    part    text;
    found   record;
    dropped integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('rotate_job_results')) THEN
        RETURN 0;
    END IF;
    FOR step IN 0..2 LOOP
        part := 'job_results_' || to_char((hour + step * interval '1 hour') AT TIME ZONE 'UTC', 'YYYYMMDD_HH24');
        IF to_regclass(part) IS NULL AND NOT EXISTS (
            SELECT FROM job_results_other
            WHERE finished_at >= hour + step * interval '1 hour' AND finished_at < hour + (step + 1) * interval '1 hour'
        ) THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF job_results FOR VALUES FROM (%L) TO (%L)',
                part, hour + step * interval '1 hour', hour + (step + 1) * interval '1 hour');
        END IF;
    END LOOP;
    FOR found IN
        SELECT child.relname AS name FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
        WHERE inhparent = 'job_results'::regclass AND child.relname ~ '^job_results_[0-9]{8}_[0-9]{2}$'
    LOOP
        IF to_timestamp(right(found.name, 11) || ' +00', 'YYYYMMDD_HH24 TZH') + interval '1 hour'
            < clock_timestamp() - keep THEN
            EXECUTE format('DROP TABLE %I', found.name);
            dropped := dropped + 1;
        END IF;
    END LOOP;
    DELETE FROM job_results_other WHERE finished_at < clock_timestamp() - keep;
    RETURN dropped;
END $$;
REVOKE ALL ON FUNCTION rotate_job_results(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rotate_job_results(interval) TO tidegate_jobs;
SELECT rotate_job_results('1 hour');

-- What REINDEX CONCURRENTLY leaves behind when it is cut off. Only the owner may drop it.
CREATE FUNCTION drop_invalid_indexes() RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '1s' AS $$
DECLARE
    found   record;
    dropped text[] := '{}';
BEGIN
    FOR found IN
        SELECT index.relname AS name
        FROM pg_index JOIN pg_class index ON index.oid = indexrelid
        WHERE NOT indisvalid AND index.relname ~ '_cc(new|old)[0-9]*$' AND index.relnamespace = current_schema()::regnamespace
    LOOP
        EXECUTE format('DROP INDEX IF EXISTS %I', found.name);
        dropped := dropped || found.name::text;
    END LOOP;
    RETURN dropped;
END $$;
REVOKE ALL ON FUNCTION drop_invalid_indexes() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_invalid_indexes() TO tidegate_jobs;

GRANT SELECT ON jobs, job_dedupe_keys, job_ready, job_delayed, job_running, job_attempts, job_results, job_changes,
    executors, job_queues, job_schedules, job_operations, job_operation_items, audit_log, job_commands, job_rejections
    TO tidegate_read, tidegate_jobs;
GRANT INSERT, UPDATE, DELETE ON jobs, job_dedupe_keys, job_ready, job_delayed, job_running, job_changes, executors,
    job_queues, job_schedules, job_operations, job_operation_items TO tidegate_jobs;
GRANT SELECT, INSERT, DELETE ON job_reports TO tidegate_jobs;
GRANT INSERT ON job_attempts, job_results, audit_log, job_commands, job_rejections TO tidegate_jobs;
GRANT SELECT ON schema_migrations, log_topics TO tidegate_jobs;
GRANT INSERT ON log_topics TO tidegate_jobs;
GRANT DELETE ON job_commands, job_rejections TO tidegate_replay;

-- Maintenance tasks analyze, vacuum and reindex every table; before PostgreSQL 17 only its owner may.
DO $$ BEGIN
    IF current_setting('server_version_num')::integer >= 170000 THEN
        EXECUTE format('GRANT MAINTAIN ON ALL TABLES IN SCHEMA %I TO tidegate_jobs', current_schema());
        -- Of later migrations as well, and partitions to come.
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT MAINTAIN ON TABLES TO tidegate_jobs',
            current_schema());
    END IF;
END $$;
-- Measures bloat. It is no trusted extension: without the right to install it, a task says that it cannot measure.
DO $$ BEGIN
    CREATE EXTENSION IF NOT EXISTS pgstattuple;
    GRANT EXECUTE ON FUNCTION pgstatindex(regclass) TO tidegate_jobs;
EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
    RAISE NOTICE 'pgstattuple is not installed';
END $$;
-- Tells who keeps VACUUM from removing rows; without it that is not known.
DO $$ BEGIN
    GRANT pg_read_all_stats TO tidegate_jobs, tidegate_read;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'the age of the oldest snapshot cannot be shown';
END $$;
