-- The indexes, each with the question it answers. More would slow every flush.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 002_agent_trace_indexes.sql

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

CREATE TABLE IF NOT EXISTS agent_trace_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL
);

-- What happened in this session, in order?
CREATE INDEX IF NOT EXISTS agent_trace_events_session ON agent_trace_events (session_id, occurred_at);

-- Which records did this session make?
CREATE INDEX IF NOT EXISTS agent_trace_records_session ON agent_trace_records (session_id);

-- Who wrote the lines of this file, newest last?
CREATE INDEX IF NOT EXISTS agent_trace_ranges_path ON agent_trace_ranges (path, recorded_at);

-- What could not be stored lately?
CREATE INDEX IF NOT EXISTS agent_trace_dead_letters_seen ON agent_trace_dead_letters (seen_at);

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('002_agent_trace_indexes', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
