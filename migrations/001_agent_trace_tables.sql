-- The tables. Run by `agent-trace-sidecar migrate`, or as it is: psql -f 001_agent_trace_tables.sql
--
-- Names carry no schema: search_path decides. Ids and times are made by the shim and the sidecar, so no sequence,
-- default or trigger takes part in a write, and there are no foreign keys, so that months can be dropped.
--
-- Every table has a primary key. In the write path it begins with source_id, the run of OpenCode that an event came
-- from: a batch's rows are neighbours, and a distributed database has them on one shard. The same event delivered twice
-- (by a spool, a log, a replay) names the same run, so it has the same key. The checkpoint of a log has the key of the run
-- that the log begins with.
--
-- Tables that grow with time are partitioned by month (UTC). `agent-trace-sidecar migrate` and `prune` create the
-- months ahead of time; rows of a month that was not created are stored in the default partition.

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time, also beside a running `migrate`; held until COMMIT.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(4704380893158990945); END $$;

DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_class WHERE relname = 'agent_trace_records' AND pg_table_is_visible(oid))
       AND NOT EXISTS (SELECT FROM pg_attribute
                       WHERE attrelid = to_regclass('agent_trace_records') AND attname = 'source_id') THEN
        RAISE EXCEPTION 'the agent_trace tables of this database were made by version 0.3.0'
            USING HINT = 'Use another database, and replay the event logs or import the exported records there.';
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS agent_trace_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL
);
COMMENT ON TABLE agent_trace_migrations IS 'migrations that were applied';
COMMENT ON COLUMN agent_trace_migrations.version IS 'the file''s name without .sql';
COMMENT ON COLUMN agent_trace_migrations.applied_at IS 'when it was applied, by the server''s clock';

CREATE TABLE IF NOT EXISTS agent_trace_events (
    event_id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    source_id uuid NOT NULL,
    seq bigint NOT NULL,
    session_id text,
    message_id text,
    call_id text,
    event_name text NOT NULL,
    tool text,
    payload jsonb NOT NULL,
    PRIMARY KEY (source_id, event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
CREATE TABLE IF NOT EXISTS agent_trace_events_default PARTITION OF agent_trace_events DEFAULT;
COMMENT ON TABLE agent_trace_events IS 'hook and bus events of OpenCode, each once';
COMMENT ON COLUMN agent_trace_events.event_id IS 'UUIDv7 made by the shim when the hook was called';
COMMENT ON COLUMN agent_trace_events.occurred_at IS 'when the hook was called, by the clock of the shim''s machine';
COMMENT ON COLUMN agent_trace_events.source_id IS 'the run of OpenCode (instance of the shim), see agent_trace_sources';
COMMENT ON COLUMN agent_trace_events.seq IS 'counts the events of a run from 1 without a gap';
COMMENT ON COLUMN agent_trace_events.session_id IS 'OpenCode''s session; null for events of no session';
COMMENT ON COLUMN agent_trace_events.message_id IS 'OpenCode''s message';
COMMENT ON COLUMN agent_trace_events.call_id IS 'the tool call; unique within its message only';
COMMENT ON COLUMN agent_trace_events.event_name IS 'the hook''s name or the bus event''s type';
COMMENT ON COLUMN agent_trace_events.tool IS 'the tool that was called, e.g. edit or bash';
COMMENT ON COLUMN agent_trace_events.payload IS
    'input, output, directory and worktree as OpenCode gave them, after redaction; redacted counts what was masked';

CREATE TABLE IF NOT EXISTS agent_trace_records (
    source_id uuid NOT NULL,
    record_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    session_id text,
    spec_version text NOT NULL,
    vcs_type text,
    vcs_revision text,
    tool_name text,
    tool_version text,
    model_id text,
    contributor text NOT NULL,
    record jsonb NOT NULL,
    PRIMARY KEY (source_id, record_id, recorded_at)
);
COMMENT ON TABLE agent_trace_records IS 'Agent Trace records: one for each tool call that changed files';
COMMENT ON COLUMN agent_trace_records.source_id IS 'the run that recorded it; for imported records a fixed id';
COMMENT ON COLUMN agent_trace_records.record_id IS 'the record''s id, derived from event_id: a replay gives the same';
COMMENT ON COLUMN agent_trace_records.recorded_at IS 'when the call ended';
COMMENT ON COLUMN agent_trace_records.event_id IS 'the event that ended the call';
COMMENT ON COLUMN agent_trace_records.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_records.spec_version IS 'version of the Agent Trace specification';
COMMENT ON COLUMN agent_trace_records.vcs_type IS 'git, jj, hg or svn';
COMMENT ON COLUMN agent_trace_records.vcs_revision IS 'the revision that was checked out when the call ended';
COMMENT ON COLUMN agent_trace_records.tool_name IS 'the agent, e.g. opencode';
COMMENT ON COLUMN agent_trace_records.tool_version IS 'the agent''s version';
COMMENT ON COLUMN agent_trace_records.model_id IS 'provider/model; null where it is not known';
COMMENT ON COLUMN agent_trace_records.contributor IS 'ai, human, mixed or unknown';
COMMENT ON COLUMN agent_trace_records.record IS 'the canonical Agent Trace record';

CREATE TABLE IF NOT EXISTS agent_trace_ranges (
    source_id uuid NOT NULL,
    record_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    ordinal integer NOT NULL,
    project text,
    worktree text,
    path text NOT NULL,
    start_line integer NOT NULL,
    end_line integer NOT NULL,
    content_hash text,
    contributor text NOT NULL,
    model_id text,
    session_id text,
    message_id text,
    call_id text,
    tool text,
    method text NOT NULL,
    line_hashes bytea,
    line_tokens bytea,
    voided_at timestamptz,
    PRIMARY KEY (source_id, record_id, recorded_at, ordinal)
) PARTITION BY RANGE (recorded_at);
CREATE TABLE IF NOT EXISTS agent_trace_ranges_default PARTITION OF agent_trace_ranges DEFAULT;
COMMENT ON TABLE agent_trace_ranges IS 'ranges of lines as they were written: a row for each range of a record';
COMMENT ON COLUMN agent_trace_ranges.source_id IS 'as in agent_trace_records';
COMMENT ON COLUMN agent_trace_ranges.record_id IS 'the record';
COMMENT ON COLUMN agent_trace_ranges.recorded_at IS 'the record''s time';
COMMENT ON COLUMN agent_trace_ranges.ordinal IS 'place of the range in its record, from 0';
COMMENT ON COLUMN agent_trace_ranges.project IS
    'what the file belongs to, equal in every clone of a repository; the worktree''s path where there is none';
COMMENT ON COLUMN agent_trace_ranges.worktree IS 'the absolute path of the folder that path is relative to';
COMMENT ON COLUMN agent_trace_ranges.path IS 'the file, relative to the worktree, with forward slashes';
COMMENT ON COLUMN agent_trace_ranges.start_line IS 'first line, counted from 1, right after the call';
COMMENT ON COLUMN agent_trace_ranges.end_line IS 'last line, included';
COMMENT ON COLUMN agent_trace_ranges.content_hash IS 'hash of the range''s text; null where it is not known or holds a secret';
COMMENT ON COLUMN agent_trace_ranges.contributor IS 'ai, human, mixed or unknown';
COMMENT ON COLUMN agent_trace_ranges.model_id IS 'provider/model; null where it is not known';
COMMENT ON COLUMN agent_trace_ranges.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_ranges.message_id IS 'the message of the call';
COMMENT ON COLUMN agent_trace_ranges.call_id IS 'the tool call';
COMMENT ON COLUMN agent_trace_ranges.tool IS 'the tool that was called, e.g. edit or bash';
COMMENT ON COLUMN agent_trace_ranges.method IS
    'the evidence: snapshot, diff, localised, content, fallback (a guess) or imported';
COMMENT ON COLUMN agent_trace_ranges.line_hashes IS
    '8 bytes for each line: 4 of its text without white space, 4 of the whole line; zero where it may hold a secret';
COMMENT ON COLUMN agent_trace_ranges.line_tokens IS 'for each line a length, and one byte for each word';
COMMENT ON COLUMN agent_trace_ranges.voided_at IS 'when the call was undone; null while its lines count';

CREATE TABLE IF NOT EXISTS agent_trace_file_states (
    source_id uuid NOT NULL,
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
    PRIMARY KEY (source_id, record_id, recorded_at, path)
) PARTITION BY RANGE (recorded_at);
CREATE TABLE IF NOT EXISTS agent_trace_file_states_default PARTITION OF agent_trace_file_states DEFAULT;
COMMENT ON TABLE agent_trace_file_states IS 'a file before and after a change of a record, as hashes of its lines';
COMMENT ON COLUMN agent_trace_file_states.source_id IS 'as in agent_trace_records';
COMMENT ON COLUMN agent_trace_file_states.record_id IS 'the record';
COMMENT ON COLUMN agent_trace_file_states.recorded_at IS 'the record''s time';
COMMENT ON COLUMN agent_trace_file_states.project IS 'as in agent_trace_ranges';
COMMENT ON COLUMN agent_trace_file_states.worktree IS 'as in agent_trace_ranges';
COMMENT ON COLUMN agent_trace_file_states.path IS 'the file after the change';
COMMENT ON COLUMN agent_trace_file_states.old_path IS
    'the file before the change, where it was moved; of kind uncovered the folder that a snapshot covers all the same';
COMMENT ON COLUMN agent_trace_file_states.kind IS
    'add, update, delete or move; uncovered where a call may have changed the file, or with an empty path any, unseen';
COMMENT ON COLUMN agent_trace_file_states.before_hashes IS
    'as agent_trace_ranges.line_hashes, of all lines before; empty: there was no file, null: not known';
COMMENT ON COLUMN agent_trace_file_states.after_hashes IS 'the same after the change';
COMMENT ON COLUMN agent_trace_file_states.line_keys IS 'keys of the record''s lines, by project: find lines that moved';

-- What figures by day are summed from, written with the event: narrow rows, so that nothing reads payloads for them.
CREATE TABLE IF NOT EXISTS agent_trace_usage (
    source_id uuid NOT NULL,
    event_id uuid NOT NULL,
    finished_at timestamptz NOT NULL,
    session_id text,
    message_id text,
    part_id text NOT NULL,
    model_id text,
    agent text,
    worktree text,
    input_tokens numeric,
    output_tokens numeric,
    reasoning_tokens numeric,
    cache_read_tokens numeric,
    cache_write_tokens numeric,
    cost numeric,
    PRIMARY KEY (source_id, event_id)
);
COMMENT ON TABLE agent_trace_usage IS
    'events that end a request to a model, without copies in forks; sent twice, it has the same part_id';
COMMENT ON COLUMN agent_trace_usage.source_id IS 'the run of OpenCode';
COMMENT ON COLUMN agent_trace_usage.event_id IS 'the event';
COMMENT ON COLUMN agent_trace_usage.finished_at IS 'when the step ended';
COMMENT ON COLUMN agent_trace_usage.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_usage.message_id IS 'the message that the model wrote';
COMMENT ON COLUMN agent_trace_usage.part_id IS 'OpenCode''s id of the step: count it once';
COMMENT ON COLUMN agent_trace_usage.model_id IS 'provider/model; null where it is not known';
COMMENT ON COLUMN agent_trace_usage.agent IS 'OpenCode''s agent, e.g. build or plan';
COMMENT ON COLUMN agent_trace_usage.worktree IS 'the folder that OpenCode worked in';
COMMENT ON COLUMN agent_trace_usage.input_tokens IS 'tokens of the request that no cache had';
COMMENT ON COLUMN agent_trace_usage.output_tokens IS 'tokens of the answer';
COMMENT ON COLUMN agent_trace_usage.reasoning_tokens IS 'tokens of reasoning';
COMMENT ON COLUMN agent_trace_usage.cache_read_tokens IS 'tokens of the request that a cache had';
COMMENT ON COLUMN agent_trace_usage.cache_write_tokens IS 'tokens that were written to a cache';
COMMENT ON COLUMN agent_trace_usage.cost IS 'US dollars; null without a price';

CREATE TABLE IF NOT EXISTS agent_trace_ended_calls (
    source_id uuid NOT NULL,
    event_id uuid NOT NULL,
    finished_at timestamptz NOT NULL,
    session_id text,
    message_id text,
    part_id text NOT NULL,
    tool text NOT NULL,
    status text NOT NULL,
    seconds numeric,
    PRIMARY KEY (source_id, event_id)
);
COMMENT ON TABLE agent_trace_ended_calls IS
    'events that end a tool call, without copies in forks; sent twice, it has the same part_id';
COMMENT ON COLUMN agent_trace_ended_calls.source_id IS 'the run of OpenCode';
COMMENT ON COLUMN agent_trace_ended_calls.event_id IS 'the event';
COMMENT ON COLUMN agent_trace_ended_calls.finished_at IS 'when the call''s end was published';
COMMENT ON COLUMN agent_trace_ended_calls.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_ended_calls.message_id IS 'the message that called';
COMMENT ON COLUMN agent_trace_ended_calls.part_id IS 'OpenCode''s id of the call''s part: count it once';
COMMENT ON COLUMN agent_trace_ended_calls.tool IS 'the tool, e.g. edit or bash';
COMMENT ON COLUMN agent_trace_ended_calls.status IS 'completed or error';
COMMENT ON COLUMN agent_trace_ended_calls.seconds IS 'from start to end as OpenCode measured it';

CREATE TABLE IF NOT EXISTS agent_trace_masked (
    source_id uuid NOT NULL,
    event_id uuid NOT NULL,
    rule text NOT NULL,
    occurred_at timestamptz NOT NULL,
    session_id text,
    call_id text,
    masked bigint NOT NULL,
    PRIMARY KEY (source_id, event_id, rule)
);
COMMENT ON TABLE agent_trace_masked IS
    'secrets that were masked in an event, by rule';
COMMENT ON COLUMN agent_trace_masked.source_id IS 'the run of OpenCode';
COMMENT ON COLUMN agent_trace_masked.event_id IS 'the event';
COMMENT ON COLUMN agent_trace_masked.rule IS 'the redaction rule';
COMMENT ON COLUMN agent_trace_masked.occurred_at IS 'the event''s time';
COMMENT ON COLUMN agent_trace_masked.session_id IS 'OpenCode''s session';
COMMENT ON COLUMN agent_trace_masked.call_id IS 'the tool call, whose events repeat what they hold';
COMMENT ON COLUMN agent_trace_masked.masked IS 'how many secrets';

-- Partitioned by the time in the UUIDv7. What is no UUIDv7 is stored where its value falls.
CREATE TABLE IF NOT EXISTS agent_trace_dedupe (
    source_id uuid NOT NULL,
    event_id uuid NOT NULL,
    seen_at timestamptz NOT NULL,
    content_hash bigint,
    PRIMARY KEY (source_id, event_id)
) PARTITION BY RANGE (event_id);
CREATE TABLE IF NOT EXISTS agent_trace_dedupe_default PARTITION OF agent_trace_dedupe DEFAULT;
COMMENT ON TABLE agent_trace_dedupe IS
    'ids of all events that were stored or became dead letters; kept when the event itself is pruned';
COMMENT ON COLUMN agent_trace_dedupe.source_id IS 'as in agent_trace_events';
COMMENT ON COLUMN agent_trace_dedupe.event_id IS 'the event, or an id derived from a dead letter''s bytes';
COMMENT ON COLUMN agent_trace_dedupe.seen_at IS 'when it was stored, by the sidecar''s clock';
COMMENT ON COLUMN agent_trace_dedupe.content_hash IS
    'part of a hash of the event: a later one of this id with another hash is a conflict; null where some was masked';

CREATE TABLE IF NOT EXISTS agent_trace_sources (
    source_id uuid NOT NULL,
    kind text NOT NULL,
    host text NOT NULL,
    epoch bigint NOT NULL,
    position bigint NOT NULL,
    state jsonb NOT NULL,
    opened_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    container text,
    os_user text,
    repositories jsonb,
    projects jsonb,
    log_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    PRIMARY KEY (source_id, log_id)
);
COMMENT ON TABLE agent_trace_sources IS
    'logs and how far each is stored, runs of OpenCode and what is known of them, and progress of long commands';
COMMENT ON COLUMN agent_trace_sources.source_id IS 'the run; of a log the run that it begins with, or the log itself';
COMMENT ON COLUMN agent_trace_sources.kind IS 'instance for a run; stdin, file or backfill for a log; redact or retry for a command';
COMMENT ON COLUMN agent_trace_sources.host IS 'the machine';
COMMENT ON COLUMN agent_trace_sources.epoch IS
    'of a log: who may write it, a new one each time it is opened; of a run: the version of its state';
COMMENT ON COLUMN agent_trace_sources.position IS 'of a log: bytes that are stored; of a run: its highest seq';
COMMENT ON COLUMN agent_trace_sources.state IS 'of a log: its counts; of a run: what attribution needs of the past';
COMMENT ON COLUMN agent_trace_sources.opened_at IS 'when it was first seen';
COMMENT ON COLUMN agent_trace_sources.updated_at IS 'when it was last written';
COMMENT ON COLUMN agent_trace_sources.container IS 'the container''s id, or the pod''s name; null outside of one';
COMMENT ON COLUMN agent_trace_sources.os_user IS 'the user of the operating system who recorded';
COMMENT ON COLUMN agent_trace_sources.repositories IS
    'for each worktree the URL of its git remote without credentials, or null';
COMMENT ON COLUMN agent_trace_sources.projects IS
    'for each project that calls were recorded in, and each name that its worktree had later, the worktree';
COMMENT ON COLUMN agent_trace_sources.log_id IS 'the log; zero in rows that are no log''s';

-- A position may hold another line later, when a file was replaced or a disk has lost a part of a spool.
CREATE TABLE IF NOT EXISTS agent_trace_dead_letters (
    source_id uuid NOT NULL,
    position bigint NOT NULL,
    reason text NOT NULL,
    error text NOT NULL,
    line bytea NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (source_id, position, seen_at)
);
COMMENT ON TABLE agent_trace_dead_letters IS 'lines that could not be stored, after redaction, with the reason';
COMMENT ON COLUMN agent_trace_dead_letters.source_id IS 'the log that it was read from: log_id of agent_trace_sources';
COMMENT ON COLUMN agent_trace_dead_letters.position IS 'where it began in the log, in bytes';
COMMENT ON COLUMN agent_trace_dead_letters.reason IS 'a stable word for counting, e.g. invalid_json or refused';
COMMENT ON COLUMN agent_trace_dead_letters.error IS 'a sentence, without content of the line';
COMMENT ON COLUMN agent_trace_dead_letters.line IS 'the line';
COMMENT ON COLUMN agent_trace_dead_letters.seen_at IS 'when it was read, by the sidecar''s clock';

-- Not by source: nothing in it belongs to a run any more.
CREATE TABLE IF NOT EXISTS agent_trace_pruned (
    path_key bigint NOT NULL,
    covered_key bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (path_key, covered_key, first_at)
);
COMMENT ON TABLE agent_trace_pruned IS 'files of which records were pruned: their lines may be from calls that are gone';
COMMENT ON COLUMN agent_trace_pruned.path_key IS
    'a hash of the file''s project and path; of the project alone where calls may have changed any file unseen';
COMMENT ON COLUMN agent_trace_pruned.covered_key IS 'the same of the folder that a snapshot covered all the same; or 0';
COMMENT ON COLUMN agent_trace_pruned.first_at IS 'when the first of these calls began; the epoch where that is not known';
COMMENT ON COLUMN agent_trace_pruned.last_at IS 'when the last of them ended';

-- Hashes don't compress: trying costs time at every write. lz4 packs large payloads several times faster than the
-- default; servers older than 14 or built without it keep the default, and nothing else depends on it. Months are made
-- like their parent.
DO $$
DECLARE
    target record;
    done boolean;
BEGIN
    FOR target IN
        SELECT * FROM (VALUES
            ('agent_trace_file_states', 'before_hashes', 'attstorage', 'SET STORAGE EXTERNAL'),
            ('agent_trace_file_states', 'after_hashes', 'attstorage', 'SET STORAGE EXTERNAL'),
            ('agent_trace_file_states_default', 'before_hashes', 'attstorage', 'SET STORAGE EXTERNAL'),
            ('agent_trace_file_states_default', 'after_hashes', 'attstorage', 'SET STORAGE EXTERNAL'),
            ('agent_trace_events', 'payload', 'attcompression', 'SET COMPRESSION lz4'),
            ('agent_trace_events_default', 'payload', 'attcompression', 'SET COMPRESSION lz4'),
            ('agent_trace_records', 'record', 'attcompression', 'SET COMPRESSION lz4')
        ) AS t (tab, col, what, how)
        WHERE t.what <> 'attcompression' OR EXISTS (
            SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
        )
    LOOP
        -- Dynamic, because pg_attribute has no attcompression before 14; checked first, because ALTER locks the table.
        EXECUTE format('SELECT %I IN (''l'', ''e'') FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2',
                       target.what)
            INTO done USING target.tab, target.col;
        IF NOT done THEN
            EXECUTE format('ALTER TABLE %I ALTER COLUMN %I %s', target.tab, target.col, target.how);
        END IF;
    END LOOP;
END $$;

INSERT INTO agent_trace_migrations (version, applied_at)
VALUES ('001_agent_trace_tables', now())
ON CONFLICT (version) DO NOTHING;

COMMIT;
