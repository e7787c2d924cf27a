-- What undoing asks: which sessions a message has started.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 006_agent_trace_undo.sql

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

CREATE TABLE IF NOT EXISTS agent_trace_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL
);

-- Which records did the subagents of this session make? Only theirs are in it.
CREATE INDEX IF NOT EXISTS agent_trace_records_parent
    ON agent_trace_records ((record #>> '{metadata,io.opencode.parent_session_id}'))
    WHERE record #>> '{metadata,io.opencode.parent_session_id}' IS NOT NULL;

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('006_agent_trace_undo', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
