-- Who recorded what: of each run of the shim its container, user and repositories. Read by `prune --user` and
-- `prune --repository`, and by the views. Nullable and without defaults, so that adding them takes no time.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 004_agent_trace_identity.sql

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

CREATE TABLE IF NOT EXISTS agent_trace_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL
);

-- Looked up first, because ALTER TABLE would wait for the sidecars' transactions even where nothing is to be done.
DO $$
DECLARE
    missing record;
BEGIN
    FOR missing IN
        SELECT * FROM (VALUES ('container', 'text'), ('os_user', 'text'), ('repositories', 'jsonb')) AS t (col, kind)
        WHERE NOT EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = 'agent_trace_sources'::regclass AND attname = t.col
        )
    LOOP
        EXECUTE format('ALTER TABLE agent_trace_sources ADD COLUMN %I %s', missing.col, missing.kind);
    END LOOP;
END $$;

COMMENT ON COLUMN agent_trace_sources.container IS 'the container''s id, or the pod''s name; null outside of one';
COMMENT ON COLUMN agent_trace_sources.os_user IS 'the user of the operating system who recorded';
COMMENT ON COLUMN agent_trace_sources.repositories IS
    'for each worktree the URL of its git remote without credentials, or null';

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('004_agent_trace_identity', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
