-- The indexes, each with the question it answers. More would slow every flush.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 002_agent_trace_indexes.sql
--
-- An index that exists is not named again: CREATE INDEX IF NOT EXISTS locks its table all the same, against writers that
-- hold other tables and wait for this one.

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

-- What happened in this session, in order?
DO $$ BEGIN IF to_regclass('agent_trace_events_session') IS NULL THEN
    CREATE INDEX agent_trace_events_session ON agent_trace_events (session_id, occurred_at);
END IF; END $$;

-- What is each session called, and which one started it? Few events say that; the others are not in it.
DO $$ BEGIN IF to_regclass('agent_trace_events_titles') IS NULL THEN
    CREATE INDEX agent_trace_events_titles ON agent_trace_events (session_id, occurred_at)
        WHERE event_name IN ('session.created', 'session.updated', 'session.renamed');
END IF; END $$;

-- What has each session of OpenCode 2 used so far? Few events say that, too.
DO $$ BEGIN IF to_regclass('agent_trace_events_used') IS NULL THEN
    CREATE INDEX agent_trace_events_used ON agent_trace_events (session_id, occurred_at)
        WHERE event_name = 'session.usage.updated';
END IF; END $$;

-- Which records did this session make?
DO $$ BEGIN IF to_regclass('agent_trace_records_session') IS NULL THEN
    CREATE INDEX agent_trace_records_session ON agent_trace_records (session_id);
END IF; END $$;

-- Which records did the subagents of this session make? Only theirs are in it.
DO $$ BEGIN IF to_regclass('agent_trace_records_parent') IS NULL THEN
    CREATE INDEX agent_trace_records_parent
        ON agent_trace_records ((record #>> '{metadata,io.opencode.parent_session_id}'))
        WHERE record #>> '{metadata,io.opencode.parent_session_id}' IS NOT NULL;
END IF; END $$;

-- Is this record stored, by any recorder?
DO $$ BEGIN IF to_regclass('agent_trace_records_id') IS NULL THEN
    CREATE INDEX agent_trace_records_id ON agent_trace_records (record_id);
END IF; END $$;

-- Who wrote the lines of this file, or of this project's files?
DO $$ BEGIN IF to_regclass('agent_trace_ranges_project') IS NULL THEN
    CREATE INDEX agent_trace_ranges_project ON agent_trace_ranges (project, path, recorded_at);
END IF; END $$;

-- Which lines are this session's?
DO $$ BEGIN IF to_regclass('agent_trace_ranges_session') IS NULL THEN
    CREATE INDEX agent_trace_ranges_session ON agent_trace_ranges (session_id, recorded_at);
END IF; END $$;

-- What has become of this file, and of those that were moved here?
DO $$ BEGIN IF to_regclass('agent_trace_file_states_path') IS NULL THEN
    CREATE INDEX agent_trace_file_states_path ON agent_trace_file_states (project, path, recorded_at);
END IF; END $$;

-- Where in this project was this line written? New keys wait in a list that every search reads as a whole: with the
-- 4 MB that it may have by default, a search for the lines of a file takes seconds.
DO $$ BEGIN IF to_regclass('agent_trace_file_states_keys') IS NULL THEN
    CREATE INDEX agent_trace_file_states_keys ON agent_trace_file_states USING gin (line_keys)
        WITH (gin_pending_list_limit = 64);
END IF; END $$;

-- What did this session use and call, each part once?
DO $$ BEGIN IF to_regclass('agent_trace_usage_part') IS NULL THEN
    CREATE INDEX agent_trace_usage_part ON agent_trace_usage (session_id, message_id, part_id, finished_at);
END IF; END $$;
DO $$ BEGIN IF to_regclass('agent_trace_ended_calls_part') IS NULL THEN
    CREATE INDEX agent_trace_ended_calls_part
        ON agent_trace_ended_calls (session_id, message_id, part_id, finished_at);
END IF; END $$;

-- What else is this repository called?
DO $$ BEGIN IF to_regclass('agent_trace_sources_projects') IS NULL THEN
    CREATE INDEX agent_trace_sources_projects ON agent_trace_sources USING gin (projects);
END IF; END $$;

-- What could not be stored lately?
DO $$ BEGIN IF to_regclass('agent_trace_dead_letters_seen') IS NULL THEN
    CREATE INDEX agent_trace_dead_letters_seen ON agent_trace_dead_letters (seen_at);
END IF; END $$;

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('002_agent_trace_indexes', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
