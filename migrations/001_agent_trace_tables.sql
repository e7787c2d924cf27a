-- The tables. Run by `agent-trace-sidecar migrate`, or as it is: psql -f 001_agent_trace_tables.sql
--
-- Names carry no schema: search_path decides. Ids and times are made by the shim and the sidecar, so no sequence,
-- default or trigger takes part in a write. A key's first column is what a distributed engine would distribute by,
-- and there are no foreign keys, so that months can be dropped.
--
-- The two large tables are partitioned by month. `agent-trace-sidecar migrate` and `prune` make the months ahead of
-- time; rows of a month that nobody made go to the default partition, so writing never depends on it.

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

CREATE TABLE IF NOT EXISTS agent_trace_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL
);

-- Every hook event, once. event_name is the hook's name or the bus event's type; (source_id, seq) counts a shim's
-- lines without a gap.
CREATE TABLE IF NOT EXISTS agent_trace_events (
    event_id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    source_id uuid NOT NULL,
    seq bigint NOT NULL,
    session_id text,
    message_id text,
    call_id text,
    event_name text NOT NULL,
    tool text,
    payload jsonb NOT NULL,
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
CREATE TABLE IF NOT EXISTS agent_trace_events_default PARTITION OF agent_trace_events DEFAULT;

-- One Agent Trace record per tool call that changed files; `record` is the canonical JSON, the other columns are
-- taken from it. record_id is derived from event_id.
CREATE TABLE IF NOT EXISTS agent_trace_records (
    record_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    session_id text,
    spec_version text NOT NULL,
    vcs_type text,
    vcs_revision text,
    tool_name text,
    tool_version text,
    model_id text,
    contributor text NOT NULL,
    record jsonb NOT NULL,
    PRIMARY KEY (record_id, recorded_at)
);

-- A row per range of a record, for SQL. Lines count from 1, end_line is the last line of the range.
CREATE TABLE IF NOT EXISTS agent_trace_ranges (
    record_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    path text NOT NULL,
    start_line integer NOT NULL,
    end_line integer NOT NULL,
    content_hash text,
    contributor text NOT NULL,
    model_id text,
    session_id text,
    method text NOT NULL
) PARTITION BY RANGE (recorded_at);
CREATE TABLE IF NOT EXISTS agent_trace_ranges_default PARTITION OF agent_trace_ranges DEFAULT;

-- The gate: an event's id is here once it is stored, and stays when the event itself is pruned.
CREATE TABLE IF NOT EXISTS agent_trace_dedupe (
    event_id uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL
);

-- The checkpoint: how far each log has been stored, and what the builder must remember to go on from there.
CREATE TABLE IF NOT EXISTS agent_trace_sources (
    source_id uuid PRIMARY KEY,
    kind text NOT NULL,
    host text NOT NULL,
    epoch bigint NOT NULL,
    position bigint NOT NULL,
    state jsonb NOT NULL,
    opened_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Lines that could not be stored, redacted, with the reason; source_id and position say where they were read. A
-- place may hold another line later, when a file was replaced or a disk has lost a part of a spool.
CREATE TABLE IF NOT EXISTS agent_trace_dead_letters (
    source_id uuid NOT NULL,
    position bigint NOT NULL,
    reason text NOT NULL,
    error text NOT NULL,
    line bytea NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (source_id, position, seen_at)
);

-- lz4 packs large payloads several times faster than the default. Servers older than 14 or built without it keep
-- the default; nothing else depends on it. Months are made like their parent.
DO $$
DECLARE
    target record;
    packed boolean;
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
    ) THEN
        RETURN;
    END IF;
    FOR target IN
        SELECT * FROM (VALUES ('agent_trace_events', 'payload'), ('agent_trace_events_default', 'payload'),
                              ('agent_trace_records', 'record')) AS t (tab, col)
    LOOP
        -- Dynamic, because pg_attribute has no such column before 14; checked first, because ALTER locks the table.
        EXECUTE 'SELECT attcompression = ''l'' FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2'
            INTO packed USING target.tab, target.col;
        IF NOT packed THEN
            EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET COMPRESSION lz4', target.tab, target.col);
        END IF;
    END LOOP;
END $$;

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('001_agent_trace_tables', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
