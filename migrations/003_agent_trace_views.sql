-- Views for people and dashboards: what was called, what it cost, who wrote how much. They read the events as OpenCode
-- 1 and 2 send them; what an event does not hold is null here. Figures by day and session are sums over narrow tables that
-- are written with the events: agent_trace_usage, agent_trace_ended_calls and agent_trace_masked.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 003_agent_trace_views.sql
--
-- OpenCode publishes parts of messages again: a fork copies all of its parent's under new ids, and a part may be sent
-- twice. A part counts once, when it was first published. One that is published after its message was completed is a
-- copy: a live message is completed after its last part.
--
-- A distributed database refuses joins that need rows in order or row by row: what was first or last is found by the
-- least or greatest pair of time and value, and tables that do not share the distribution column are joined as subqueries.

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

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

-- A function, because a distributed database aggregates nothing for each row of a table.
CREATE OR REPLACE FUNCTION agent_trace_prompt(parts jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT string_agg(part.value ->> 'text', E'\n' ORDER BY part.ordinality)
    FROM jsonb_array_elements(CASE WHEN jsonb_typeof(parts) = 'array' THEN parts END) WITH ORDINALITY part
    WHERE part.value ->> 'type' = 'text' AND part.value -> 'synthetic' IS DISTINCT FROM 'true'::jsonb
$$;
COMMENT ON FUNCTION agent_trace_prompt(jsonb) IS 'the text of a message''s parts that a person has written';

CREATE OR REPLACE FUNCTION agent_trace_joined(texts jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT string_agg(value, E'\n' ORDER BY key) FROM jsonb_each_text(texts) $$;
COMMENT ON FUNCTION agent_trace_joined(jsonb) IS 'the texts of an object, a line each, in the order of its keys';

CREATE OR REPLACE VIEW agent_trace_prompts AS
SELECT session_id, message_id, min(asked_at) AS asked_at,
       coalesce(max(prompt) FILTER (WHERE part_id IS NULL),
                agent_trace_joined(jsonb_object_agg(part_id, prompt) FILTER (WHERE part_id IS NOT NULL))) AS prompt
FROM (
    SELECT e.session_id, e.message_id, e.occurred_at AS asked_at, NULL AS part_id,
           agent_trace_prompt(e.payload #> '{output,parts}') AS prompt
    FROM agent_trace_events e
    WHERE e.event_name = 'chat.message'
    UNION ALL
    SELECT e.session_id, e.message_id, e.occurred_at, NULL, e.payload #>> '{input,event,properties,item,payload,text}'
    FROM agent_trace_events e
    WHERE e.event_name = 'session.inbox.enqueued' AND e.payload #>> '{input,event,properties,item,type}' = 'user'
    UNION ALL
    SELECT e.session_id, e.message_id, e.occurred_at, part.part ->> 'id', part.part ->> 'text'
    FROM agent_trace_events e
    CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties,part}' AS part) part
    WHERE e.event_name = 'message.part.updated' AND part.part ->> 'type' = 'text' AND part.part -> 'time' IS NULL
      AND part.part ->> 'synthetic' IS DISTINCT FROM 'true'
) asked
WHERE message_id IS NOT NULL
GROUP BY session_id, message_id;
COMMENT ON VIEW agent_trace_prompts IS 'the prompts of a person, or of the session that started a subagent, masked';
COMMENT ON COLUMN agent_trace_prompts.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_prompts.message_id IS 'the user''s message';
COMMENT ON COLUMN agent_trace_prompts.asked_at IS 'when it was sent';
COMMENT ON COLUMN agent_trace_prompts.prompt IS 'its text; null where it was no text';

CREATE OR REPLACE VIEW agent_trace_messages AS
SELECT session_id, message_id, min(model_id) AS model_id, min(agent) AS agent,
       coalesce(min(created_at), min(occurred_at)) AS started_at, max(completed_at) AS completed_at
FROM (
    SELECT e.session_id, e.message_id, e.occurred_at, info.info ->> 'agent' AS agent,
           (info.info ->> 'providerID') || '/' || (info.info ->> 'modelID') AS model_id,
           agent_trace_time(info.info #> '{time,created}') AS created_at,
           agent_trace_time(info.info #> '{time,completed}') AS completed_at
    FROM agent_trace_events e
    CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties,info}' AS info) info
    WHERE e.event_name IN ('message.created', 'message.updated') AND info.info ->> 'role' = 'assistant'
    UNION ALL
    SELECT e.session_id, e.message_id, e.occurred_at, step.step ->> 'agent',
           (step.step #>> '{model,providerID}') || '/' || (step.step #>> '{model,id}'), NULL, NULL
    FROM agent_trace_events e
    CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties}' AS step) step
    WHERE e.event_name = 'session.step.started'
) published
WHERE message_id IS NOT NULL
GROUP BY session_id, message_id;
COMMENT ON VIEW agent_trace_messages IS 'the assistant''s messages, and the model that wrote each';
COMMENT ON COLUMN agent_trace_messages.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_messages.message_id IS 'OpenCode''s message';
COMMENT ON COLUMN agent_trace_messages.model_id IS 'provider/model, as OpenCode names them';
COMMENT ON COLUMN agent_trace_messages.agent IS 'OpenCode''s agent, e.g. build or plan';
COMMENT ON COLUMN agent_trace_messages.started_at IS 'when the model began; of a copy in a forked session, the original''s time';
COMMENT ON COLUMN agent_trace_messages.completed_at IS 'when it was completed; null until then, and for OpenCode 2';

-- OpenCode 1 publishes a call's start and end in one part; of OpenCode 2 the hooks report it, and a call's id may come again
-- in a later message, so its start is the last one before its end.
CREATE OR REPLACE VIEW agent_trace_calls AS
SELECT DISTINCT ON (p.session_id, p.message_id, p.part_id)
       p.session_id, p.message_id, p.call_id, p.tool, p.status, p.started_at, p.finished_at, p.seconds, p.error,
       p.source_id, p.worktree
FROM (
    SELECT e.session_id, e.message_id, e.call_id, e.tool, part.part #>> '{state,status}' AS status,
           agent_trace_time(part.part #> '{state,time,start}') AS started_at, e.occurred_at AS finished_at,
           round((agent_trace_number(part.part #> '{state,time,end}')
                  - agent_trace_number(part.part #> '{state,time,start}')) / 1000, 3) AS seconds,
           part.part #>> '{state,error}' AS error, e.source_id, e.payload ->> 'worktree' AS worktree,
           coalesce(part.part ->> 'id', e.event_id::text) AS part_id,
           agent_trace_time(part.part #> '{state,time,end}') AS ended_at,
           coalesce(agent_trace_time(e.payload #> '{input,event,properties,time}'),
                    e.occurred_at - interval '5 seconds') AS published_at
    FROM agent_trace_events e
    CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties,part}' AS part) part
    WHERE e.event_name = 'message.part.updated' AND e.tool IS NOT NULL
      AND part.part #>> '{state,status}' IN ('completed', 'error') AND part.part #> '{state,time,compacted}' IS NULL
    UNION ALL
    SELECT session_id, message_id, call_id, tool, status, began_at, occurred_at,
           round(extract(epoch FROM occurred_at - began_at)::numeric, 3), error, source_id, worktree,
           event_id::text, NULL, NULL
    FROM (
        SELECT e.session_id, e.message_id, e.call_id, e.tool, e.occurred_at, e.source_id, e.event_name, e.event_id,
               e.payload #>> '{input,status}' AS status, e.payload #>> '{input,error,message}' AS error,
               e.payload ->> 'worktree' AS worktree,
               max(e.occurred_at) FILTER (WHERE e.event_name = 'tool.execute.before')
                   OVER (PARTITION BY e.session_id, e.call_id ORDER BY e.occurred_at) AS began_at
        FROM agent_trace_events e
        WHERE (e.event_name = 'tool.execute.before' AND e.payload #>> '{input,messageID}' IS NOT NULL)
           OR (e.event_name = 'tool.execute.after' AND e.payload #>> '{input,status}' IN ('completed', 'error'))
    ) hooks
    WHERE event_name = 'tool.execute.after'
) p
LEFT JOIN agent_trace_messages m ON m.session_id = p.session_id AND m.message_id = p.message_id
WHERE (p.ended_at <= m.completed_at AND m.completed_at < p.published_at) IS NOT TRUE
ORDER BY p.session_id, p.message_id, p.part_id, p.finished_at;
COMMENT ON VIEW agent_trace_calls IS 'tool calls that have ended; one whose end OpenCode never published is not here';
COMMENT ON COLUMN agent_trace_calls.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_calls.message_id IS 'the message that called';
COMMENT ON COLUMN agent_trace_calls.call_id IS 'unique within its message only';
COMMENT ON COLUMN agent_trace_calls.tool IS 'the tool, e.g. edit or bash';
COMMENT ON COLUMN agent_trace_calls.status IS 'completed or error';
COMMENT ON COLUMN agent_trace_calls.started_at IS 'when the tool began';
COMMENT ON COLUMN agent_trace_calls.finished_at IS 'when its end was published';
COMMENT ON COLUMN agent_trace_calls.seconds IS 'from start to end as OpenCode measured it';
COMMENT ON COLUMN agent_trace_calls.error IS 'the tool''s error message, masked';
COMMENT ON COLUMN agent_trace_calls.source_id IS 'the run of OpenCode';
COMMENT ON COLUMN agent_trace_calls.worktree IS 'the repository''s folder';

CREATE OR REPLACE VIEW agent_trace_steps AS
SELECT DISTINCT ON (p.session_id, p.message_id, p.part_id)
       p.session_id, p.message_id, m.model_id, m.agent, p.finished_at, p.reason, p.input_tokens, p.output_tokens,
       p.reasoning_tokens, p.cache_read_tokens, p.cache_write_tokens,
       CASE
           WHEN p.cost <> 0 OR coalesce(p.input_tokens, 0) + coalesce(p.output_tokens, 0)
               + coalesce(p.reasoning_tokens, 0) + coalesce(p.cache_read_tokens, 0)
               + coalesce(p.cache_write_tokens, 0) = 0
           THEN p.cost
       END AS cost,
       p.source_id, p.part_id
FROM (
    SELECT session_id, message_id, source_id, finished_at, reason, part_id, published_at,
           agent_trace_number(tokens -> 'input') AS input_tokens,
           agent_trace_number(tokens -> 'output') AS output_tokens,
           agent_trace_number(tokens -> 'reasoning') AS reasoning_tokens,
           agent_trace_number(tokens #> '{cache,read}') AS cache_read_tokens,
           agent_trace_number(tokens #> '{cache,write}') AS cache_write_tokens,
           agent_trace_number(cost) AS cost
    FROM (
        SELECT e.session_id, e.message_id, e.source_id, e.occurred_at AS finished_at, part.part ->> 'reason' AS reason,
               part.part -> 'tokens' AS tokens, part.part -> 'cost' AS cost,
               coalesce(part.part ->> 'id', e.event_id::text) AS part_id,
               coalesce(agent_trace_time(e.payload #> '{input,event,properties,time}'),
                        e.occurred_at - interval '5 seconds') AS published_at
        FROM agent_trace_events e
        CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties,part}' AS part) part
        WHERE e.event_name = 'message.part.updated' AND part.part ->> 'type' = 'step-finish'
        UNION ALL
        SELECT e.session_id, e.message_id, e.source_id, e.occurred_at,
               coalesce(e.payload #>> '{input,event,properties,finish}', 'error'),
               e.payload #> '{input,event,properties,tokens}', e.payload #> '{input,event,properties,cost}',
               coalesce(e.payload #>> '{input,event,id}', e.event_id::text), NULL
        FROM agent_trace_events e
        WHERE e.event_name IN ('session.step.ended', 'session.step.failed')
    ) published
) p
LEFT JOIN agent_trace_messages m ON m.session_id = p.session_id AND m.message_id = p.message_id
WHERE (m.completed_at < p.published_at) IS NOT TRUE
ORDER BY p.session_id, p.message_id, p.part_id, p.finished_at;
COMMENT ON VIEW agent_trace_steps IS 'requests to a model, each once, with tokens and cost';
COMMENT ON COLUMN agent_trace_steps.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_steps.message_id IS 'the message that the model wrote';
COMMENT ON COLUMN agent_trace_steps.model_id IS 'provider/model; null where it is not known';
COMMENT ON COLUMN agent_trace_steps.agent IS 'OpenCode''s agent, e.g. build or plan';
COMMENT ON COLUMN agent_trace_steps.finished_at IS 'when the step ended';
COMMENT ON COLUMN agent_trace_steps.reason IS 'why the model stopped, e.g. stop or tool-calls';
COMMENT ON COLUMN agent_trace_steps.input_tokens IS 'tokens of the request that no cache had';
COMMENT ON COLUMN agent_trace_steps.output_tokens IS 'tokens of the answer';
COMMENT ON COLUMN agent_trace_steps.reasoning_tokens IS 'tokens of reasoning';
COMMENT ON COLUMN agent_trace_steps.cache_read_tokens IS 'tokens of the request that a cache had';
COMMENT ON COLUMN agent_trace_steps.cache_write_tokens IS 'tokens that were written to a cache';
COMMENT ON COLUMN agent_trace_steps.cost IS
    'US dollars, as OpenCode computed them; null where it has no price: it reports 0 for a step that used tokens';
COMMENT ON COLUMN agent_trace_steps.source_id IS 'the run of OpenCode';
COMMENT ON COLUMN agent_trace_steps.part_id IS 'OpenCode''s id of the part; of OpenCode 2 the id of the bus event';

-- What agent_trace_steps says, from the narrow rows. OpenCode 2 also reports what a session has used so far, with titles
-- and compactions: what its steps leave of that is one row more, without a message, when it was last reported.
CREATE OR REPLACE VIEW agent_trace_requests AS
SELECT u.session_id, u.message_id, u.part_id, u.finished_at, u.model_id, u.agent, u.input_tokens, u.output_tokens,
       u.reasoning_tokens, u.cache_read_tokens, u.cache_write_tokens, u.cost, u.worktree,
       o.repositories ->> u.worktree AS repository, o.host, o.os_user, u.source_id
FROM (
    SELECT session_id, message_id, part_id, finished_at, model_id, agent, input_tokens, output_tokens,
           reasoning_tokens, cache_read_tokens, cache_write_tokens, cost, worktree, source_id
    FROM (
        SELECT DISTINCT ON (session_id, message_id, part_id) * FROM agent_trace_usage
        ORDER BY session_id, message_id, part_id, finished_at
    ) once
    UNION ALL
    SELECT session_id, NULL, NULL, reported_at, NULL, NULL, greatest(input_tokens, 0), greatest(output_tokens, 0),
           greatest(reasoning_tokens, 0), greatest(cache_read_tokens, 0), greatest(cache_write_tokens, 0),
           CASE WHEN cost > 0 THEN cost END, worktree, source_id
    FROM (
        SELECT r.session_id, r.reported_at, r.worktree, r.source_id,
               agent_trace_number(r.used #> '{tokens,input}') - coalesce(s.input_tokens, 0) AS input_tokens,
               agent_trace_number(r.used #> '{tokens,output}') - coalesce(s.output_tokens, 0) AS output_tokens,
               agent_trace_number(r.used #> '{tokens,reasoning}') - coalesce(s.reasoning_tokens, 0) AS reasoning_tokens,
               agent_trace_number(r.used #> '{tokens,cache,read}') - coalesce(s.cache_read_tokens, 0)
                   AS cache_read_tokens,
               agent_trace_number(r.used #> '{tokens,cache,write}') - coalesce(s.cache_write_tokens, 0)
                   AS cache_write_tokens,
               agent_trace_number(r.used -> 'cost') - coalesce(s.cost, 0) AS cost
        FROM (
            SELECT DISTINCT ON (session_id) session_id, occurred_at AS reported_at, source_id,
                   payload ->> 'worktree' AS worktree, payload #> '{input,event,properties}' AS used
            FROM agent_trace_events
            WHERE event_name = 'session.usage.updated' AND session_id IS NOT NULL
            ORDER BY session_id, occurred_at DESC
        ) r
        LEFT JOIN (
            SELECT session_id, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
                   sum(reasoning_tokens) AS reasoning_tokens, sum(cache_read_tokens) AS cache_read_tokens,
                   sum(cache_write_tokens) AS cache_write_tokens, sum(cost) AS cost
            FROM (
                SELECT DISTINCT ON (session_id, message_id, part_id) * FROM agent_trace_usage
                WHERE session_id IN (
                    SELECT session_id FROM agent_trace_events WHERE event_name = 'session.usage.updated'
                )
                ORDER BY session_id, message_id, part_id, finished_at
            ) once
            GROUP BY session_id
        ) s ON s.session_id = r.session_id
    ) rest
    WHERE greatest(input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens) > 0
       OR cost > 0.0000001
) u
LEFT JOIN agent_trace_sources o ON o.source_id = u.source_id AND o.kind = 'instance';
COMMENT ON VIEW agent_trace_requests IS
    'requests to a model, each once, with tokens and cost, and with who and where; of OpenCode 2 titles and compactions';
COMMENT ON COLUMN agent_trace_requests.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_requests.message_id IS
    'the message that the model wrote; null for a session''s titles and compactions, together';
COMMENT ON COLUMN agent_trace_requests.part_id IS 'OpenCode''s id of the step; null as message_id';
COMMENT ON COLUMN agent_trace_requests.finished_at IS 'when the step ended';
COMMENT ON COLUMN agent_trace_requests.model_id IS 'provider/model; null where it is not known';
COMMENT ON COLUMN agent_trace_requests.agent IS 'OpenCode''s agent, e.g. build or plan';
COMMENT ON COLUMN agent_trace_requests.input_tokens IS 'tokens of the request that no cache had';
COMMENT ON COLUMN agent_trace_requests.output_tokens IS 'tokens of the answer';
COMMENT ON COLUMN agent_trace_requests.reasoning_tokens IS 'tokens of reasoning';
COMMENT ON COLUMN agent_trace_requests.cache_read_tokens IS 'tokens of the request that a cache had';
COMMENT ON COLUMN agent_trace_requests.cache_write_tokens IS 'tokens that were written to a cache';
COMMENT ON COLUMN agent_trace_requests.cost IS 'US dollars, as OpenCode computed them; null where it has no price';
COMMENT ON COLUMN agent_trace_requests.worktree IS 'the folder that OpenCode worked in';
COMMENT ON COLUMN agent_trace_requests.repository IS 'the URL of the git remote, without credentials';
COMMENT ON COLUMN agent_trace_requests.host IS 'the machine';
COMMENT ON COLUMN agent_trace_requests.os_user IS 'the user of the operating system who recorded';
COMMENT ON COLUMN agent_trace_requests.source_id IS 'the run of OpenCode';

-- The index agent_trace_events_titles has the first and the last event of each session that says this; only their
-- payloads are read.
CREATE OR REPLACE VIEW agent_trace_titles AS
SELECT e.session_id, min(e.occurred_at) AS started_at,
       max(coalesce(e.payload #>> '{input,event,properties,info,parentID}',
                    e.payload #>> '{input,event,properties,parentID}')) AS parent_session_id,
       (max(ARRAY[to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS'),
                  coalesce(e.payload #>> '{input,event,properties,info,title}',
                           e.payload #>> '{input,event,properties,title}')]))[2] AS title
FROM agent_trace_events e
JOIN (
    SELECT session_id, min(occurred_at) AS first_at, max(occurred_at) AS last_at FROM agent_trace_events
    WHERE event_name IN ('session.created', 'session.updated', 'session.renamed') AND session_id IS NOT NULL
    GROUP BY session_id
) s ON s.session_id = e.session_id AND e.occurred_at = ANY (ARRAY[s.first_at, s.last_at])
WHERE e.event_name IN ('session.created', 'session.updated', 'session.renamed')
GROUP BY e.session_id;
COMMENT ON VIEW agent_trace_titles IS 'sessions by title: a few columns of agent_trace_sessions, found by an index';
COMMENT ON COLUMN agent_trace_titles.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_titles.started_at IS 'when OpenCode first reported it';
COMMENT ON COLUMN agent_trace_titles.parent_session_id IS 'the session that started this one, a subagent''s';
COMMENT ON COLUMN agent_trace_titles.title IS 'its last title';

CREATE OR REPLACE VIEW agent_trace_sessions AS
SELECT s.session_id, s.parent_session_id, s.title, o.host, o.os_user, o.container, s.worktree,
       o.repositories ->> s.worktree AS repository, s.started_at, s.last_event_at, s.events, s.messages,
       coalesce(t.steps, 0) AS steps, coalesce(c.calls, 0) AS calls, coalesce(c.failed, 0) AS failed_calls,
       t.input_tokens, t.output_tokens, t.reasoning_tokens, t.cache_read_tokens, t.cache_write_tokens, t.cost,
       coalesce(r.records, 0) AS records, coalesce(r.files, 0) AS files, coalesce(r.ai_lines, 0) AS ai_lines,
       s.source_id, coalesce(t.unpriced_steps, 0) AS unpriced_steps
FROM (
    SELECT e.session_id,
           max(coalesce(p.properties #>> '{info,parentID}', p.properties ->> 'parentID'))
               FILTER (WHERE e.event_name IN ('session.created', 'session.updated')) AS parent_session_id,
           (max(ARRAY[t.at, coalesce(p.properties #>> '{info,title}', p.properties ->> 'title')])
               FILTER (WHERE e.event_name IN ('session.created', 'session.updated', 'session.renamed')))[2] AS title,
           (min(ARRAY[t.at, e.source_id::text]))[2]::uuid AS source_id,
           (min(ARRAY[t.at, e.payload ->> 'worktree']))[2] AS worktree,
           min(e.occurred_at) AS started_at, max(e.occurred_at) AS last_event_at, count(*) AS events,
           count(DISTINCT e.message_id) AS messages
    FROM agent_trace_events e
    CROSS JOIN LATERAL (SELECT to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') AS at) t
    CROSS JOIN LATERAL (SELECT e.payload #> '{input,event,properties}' AS properties) p
    WHERE e.session_id IS NOT NULL
    GROUP BY e.session_id
) s
LEFT JOIN agent_trace_sources o ON o.source_id = s.source_id AND o.kind = 'instance'
LEFT JOIN (
    SELECT session_id, count(part_id) AS steps, count(part_id) FILTER (WHERE cost IS NULL) AS unpriced_steps,
           sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
           sum(reasoning_tokens) AS reasoning_tokens, sum(cache_read_tokens) AS cache_read_tokens,
           sum(cache_write_tokens) AS cache_write_tokens, sum(cost) AS cost
    FROM agent_trace_requests
    WHERE session_id IS NOT NULL GROUP BY session_id
) t ON t.session_id = s.session_id
LEFT JOIN (
    SELECT session_id, count(*) AS calls, count(*) FILTER (WHERE status = 'error') AS failed
    FROM (
        SELECT DISTINCT ON (session_id, message_id, part_id) * FROM agent_trace_ended_calls
        ORDER BY session_id, message_id, part_id, finished_at
    ) once
    WHERE session_id IS NOT NULL GROUP BY session_id
) c ON c.session_id = s.session_id
LEFT JOIN (
    SELECT session_id, count(DISTINCT record_id) AS records, count(DISTINCT path) AS files,
           sum(end_line - start_line + 1) AS ai_lines
    FROM agent_trace_ranges WHERE voided_at IS NULL AND session_id IS NOT NULL GROUP BY session_id
) r ON r.session_id = s.session_id;
COMMENT ON VIEW agent_trace_sessions IS 'sessions: who, where, when, what each did, and what it cost';
COMMENT ON COLUMN agent_trace_sessions.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_sessions.parent_session_id IS 'set for a subagent''s session';
COMMENT ON COLUMN agent_trace_sessions.title IS 'its title as it was last';
COMMENT ON COLUMN agent_trace_sessions.host IS 'the machine';
COMMENT ON COLUMN agent_trace_sessions.os_user IS 'the user of the operating system who recorded';
COMMENT ON COLUMN agent_trace_sessions.container IS 'the container''s id, or the pod''s name';
COMMENT ON COLUMN agent_trace_sessions.worktree IS 'the repository''s folder where it began';
COMMENT ON COLUMN agent_trace_sessions.repository IS 'the URL of the git remote, without credentials';
COMMENT ON COLUMN agent_trace_sessions.started_at IS 'its first event';
COMMENT ON COLUMN agent_trace_sessions.last_event_at IS 'its last event';
COMMENT ON COLUMN agent_trace_sessions.events IS 'stored events';
COMMENT ON COLUMN agent_trace_sessions.messages IS 'messages, also those that a fork copied';
COMMENT ON COLUMN agent_trace_sessions.steps IS 'requests to a model, without those that a fork copied';
COMMENT ON COLUMN agent_trace_sessions.calls IS 'tool calls that have ended, without those that a fork copied';
COMMENT ON COLUMN agent_trace_sessions.failed_calls IS 'of these, calls that failed';
COMMENT ON COLUMN agent_trace_sessions.input_tokens IS 'sum over its steps; of OpenCode 2 with titles and compactions';
COMMENT ON COLUMN agent_trace_sessions.output_tokens IS 'sum over its steps; of OpenCode 2 with titles and compactions';
COMMENT ON COLUMN agent_trace_sessions.reasoning_tokens IS 'sum over its steps; of OpenCode 2 with titles and compactions';
COMMENT ON COLUMN agent_trace_sessions.cache_read_tokens IS 'sum over its steps; of OpenCode 2 with titles and compactions';
COMMENT ON COLUMN agent_trace_sessions.cache_write_tokens IS 'sum over its steps; of OpenCode 2 with titles and compactions';
COMMENT ON COLUMN agent_trace_sessions.cost IS
    'US dollars, sum over its priced steps, of OpenCode 2 with titles and compactions; null where none has a price';
COMMENT ON COLUMN agent_trace_sessions.records IS 'Agent Trace records whose lines count';
COMMENT ON COLUMN agent_trace_sessions.files IS 'files with lines that count';
COMMENT ON COLUMN agent_trace_sessions.ai_lines IS 'lines written by the AI, each as often as it was written';
COMMENT ON COLUMN agent_trace_sessions.source_id IS 'the run of OpenCode in which it began';
COMMENT ON COLUMN agent_trace_sessions.unpriced_steps IS 'steps without a price, which cost leaves out';

CREATE OR REPLACE VIEW agent_trace_lines AS
SELECT r.recorded_at, r.record_id, r.session_id, r.message_id, r.call_id, r.tool, r.model_id, r.contributor, r.method,
       r.project, r.worktree, o.repositories ->> r.worktree AS repository, o.host, o.os_user, r.path, r.start_line,
       r.end_line, r.end_line - r.start_line + 1 AS lines, r.source_id
FROM agent_trace_ranges r
LEFT JOIN agent_trace_sources o ON o.source_id = r.source_id AND o.kind = 'instance'
WHERE r.voided_at IS NULL;
COMMENT ON VIEW agent_trace_lines IS 'ranges of lines as they were written, with who and where; undone ones are left out';
COMMENT ON COLUMN agent_trace_lines.recorded_at IS 'when the call ended';
COMMENT ON COLUMN agent_trace_lines.record_id IS 'the Agent Trace record';
COMMENT ON COLUMN agent_trace_lines.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_lines.message_id IS 'the message of the call';
COMMENT ON COLUMN agent_trace_lines.call_id IS 'the tool call';
COMMENT ON COLUMN agent_trace_lines.tool IS 'the tool, e.g. edit or bash';
COMMENT ON COLUMN agent_trace_lines.model_id IS 'provider/model; null where it is not known';
COMMENT ON COLUMN agent_trace_lines.contributor IS 'ai, human, mixed or unknown';
COMMENT ON COLUMN agent_trace_lines.method IS 'the evidence, see agent_trace_ranges';
COMMENT ON COLUMN agent_trace_lines.project IS 'equal in every clone of a repository';
COMMENT ON COLUMN agent_trace_lines.worktree IS 'the repository''s folder';
COMMENT ON COLUMN agent_trace_lines.repository IS 'the URL of the git remote, without credentials';
COMMENT ON COLUMN agent_trace_lines.host IS 'the machine';
COMMENT ON COLUMN agent_trace_lines.os_user IS 'the user of the operating system who recorded';
COMMENT ON COLUMN agent_trace_lines.path IS 'the file, relative to the worktree';
COMMENT ON COLUMN agent_trace_lines.start_line IS 'first line, counted from 1';
COMMENT ON COLUMN agent_trace_lines.end_line IS 'last line, included';
COMMENT ON COLUMN agent_trace_lines.lines IS 'how many lines';
COMMENT ON COLUMN agent_trace_lines.source_id IS 'the run of OpenCode';

CREATE OR REPLACE VIEW agent_trace_lines_by_day AS
SELECT (recorded_at AT TIME ZONE 'UTC')::date AS day, project, repository, model_id, tool, contributor,
       sum(lines) AS lines, count(DISTINCT record_id) AS records, count(DISTINCT path) AS files
FROM agent_trace_lines GROUP BY 1, 2, 3, 4, 5, 6;
COMMENT ON VIEW agent_trace_lines_by_day IS 'lines written by day (UTC), repository, model and tool';
COMMENT ON COLUMN agent_trace_lines_by_day.day IS 'day of writing (UTC)';
COMMENT ON COLUMN agent_trace_lines_by_day.project IS 'equal in every clone of a repository';
COMMENT ON COLUMN agent_trace_lines_by_day.repository IS 'the URL of the git remote, without credentials';
COMMENT ON COLUMN agent_trace_lines_by_day.model_id IS 'provider/model; null where it is not known';
COMMENT ON COLUMN agent_trace_lines_by_day.tool IS 'the tool, e.g. edit or bash';
COMMENT ON COLUMN agent_trace_lines_by_day.contributor IS 'ai, human, mixed or unknown';
COMMENT ON COLUMN agent_trace_lines_by_day.lines IS 'lines written, each as often as it was written';
COMMENT ON COLUMN agent_trace_lines_by_day.records IS 'Agent Trace records';
COMMENT ON COLUMN agent_trace_lines_by_day.files IS 'different paths';

CREATE OR REPLACE VIEW agent_trace_calls_by_day AS
SELECT (finished_at AT TIME ZONE 'UTC')::date AS day, tool, count(*) AS calls,
       count(*) FILTER (WHERE status = 'error') AS failed, round(avg(seconds), 3) AS mean_seconds,
       max(seconds) AS max_seconds
FROM (
    SELECT DISTINCT ON (session_id, message_id, part_id) * FROM agent_trace_ended_calls
    ORDER BY session_id, message_id, part_id, finished_at
) once
GROUP BY 1, 2;
COMMENT ON VIEW agent_trace_calls_by_day IS 'tool calls and failures by day (UTC) and tool';
COMMENT ON COLUMN agent_trace_calls_by_day.day IS 'day of the call''s end (UTC)';
COMMENT ON COLUMN agent_trace_calls_by_day.tool IS 'the tool, e.g. edit or bash';
COMMENT ON COLUMN agent_trace_calls_by_day.calls IS 'calls that have ended';
COMMENT ON COLUMN agent_trace_calls_by_day.failed IS 'of these, calls that failed';
COMMENT ON COLUMN agent_trace_calls_by_day.mean_seconds IS 'mean time of a call';
COMMENT ON COLUMN agent_trace_calls_by_day.max_seconds IS 'time of the longest call';

CREATE OR REPLACE VIEW agent_trace_usage_by_day AS
SELECT (finished_at AT TIME ZONE 'UTC')::date AS day, model_id, count(part_id) AS steps,
       count(DISTINCT session_id) AS sessions, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
       sum(reasoning_tokens) AS reasoning_tokens, sum(cache_read_tokens) AS cache_read_tokens,
       sum(cache_write_tokens) AS cache_write_tokens, sum(cost) AS cost,
       count(part_id) FILTER (WHERE cost IS NULL) AS unpriced_steps
FROM agent_trace_requests
GROUP BY 1, 2;
COMMENT ON VIEW agent_trace_usage_by_day IS 'tokens and cost by day (UTC) and model';
COMMENT ON COLUMN agent_trace_usage_by_day.day IS 'day of the step''s end (UTC)';
COMMENT ON COLUMN agent_trace_usage_by_day.model_id IS 'provider/model; null where it is not known, as of titles';
COMMENT ON COLUMN agent_trace_usage_by_day.steps IS 'requests to the model';
COMMENT ON COLUMN agent_trace_usage_by_day.sessions IS 'sessions with such a step';
COMMENT ON COLUMN agent_trace_usage_by_day.input_tokens IS 'sum over the steps';
COMMENT ON COLUMN agent_trace_usage_by_day.output_tokens IS 'sum over the steps';
COMMENT ON COLUMN agent_trace_usage_by_day.reasoning_tokens IS 'sum over the steps';
COMMENT ON COLUMN agent_trace_usage_by_day.cache_read_tokens IS 'sum over the steps';
COMMENT ON COLUMN agent_trace_usage_by_day.cache_write_tokens IS 'sum over the steps';
COMMENT ON COLUMN agent_trace_usage_by_day.cost IS 'US dollars, sum over the priced steps; null where none has a price';
COMMENT ON COLUMN agent_trace_usage_by_day.unpriced_steps IS 'steps without a price, which cost leaves out';

CREATE OR REPLACE VIEW agent_trace_secrets_by_day AS
SELECT day, rule, sum(masked) AS masked, sum(events)::bigint AS events
FROM (
    SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, rule, max(masked) AS masked, count(*) AS events
    FROM agent_trace_masked
    GROUP BY 1, 2, session_id, coalesce(call_id, event_id::text)
) calls
GROUP BY 1, 2;
COMMENT ON VIEW agent_trace_secrets_by_day IS 'secrets masked by day (UTC) and rule';
COMMENT ON COLUMN agent_trace_secrets_by_day.day IS 'day of the event (UTC)';
COMMENT ON COLUMN agent_trace_secrets_by_day.rule IS 'the redaction rule';
COMMENT ON COLUMN agent_trace_secrets_by_day.masked IS 'secrets masked; one that several events of a call repeat counts once';
COMMENT ON COLUMN agent_trace_secrets_by_day.events IS 'events that held one';

CREATE OR REPLACE VIEW agent_trace_dead_letters_by_day AS
SELECT (seen_at AT TIME ZONE 'UTC')::date AS day, reason, count(*) AS lines
FROM agent_trace_dead_letters GROUP BY 1, 2;
COMMENT ON VIEW agent_trace_dead_letters_by_day IS 'lines that could not be stored, by day (UTC) and reason';
COMMENT ON COLUMN agent_trace_dead_letters_by_day.day IS 'day on which it was read (UTC)';
COMMENT ON COLUMN agent_trace_dead_letters_by_day.reason IS 'why, see agent_trace_dead_letters';
COMMENT ON COLUMN agent_trace_dead_letters_by_day.lines IS 'how many';

-- Sums by day, repository and user, without contents, titles, paths and ids of sessions: for dashboards, and for the role
-- agent_trace_aggregates of deploy/roles.sql. Calls and secrets have the repository and user of their session's requests
-- to models; those of a session without one have none.
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
VALUES ('003_agent_trace_views', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
