-- Four roles with the least rights that work:
--
--   agent_trace_owner   owns the tables: `migrate` and `prune` connect as it
--   agent_trace_writer  what sidecars connect as: it stores, and can neither change tables nor read what was stored.
--                       Writers trust each other: one can replace records and take over logs of another, though it can
--                       change and delete no event (docs/security.md, "Writers and peers")
--   agent_trace_reader  for people and dashboards: `blame`, `stats`, `report`, `export` and `status`
--   agent_trace_aggregates  for dashboards that many see: sums by day, model, repository and user, and nothing that was
--                       asked, said, done or written (docs/privacy.md)
--
-- Run it as a superuser, in the database and with the search_path that the tables have or shall have:
--
--   psql -f deploy/roles.sql       makes the roles, so that `migrate` can run as the owner
--   agent-trace-sidecar migrate    with the owner's URL
--   psql -f deploy/roles.sql       gives the rights to the tables; again after each later `migrate`
--
-- Running it twice changes nothing. The roles have no passwords: set them with psql's \password, or let the server
-- know its users by other means.

BEGIN;

SET LOCAL client_min_messages = warning;
-- Citus takes roles, tables and functions in one transaction only so; elsewhere it has no effect.
SET LOCAL citus.multi_shard_modify_mode TO 'sequential';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['agent_trace_owner', 'agent_trace_writer', 'agent_trace_reader',
                               'agent_trace_aggregates'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', name);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), name);
    END LOOP;
    -- Servers older than 15 let everybody make tables in the schema "public".
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('GRANT CREATE ON SCHEMA %I TO agent_trace_owner', current_schema());
END $$;

-- Tables of other owners become the owner's; the other roles begin without any privilege.
DO $$
DECLARE
    target record;
BEGIN
    FOR target IN
        SELECT c.oid::regclass AS name, c.relowner <> 'agent_trace_owner'::regrole AS foreign_owner, c.relispartition
        FROM pg_class c
        WHERE c.relname LIKE 'agent\_trace\_%' AND c.relkind IN ('r', 'p', 'v')
          AND c.relnamespace = current_schema()::regnamespace
    LOOP
        IF target.foreign_owner THEN
            EXECUTE format('ALTER TABLE %s OWNER TO agent_trace_owner', target.name);
        END IF;
        EXECUTE format('REVOKE ALL ON %s FROM agent_trace_writer, agent_trace_reader, agent_trace_aggregates', target.name);
        IF NOT target.relispartition THEN
            EXECUTE format('GRANT SELECT ON %s TO agent_trace_reader', target.name);
        END IF;
    END LOOP;
    FOR target IN
        SELECT p.oid::regprocedure AS name FROM pg_proc p
        WHERE p.proname LIKE 'agent\_trace\_%' AND p.proowner <> 'agent_trace_owner'::regrole
          AND p.pronamespace = current_schema()::regnamespace
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO agent_trace_owner', target.name);
    END LOOP;
END $$;

-- What each statement of a sidecar needs. Contents (payload, line) are written by COPY, which needs INSERT alone, and
-- can't be read back. The deduplication table and the checkpoint can: ids, positions, and the builder's state, which is
-- made of ids, names of models and one path. A record, which holds paths and ids and no contents, is found by its message
-- when that is undone, and replaced when the end of its step shows more; its ranges by their paths, as not each file is.
--
-- Citus gives rights to whole tables only. There the writer can read what it may read at all in full: records, dead
-- letters, ranges and hashes, but no event.
DO $$
DECLARE
    wanted record;
    by_column boolean := to_regclass('pg_dist_partition') IS NULL;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('agent_trace_migrations', 'SELECT'),
            ('agent_trace_events', 'INSERT'),
            ('agent_trace_records', 'INSERT, DELETE, SELECT (source_id, record_id, recorded_at, session_id, record)'),
            ('agent_trace_ranges',
             'INSERT, DELETE, SELECT (source_id, record_id, recorded_at, session_id, path, voided_at), UPDATE (voided_at)'),
            ('agent_trace_file_states', 'INSERT, DELETE, SELECT (source_id, record_id, recorded_at)'),
            ('agent_trace_usage', 'INSERT'),
            ('agent_trace_ended_calls', 'INSERT'),
            ('agent_trace_masked', 'INSERT'),
            ('agent_trace_dedupe', 'SELECT, INSERT'),
            ('agent_trace_sources', 'SELECT, INSERT, UPDATE'),
            -- For `status`, which is also the image's health check: how many dead letters and masked secrets of which kind.
            ('agent_trace_dead_letters', 'INSERT, SELECT (source_id, position, reason, seen_at)'),
            ('agent_trace_secrets_by_day', 'SELECT')
        ) AS t (name, rights)
        WHERE to_regclass(t.name) IS NOT NULL
    LOOP
        IF NOT by_column THEN
            wanted.rights := regexp_replace(wanted.rights, ' *\([^)]*\)', '', 'g');
        END IF;
        EXECUTE format('GRANT %s ON %I TO agent_trace_writer', wanted.rights, wanted.name);
    END LOOP;
END $$;

-- The views of sums, by name: a view that a later migration adds is not among them by itself. They read the tables with
-- their owner's rights.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'agent_trace_usage_by_day', 'agent_trace_calls_by_day', 'agent_trace_lines_by_day', 'agent_trace_secrets_by_day',
        'agent_trace_dead_letters_by_day', 'agent_trace_usage_by_user', 'agent_trace_calls_by_user',
        'agent_trace_lines_by_user', 'agent_trace_secrets_by_user'
    ] LOOP
        IF to_regclass(name) IS NOT NULL THEN
            EXECUTE format('GRANT SELECT ON %I TO agent_trace_aggregates', name);
        END IF;
    END LOOP;
END $$;

COMMIT;
