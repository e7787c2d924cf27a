-- What was asked for: pages show it with the lines that came of it.
-- Run by `agent-trace-sidecar migrate`, or as it is: psql -f 009_agent_trace_prompts.sql

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

CREATE TABLE IF NOT EXISTS agent_trace_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL
);

-- A function, because a distributed database sums up nothing for each row of a table.
CREATE OR REPLACE FUNCTION agent_trace_prompt(parts jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT string_agg(part.value ->> 'text', E'\n' ORDER BY part.ordinality)
    FROM jsonb_array_elements(CASE WHEN jsonb_typeof(parts) = 'array' THEN parts END) WITH ORDINALITY part
    WHERE part.value ->> 'type' = 'text' AND part.value -> 'synthetic' IS DISTINCT FROM 'true'::jsonb
$$;
COMMENT ON FUNCTION agent_trace_prompt(jsonb) IS 'the text of a message''s parts that a person has written';

CREATE OR REPLACE VIEW agent_trace_prompts AS
SELECT e.session_id, e.message_id, e.occurred_at AS asked_at,
       agent_trace_prompt(e.payload #> '{output,parts}') AS prompt
FROM agent_trace_events e
WHERE e.event_name = 'chat.message' AND e.message_id IS NOT NULL;
COMMENT ON VIEW agent_trace_prompts IS 'what a person, or the session that started a subagent, has asked for, masked';
COMMENT ON COLUMN agent_trace_prompts.prompt IS 'null where it was no text; OpenCode 2 does not tell it';

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('009_agent_trace_prompts', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
