-- Views for people and dashboards: what was called, what it cost, who wrote how much. They read the events as OpenCode
-- 1 and 2 send them; what an event does not say is null here. Nothing is computed while writing.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 005_agent_trace_views.sql

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

CREATE TABLE IF NOT EXISTS agent_trace_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL
);

-- Numbers come from outside: a text in the place of one must not fail the whole query.
CREATE OR REPLACE FUNCTION agent_trace_number(value jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN jsonb_typeof(value) = 'number' THEN value::numeric END $$;
COMMENT ON FUNCTION agent_trace_number(jsonb) IS 'a number of a payload, null where there is none';

CREATE OR REPLACE FUNCTION agent_trace_time(value jsonb) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN jsonb_typeof(value) = 'number' AND value::numeric BETWEEN 0 AND 253402300799999
        THEN to_timestamp((value::numeric / 1000)::double precision)
    END
$$;
COMMENT ON FUNCTION agent_trace_time(jsonb) IS 'milliseconds since the epoch in a payload as a time';

CREATE OR REPLACE VIEW agent_trace_calls AS
SELECT e.session_id, e.message_id, e.call_id, e.tool, part.state ->> 'status' AS status,
       agent_trace_time(part.state #> '{time,start}') AS started_at, e.occurred_at AS finished_at,
       round((agent_trace_number(part.state #> '{time,end}') - agent_trace_number(part.state #> '{time,start}')) / 1000, 3)
           AS seconds,
       part.state ->> 'error' AS error, e.source_id, e.payload ->> 'worktree' AS worktree
FROM agent_trace_events e
CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties,part,state}' AS state) part
WHERE e.event_name = 'message.part.updated' AND e.tool IS NOT NULL AND part.state ->> 'status' IN ('completed', 'error')
  AND part.state #> '{time,compacted}' IS NULL
UNION ALL
SELECT e.session_id, e.message_id, e.call_id, e.tool, e.payload #>> '{input,status}', before.occurred_at, e.occurred_at,
       round(extract(epoch FROM e.occurred_at - before.occurred_at)::numeric, 3), e.payload #>> '{input,error,message}',
       e.source_id, e.payload ->> 'worktree'
FROM agent_trace_events e
LEFT JOIN LATERAL (
    SELECT b.occurred_at FROM agent_trace_events b
    WHERE b.session_id = e.session_id AND b.call_id = e.call_id AND b.event_name = 'tool.execute.before'
      AND b.occurred_at <= e.occurred_at
    ORDER BY b.occurred_at DESC LIMIT 1
) before ON true
WHERE e.event_name = 'tool.execute.after' AND e.payload #>> '{input,status}' IN ('completed', 'error');
COMMENT ON VIEW agent_trace_calls IS 'tool calls that have ended; one whose end OpenCode never told is not here';
COMMENT ON COLUMN agent_trace_calls.status IS 'completed or error';
COMMENT ON COLUMN agent_trace_calls.seconds IS 'from start to end as OpenCode measured it';
COMMENT ON COLUMN agent_trace_calls.error IS 'what the tool said, masked';

CREATE OR REPLACE VIEW agent_trace_messages AS
SELECT DISTINCT ON (session_id, message_id) session_id, message_id, model_id, agent, occurred_at AS started_at
FROM (
    SELECT e.session_id, e.message_id, e.occurred_at, info.info ->> 'agent' AS agent,
           (info.info ->> 'providerID') || '/' || (info.info ->> 'modelID') AS model_id
    FROM agent_trace_events e
    CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties,info}' AS info) info
    WHERE e.event_name IN ('message.created', 'message.updated') AND info.info ->> 'role' = 'assistant'
    UNION ALL
    SELECT e.session_id, e.message_id, e.occurred_at, step.step ->> 'agent',
           (step.step #>> '{model,providerID}') || '/' || (step.step #>> '{model,id}')
    FROM agent_trace_events e
    CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties}' AS step) step
    WHERE e.event_name = 'session.step.started'
) told
WHERE message_id IS NOT NULL
ORDER BY session_id, message_id, occurred_at;
COMMENT ON VIEW agent_trace_messages IS 'the assistant''s messages, and the model that wrote each';
COMMENT ON COLUMN agent_trace_messages.model_id IS 'provider/model, as OpenCode names them';

CREATE OR REPLACE VIEW agent_trace_steps AS
SELECT told.session_id, told.message_id, m.model_id, m.agent, told.finished_at, told.reason,
       agent_trace_number(told.tokens -> 'input') AS input_tokens,
       agent_trace_number(told.tokens -> 'output') AS output_tokens,
       agent_trace_number(told.tokens -> 'reasoning') AS reasoning_tokens,
       agent_trace_number(told.tokens #> '{cache,read}') AS cache_read_tokens,
       agent_trace_number(told.tokens #> '{cache,write}') AS cache_write_tokens,
       agent_trace_number(told.cost) AS cost, told.source_id
FROM (
    SELECT e.session_id, e.message_id, e.source_id, e.occurred_at AS finished_at, part.part ->> 'reason' AS reason,
           part.part -> 'tokens' AS tokens, part.part -> 'cost' AS cost
    FROM agent_trace_events e
    CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties,part}' AS part) part
    WHERE e.event_name = 'message.part.updated' AND part.part ->> 'type' = 'step-finish'
    UNION ALL
    SELECT e.session_id, e.message_id, e.source_id, e.occurred_at,
           coalesce(e.payload #>> '{input,event,properties,finish}', 'error'),
           e.payload #> '{input,event,properties,tokens}', e.payload #> '{input,event,properties,cost}'
    FROM agent_trace_events e
    WHERE e.event_name IN ('session.step.ended', 'session.step.failed')
) told
LEFT JOIN agent_trace_messages m ON m.session_id = told.session_id AND m.message_id = told.message_id;
COMMENT ON VIEW agent_trace_steps IS 'one request to a model each, with its tokens and cost; sum them up by message or session';
COMMENT ON COLUMN agent_trace_steps.reason IS 'why the model stopped, e.g. stop or tool-calls';
COMMENT ON COLUMN agent_trace_steps.cost IS 'US dollars, as OpenCode computed them';

CREATE OR REPLACE VIEW agent_trace_sessions AS
SELECT s.session_id, s.parent_session_id, s.title, o.host, o.os_user, o.container, s.worktree,
       o.repositories ->> s.worktree AS repository, s.started_at, s.last_event_at, s.events, s.messages, s.steps,
       s.calls, s.failed_calls, s.input_tokens, s.output_tokens, s.reasoning_tokens, s.cache_read_tokens,
       s.cache_write_tokens, s.cost, coalesce(r.records, 0) AS records, coalesce(r.files, 0) AS files,
       coalesce(r.ai_lines, 0) AS ai_lines, s.source_id
FROM (
    SELECT e.session_id,
           max(p.properties #>> '{info,parentID}') FILTER (WHERE e.event_name = 'session.created') AS parent_session_id,
           (array_agg(coalesce(p.properties #>> '{info,title}', p.properties ->> 'title') ORDER BY e.occurred_at DESC)
               FILTER (WHERE e.event_name IN ('session.created', 'session.updated', 'session.renamed')))[1] AS title,
           (array_agg(e.source_id ORDER BY e.occurred_at))[1] AS source_id,
           (array_agg(e.payload ->> 'worktree' ORDER BY e.occurred_at))[1] AS worktree,
           min(e.occurred_at) AS started_at, max(e.occurred_at) AS last_event_at, count(*) AS events,
           count(DISTINCT e.message_id) AS messages,
           count(*) FILTER (WHERE k.is_step) AS steps,
           count(*) FILTER (WHERE k.status IS NOT NULL) AS calls,
           count(*) FILTER (WHERE k.status = 'error') AS failed_calls,
           sum(agent_trace_number(k.spent #> '{tokens,input}')) FILTER (WHERE k.is_step) AS input_tokens,
           sum(agent_trace_number(k.spent #> '{tokens,output}')) FILTER (WHERE k.is_step) AS output_tokens,
           sum(agent_trace_number(k.spent #> '{tokens,reasoning}')) FILTER (WHERE k.is_step) AS reasoning_tokens,
           sum(agent_trace_number(k.spent #> '{tokens,cache,read}')) FILTER (WHERE k.is_step) AS cache_read_tokens,
           sum(agent_trace_number(k.spent #> '{tokens,cache,write}')) FILTER (WHERE k.is_step) AS cache_write_tokens,
           sum(agent_trace_number(k.spent -> 'cost')) FILTER (WHERE k.is_step) AS cost
    FROM agent_trace_events e
    CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties}' AS properties) p
    CROSS JOIN LATERAL (
        SELECT CASE
                   WHEN e.event_name = 'message.part.updated' THEN p.properties -> 'part'
                   WHEN e.event_name LIKE 'session.step.%' THEN p.properties
               END AS spent,
               e.event_name IN ('session.step.ended', 'session.step.failed')
                   OR (e.event_name = 'message.part.updated' AND p.properties #>> '{part,type}' = 'step-finish') AS is_step,
               CASE
                   WHEN e.event_name = 'message.part.updated' AND e.tool IS NOT NULL
                        AND p.properties #> '{part,state,time,compacted}' IS NULL
                        AND p.properties #>> '{part,state,status}' IN ('completed', 'error')
                   THEN p.properties #>> '{part,state,status}'
                   WHEN e.event_name = 'tool.execute.after' AND e.payload #>> '{input,status}' IN ('completed', 'error')
                   THEN e.payload #>> '{input,status}'
               END AS status
    ) k
    WHERE e.session_id IS NOT NULL
    GROUP BY e.session_id
) s
LEFT JOIN agent_trace_sources o ON o.source_id = s.source_id
LEFT JOIN (
    SELECT session_id, count(DISTINCT record_id) AS records, count(DISTINCT path) AS files,
           sum(end_line - start_line + 1) AS ai_lines
    FROM agent_trace_ranges WHERE voided_at IS NULL AND session_id IS NOT NULL GROUP BY session_id
) r ON r.session_id = s.session_id;
COMMENT ON VIEW agent_trace_sessions IS 'a session each: who, where, when, what it did, and what it cost';
COMMENT ON COLUMN agent_trace_sessions.parent_session_id IS 'set for a subagent''s session';
COMMENT ON COLUMN agent_trace_sessions.ai_lines IS 'lines written by the AI, each as often as it was written';
COMMENT ON COLUMN agent_trace_sessions.repository IS 'the URL of the git remote, without credentials';

CREATE OR REPLACE VIEW agent_trace_lines AS
SELECT r.recorded_at, r.record_id, r.session_id, r.message_id, r.call_id, r.tool, r.model_id, r.contributor, r.method,
       r.project, f.worktree, o.repositories ->> f.worktree AS repository, o.host, o.os_user, r.path, r.start_line,
       r.end_line, r.end_line - r.start_line + 1 AS lines
FROM agent_trace_ranges r
LEFT JOIN agent_trace_file_states f
    ON f.record_id = r.record_id AND f.recorded_at = r.recorded_at AND f.path = r.path
LEFT JOIN agent_trace_records c ON c.record_id = r.record_id AND c.recorded_at = r.recorded_at
LEFT JOIN agent_trace_events e ON e.event_id = c.event_id AND e.occurred_at = c.recorded_at
LEFT JOIN agent_trace_sources o ON o.source_id = e.source_id
WHERE r.voided_at IS NULL;
COMMENT ON VIEW agent_trace_lines IS 'ranges of lines as they were written, with who and where; undone ones are left out';

CREATE OR REPLACE VIEW agent_trace_lines_by_day AS
SELECT (recorded_at AT TIME ZONE 'UTC')::date AS day, project, repository, model_id, tool, contributor,
       sum(lines) AS lines, count(DISTINCT record_id) AS records, count(DISTINCT path) AS files
FROM agent_trace_lines GROUP BY 1, 2, 3, 4, 5, 6;
COMMENT ON VIEW agent_trace_lines_by_day IS 'lines written by day (UTC), repository, model and tool';

CREATE OR REPLACE VIEW agent_trace_calls_by_day AS
SELECT (finished_at AT TIME ZONE 'UTC')::date AS day, tool, count(*) AS calls,
       count(*) FILTER (WHERE status = 'error') AS failed, round(avg(seconds), 3) AS mean_seconds,
       max(seconds) AS max_seconds
FROM agent_trace_calls GROUP BY 1, 2;
COMMENT ON VIEW agent_trace_calls_by_day IS 'tool calls and failures by day (UTC) and tool';

CREATE OR REPLACE VIEW agent_trace_usage_by_day AS
SELECT (finished_at AT TIME ZONE 'UTC')::date AS day, model_id, count(*) AS steps,
       count(DISTINCT session_id) AS sessions, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
       sum(reasoning_tokens) AS reasoning_tokens, sum(cache_read_tokens) AS cache_read_tokens,
       sum(cache_write_tokens) AS cache_write_tokens, sum(cost) AS cost
FROM agent_trace_steps GROUP BY 1, 2;
COMMENT ON VIEW agent_trace_usage_by_day IS 'tokens and cost by day (UTC) and model';

CREATE OR REPLACE VIEW agent_trace_secrets_by_day AS
SELECT (e.occurred_at AT TIME ZONE 'UTC')::date AS day, masked.key AS rule,
       sum(agent_trace_number(masked.value)) AS masked, count(*) AS events
FROM agent_trace_events e
CROSS JOIN LATERAL jsonb_each(
    CASE WHEN jsonb_typeof(e.payload -> 'redacted') = 'object' THEN e.payload -> 'redacted' END
) masked
GROUP BY 1, 2;
COMMENT ON VIEW agent_trace_secrets_by_day IS 'secrets masked by day (UTC) and rule';

CREATE OR REPLACE VIEW agent_trace_dead_letters_by_day AS
SELECT (seen_at AT TIME ZONE 'UTC')::date AS day, reason, count(*) AS lines
FROM agent_trace_dead_letters GROUP BY 1, 2;
COMMENT ON VIEW agent_trace_dead_letters_by_day IS 'lines that could not be stored, by day (UTC) and reason';

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('005_agent_trace_views', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
