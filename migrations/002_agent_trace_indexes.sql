-- The indexes, each with the question it answers. More would slow every flush.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 002_agent_trace_indexes.sql

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

-- What happened in this session, in order?
CREATE INDEX IF NOT EXISTS agent_trace_events_session ON agent_trace_events (session_id, occurred_at);

-- Which records did this session make?
CREATE INDEX IF NOT EXISTS agent_trace_records_session ON agent_trace_records (session_id);

-- Which records did the subagents of this session make? Only theirs are in it.
CREATE INDEX IF NOT EXISTS agent_trace_records_parent
    ON agent_trace_records ((record #>> '{metadata,io.opencode.parent_session_id}'))
    WHERE record #>> '{metadata,io.opencode.parent_session_id}' IS NOT NULL;

-- Is this record stored, whoever recorded it?
CREATE INDEX IF NOT EXISTS agent_trace_records_id ON agent_trace_records (record_id);

-- Who wrote the lines of this file, or of this project's files?
CREATE INDEX IF NOT EXISTS agent_trace_ranges_project ON agent_trace_ranges (project, path, recorded_at);

-- Which lines are this session's?
CREATE INDEX IF NOT EXISTS agent_trace_ranges_session ON agent_trace_ranges (session_id, recorded_at);

-- What has become of this file, and of those that were moved here?
CREATE INDEX IF NOT EXISTS agent_trace_file_states_path ON agent_trace_file_states (project, path, recorded_at);

-- Where in this project was this line written?
CREATE INDEX IF NOT EXISTS agent_trace_file_states_keys ON agent_trace_file_states USING gin (line_keys);

-- What did this session use and call, each part once?
CREATE INDEX IF NOT EXISTS agent_trace_usage_part ON agent_trace_usage (session_id, message_id, part_id, finished_at);
CREATE INDEX IF NOT EXISTS agent_trace_ended_calls_part
    ON agent_trace_ended_calls (session_id, message_id, part_id, finished_at);

-- What else is this repository called?
CREATE INDEX IF NOT EXISTS agent_trace_sources_projects ON agent_trace_sources USING gin (projects);

-- What could not be stored lately?
CREATE INDEX IF NOT EXISTS agent_trace_dead_letters_seen ON agent_trace_dead_letters (seen_at);

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('002_agent_trace_indexes', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
