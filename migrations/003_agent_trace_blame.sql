-- What `blame` needs: who called what, and what the files looked like, as hashes.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 003_agent_trace_blame.sql

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

CREATE TABLE IF NOT EXISTS agent_trace_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL
);

-- line_hashes holds 8 bytes for each line of the range (4 of its text without white space, 4 of the whole line), all
-- zero for a line that may hold a secret. line_tokens holds for each line a length and one byte for each word. A range
-- whose call was undone is void from then on; it is not deleted, since it can come back.
ALTER TABLE agent_trace_ranges
    ADD COLUMN IF NOT EXISTS message_id text,
    ADD COLUMN IF NOT EXISTS call_id text,
    ADD COLUMN IF NOT EXISTS tool text,
    ADD COLUMN IF NOT EXISTS project text,
    ADD COLUMN IF NOT EXISTS line_hashes bytea,
    ADD COLUMN IF NOT EXISTS line_tokens bytea,
    ADD COLUMN IF NOT EXISTS voided_at timestamptz;

-- A file before and after a change of a record: the hashes of all its lines. NULL is not known, empty is no file.
-- project is the same in every clone of a repository; line_keys are the record's own lines, by project.
CREATE TABLE IF NOT EXISTS agent_trace_file_states (
    record_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    project text NOT NULL,
    worktree text NOT NULL,
    path text NOT NULL,
    old_path text,
    kind text NOT NULL,
    before_hashes bytea,
    after_hashes bytea,
    line_keys bigint[] NOT NULL,
    PRIMARY KEY (record_id, recorded_at, path)
) PARTITION BY RANGE (recorded_at);
CREATE TABLE IF NOT EXISTS agent_trace_file_states_default PARTITION OF agent_trace_file_states DEFAULT;

-- What has become of this file, and of those that were moved here?
CREATE INDEX IF NOT EXISTS agent_trace_file_states_path ON agent_trace_file_states (project, path, recorded_at);

-- Where in this project was this line written?
CREATE INDEX IF NOT EXISTS agent_trace_file_states_keys ON agent_trace_file_states USING gin (line_keys);

-- Which lines are this session's?
CREATE INDEX IF NOT EXISTS agent_trace_ranges_session ON agent_trace_ranges (session_id, recorded_at);

-- Hashes don't compress: trying costs time at every write.
ALTER TABLE agent_trace_file_states_default ALTER COLUMN before_hashes SET STORAGE EXTERNAL;
ALTER TABLE agent_trace_file_states_default ALTER COLUMN after_hashes SET STORAGE EXTERNAL;
ALTER TABLE agent_trace_file_states ALTER COLUMN before_hashes SET STORAGE EXTERNAL;
ALTER TABLE agent_trace_file_states ALTER COLUMN after_hashes SET STORAGE EXTERNAL;

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('003_agent_trace_blame', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
