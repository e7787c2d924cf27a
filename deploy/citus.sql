-- Spreads the tables over a Citus cluster, each by the first column of its key.
--
--   agent-trace-sidecar migrate    on the coordinator
--   psql -f deploy/citus.sql       there, too; again after each later `migrate`
--
-- Running it twice changes nothing. Sidecars need no setting: they look nothing up across tables, make all ids and
-- times themselves, and count by RETURNING. The number of shards is the coordinator's citus.shard_count; each month
-- of the partitioned tables has that many. Run deploy/roles.sql after CREATE EXTENSION citus, not before: Citus knows no
-- rights to single columns.

BEGIN;

-- One connection to each node: the names of a month's indexes are so long that Citus asks for this.
SET LOCAL citus.multi_shard_modify_mode TO 'sequential';

DO $$
DECLARE
    target record;
BEGIN
    -- What the views call runs where the rows are.
    FOR target IN
        SELECT name FROM unnest(ARRAY['agent_trace_number(jsonb)', 'agent_trace_time(jsonb)']) AS t (name)
        WHERE to_regprocedure(name) IS NOT NULL
    LOOP
        PERFORM create_distributed_function(target.name::regprocedure);
    END LOOP;

    FOR target IN
        SELECT * FROM (VALUES
            ('agent_trace_dedupe', 'event_id'),
            ('agent_trace_events', 'event_id'),
            ('agent_trace_records', 'record_id'),
            ('agent_trace_ranges', 'record_id'),
            ('agent_trace_file_states', 'record_id'),
            ('agent_trace_sources', 'source_id'),
            ('agent_trace_dead_letters', 'source_id')
        ) AS t (name, key)
        WHERE to_regclass(t.name) IS NOT NULL
          AND NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass(t.name))
    LOOP
        -- All keys are uuids: equal ids are on the same node, whatever table they are in.
        PERFORM create_distributed_table(target.name::regclass, target.key, colocate_with => 'default');
    END LOOP;

    -- Read by every sidecar when it connects, which may be to any node.
    IF NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_migrations'::regclass) THEN
        PERFORM create_reference_table('agent_trace_migrations');
    END IF;
END $$;

COMMIT;
