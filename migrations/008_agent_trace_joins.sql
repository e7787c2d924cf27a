-- The same views, without joins that a distributed database refuses: events are never joined with themselves row by row,
-- and tables that are not distributed by the same id are joined as subqueries, which it fetches first.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 008_agent_trace_joins.sql

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

CREATE TABLE IF NOT EXISTS agent_trace_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL
);

-- OpenCode 1 tells of a call's start and end in one part; of OpenCode 2 the hooks do, and a call's id may come again in
-- a later message, so its start is the last one before its end.
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
SELECT session_id, message_id, call_id, tool, status, began_at, occurred_at,
       round(extract(epoch FROM occurred_at - began_at)::numeric, 3), error, source_id, worktree
FROM (
    SELECT e.session_id, e.message_id, e.call_id, e.tool, e.occurred_at, e.source_id, e.event_name,
           e.payload #>> '{input,status}' AS status, e.payload #>> '{input,error,message}' AS error,
           e.payload ->> 'worktree' AS worktree,
           max(e.occurred_at) FILTER (WHERE e.event_name = 'tool.execute.before')
               OVER (PARTITION BY e.session_id, e.call_id ORDER BY e.occurred_at) AS began_at
    FROM agent_trace_events e
    WHERE (e.event_name = 'tool.execute.before' AND e.payload #>> '{input,messageID}' IS NOT NULL)
       OR (e.event_name = 'tool.execute.after' AND e.payload #>> '{input,status}' IN ('completed', 'error'))
) hooks
WHERE event_name = 'tool.execute.after';

-- What was first or last is found by the least or greatest pair of time and value, which needs no rows in order.
CREATE OR REPLACE VIEW agent_trace_sessions AS
SELECT s.session_id, s.parent_session_id, s.title, o.host, o.os_user, o.container, s.worktree,
       o.repositories ->> s.worktree AS repository, s.started_at, s.last_event_at, s.events, s.messages, s.steps,
       s.calls, s.failed_calls, s.input_tokens, s.output_tokens, s.reasoning_tokens, s.cache_read_tokens,
       s.cache_write_tokens, s.cost, coalesce(r.records, 0) AS records, coalesce(r.files, 0) AS files,
       coalesce(r.ai_lines, 0) AS ai_lines, s.source_id
FROM (
    SELECT e.session_id,
           max(p.properties #>> '{info,parentID}') FILTER (WHERE e.event_name = 'session.created') AS parent_session_id,
           (max(ARRAY[t.at, coalesce(p.properties #>> '{info,title}', p.properties ->> 'title')])
               FILTER (WHERE e.event_name IN ('session.created', 'session.updated', 'session.renamed')))[2] AS title,
           (min(ARRAY[t.at, e.source_id::text]))[2]::uuid AS source_id,
           (min(ARRAY[t.at, e.payload ->> 'worktree']))[2] AS worktree,
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
    CROSS JOIN LATERAL (SELECT to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') AS at) t
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
CREATE OR REPLACE VIEW agent_trace_lines AS
SELECT r.recorded_at, r.record_id, r.session_id, r.message_id, r.call_id, r.tool, r.model_id, r.contributor, r.method,
       r.project, f.worktree, o.repositories ->> f.worktree AS repository, o.host, o.os_user, r.path, r.start_line,
       r.end_line, r.end_line - r.start_line + 1 AS lines
FROM agent_trace_ranges r
LEFT JOIN agent_trace_file_states f
    ON f.record_id = r.record_id AND f.recorded_at = r.recorded_at AND f.path = r.path
LEFT JOIN agent_trace_records c ON c.record_id = r.record_id AND c.recorded_at = r.recorded_at
LEFT JOIN (SELECT event_id, occurred_at, source_id FROM agent_trace_events) e
    ON e.event_id = c.event_id AND e.occurred_at = c.recorded_at
LEFT JOIN (SELECT source_id, host, os_user, repositories FROM agent_trace_sources) o ON o.source_id = e.source_id
WHERE r.voided_at IS NULL;

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('008_agent_trace_joins', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
