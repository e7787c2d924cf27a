-- Sums by day, repository and user, without contents, titles, paths and ids of sessions: for dashboards, and for the role
-- agent_trace_aggregates of deploy/roles.sql. Calls and secrets have the repository and user of their session's requests
-- to models; those of a session without one have none.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 004_agent_trace_aggregates.sql

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

CREATE OR REPLACE VIEW agent_trace_usage_by_user AS
SELECT (finished_at AT TIME ZONE 'UTC')::date AS day, repository, os_user, model_id, count(*) AS steps,
       count(DISTINCT session_id) AS sessions, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
       sum(reasoning_tokens) AS reasoning_tokens, sum(cache_read_tokens) AS cache_read_tokens,
       sum(cache_write_tokens) AS cache_write_tokens, sum(cost) AS cost,
       count(*) FILTER (WHERE cost IS NULL) AS unpriced_steps
FROM agent_trace_requests GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW agent_trace_usage_by_user IS 'tokens and cost by day (UTC), repository, user and model';
COMMENT ON COLUMN agent_trace_usage_by_user.day IS 'day of the step''s end (UTC)';
COMMENT ON COLUMN agent_trace_usage_by_user.repository IS 'the URL of the git remote, without credentials';
COMMENT ON COLUMN agent_trace_usage_by_user.os_user IS 'the user of the operating system who recorded';
COMMENT ON COLUMN agent_trace_usage_by_user.model_id IS 'provider/model; null where it is not known';
COMMENT ON COLUMN agent_trace_usage_by_user.steps IS 'requests to the model';
COMMENT ON COLUMN agent_trace_usage_by_user.sessions IS 'sessions with such a step';
COMMENT ON COLUMN agent_trace_usage_by_user.input_tokens IS 'sum over the steps';
COMMENT ON COLUMN agent_trace_usage_by_user.output_tokens IS 'sum over the steps';
COMMENT ON COLUMN agent_trace_usage_by_user.reasoning_tokens IS 'sum over the steps';
COMMENT ON COLUMN agent_trace_usage_by_user.cache_read_tokens IS 'sum over the steps';
COMMENT ON COLUMN agent_trace_usage_by_user.cache_write_tokens IS 'sum over the steps';
COMMENT ON COLUMN agent_trace_usage_by_user.cost IS
    'US dollars, sum over the priced steps; null where none has a price';
COMMENT ON COLUMN agent_trace_usage_by_user.unpriced_steps IS 'steps without a price, which cost leaves out';

CREATE OR REPLACE VIEW agent_trace_calls_by_user AS
SELECT (c.finished_at AT TIME ZONE 'UTC')::date AS day, s.repository, s.os_user, c.tool, count(*) AS calls,
       count(*) FILTER (WHERE c.status = 'error') AS failed, sum(c.seconds) AS seconds
FROM (
    SELECT DISTINCT ON (session_id, message_id, part_id) * FROM agent_trace_ended_calls
    ORDER BY session_id, message_id, part_id, finished_at
) c
LEFT JOIN (
    SELECT session_id, min(repository) AS repository, min(os_user) AS os_user FROM agent_trace_requests GROUP BY session_id
) s ON s.session_id = c.session_id
GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW agent_trace_calls_by_user IS 'tool calls and failures by day (UTC), repository, user and tool';
COMMENT ON COLUMN agent_trace_calls_by_user.day IS 'day of the call''s end (UTC)';
COMMENT ON COLUMN agent_trace_calls_by_user.repository IS 'the URL of the git remote, without credentials';
COMMENT ON COLUMN agent_trace_calls_by_user.os_user IS 'the user of the operating system who recorded';
COMMENT ON COLUMN agent_trace_calls_by_user.tool IS 'the tool, e.g. edit or bash';
COMMENT ON COLUMN agent_trace_calls_by_user.calls IS 'calls that have ended';
COMMENT ON COLUMN agent_trace_calls_by_user.failed IS 'of these, calls that failed';
COMMENT ON COLUMN agent_trace_calls_by_user.seconds IS 'time of all calls together';

CREATE OR REPLACE VIEW agent_trace_lines_by_user AS
SELECT (recorded_at AT TIME ZONE 'UTC')::date AS day, repository, os_user, model_id, contributor, sum(lines) AS lines,
       count(DISTINCT record_id) AS records, count(DISTINCT session_id) AS sessions
FROM agent_trace_lines GROUP BY 1, 2, 3, 4, 5;
COMMENT ON VIEW agent_trace_lines_by_user IS 'lines written by day (UTC), repository, user, model and contributor';
COMMENT ON COLUMN agent_trace_lines_by_user.day IS 'day of writing (UTC)';
COMMENT ON COLUMN agent_trace_lines_by_user.repository IS 'the URL of the git remote, without credentials';
COMMENT ON COLUMN agent_trace_lines_by_user.os_user IS 'the user of the operating system who recorded';
COMMENT ON COLUMN agent_trace_lines_by_user.model_id IS 'provider/model; null where it is not known';
COMMENT ON COLUMN agent_trace_lines_by_user.contributor IS 'ai, human, mixed or unknown';
COMMENT ON COLUMN agent_trace_lines_by_user.lines IS 'lines written, each as often as it was written';
COMMENT ON COLUMN agent_trace_lines_by_user.records IS 'Agent Trace records';
COMMENT ON COLUMN agent_trace_lines_by_user.sessions IS 'sessions that wrote them';

-- A secret that several events of a call repeat counts once, as in agent_trace_secrets_by_day.
CREATE OR REPLACE VIEW agent_trace_secrets_by_user AS
SELECT m.day, s.repository, s.os_user, m.rule, sum(m.masked) AS masked, sum(m.events)::bigint AS events
FROM (
    SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, rule, session_id, max(masked) AS masked, count(*) AS events
    FROM agent_trace_masked
    GROUP BY 1, 2, 3, coalesce(call_id, event_id::text)
) m
LEFT JOIN (
    SELECT session_id, min(repository) AS repository, min(os_user) AS os_user FROM agent_trace_requests GROUP BY session_id
) s ON s.session_id = m.session_id
GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW agent_trace_secrets_by_user IS 'secrets masked by day (UTC), repository, user and rule';
COMMENT ON COLUMN agent_trace_secrets_by_user.day IS 'day of the event (UTC)';
COMMENT ON COLUMN agent_trace_secrets_by_user.repository IS 'the URL of the git remote, without credentials';
COMMENT ON COLUMN agent_trace_secrets_by_user.os_user IS 'the user of the operating system who recorded';
COMMENT ON COLUMN agent_trace_secrets_by_user.rule IS 'the redaction rule';
COMMENT ON COLUMN agent_trace_secrets_by_user.masked IS
    'secrets masked; one that several events of a call repeat counts once';
COMMENT ON COLUMN agent_trace_secrets_by_user.events IS 'events that held one';

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('004_agent_trace_aggregates', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
