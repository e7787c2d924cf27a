-- Ranges are found by project and path: thousands of repositories have a README.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 007_agent_trace_project_index.sql

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

CREATE TABLE IF NOT EXISTS agent_trace_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL
);

-- The strongest lock first: to ask for it later, with a weaker one in hand, is a deadlock with whoever writes.
LOCK TABLE agent_trace_ranges IN ACCESS EXCLUSIVE MODE;

-- Who wrote the lines of this file, or of this project's files?
CREATE INDEX IF NOT EXISTS agent_trace_ranges_project ON agent_trace_ranges (project, path, recorded_at);

-- It takes the place of this one, which would cost every write as much again.
DROP INDEX IF EXISTS agent_trace_ranges_path;

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('007_agent_trace_project_index', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
