-- Spreads the tables over a Citus cluster by source_id, the first column of their keys: what a run of OpenCode recorded is
-- on one shard, and so is the checkpoint of a log that begins with it. A usual batch writes to that shard only.
--
--   agent-trace-sidecar migrate    on the coordinator
--   psql -f deploy/citus.sql       there, too; again after each later `migrate`
--
-- Each statement is a transaction of its own, as Citus likes it, with rows in the tables or without; running the file
-- again does what is missing. Sidecars need no setting: they look nothing up across tables, make all ids and times
-- themselves, and count by RETURNING. The number of shards is the coordinator's citus.shard_count; each month of the
-- partitioned tables has that many. Run deploy/roles.sql after CREATE EXTENSION citus, not before: Citus knows no rights
-- to single columns.

-- Citus filters shards out of every query of the catalogue, which costs seconds of processor time whenever a client
-- looks up its types, as drivers do for arrays. Without the filter psql's \d lists shards as well.
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET citus.override_table_visibility = off', current_database());
END $$;

-- What the views call runs where the rows are.
SELECT create_distributed_function('agent_trace_number(jsonb)');
SELECT create_distributed_function('agent_trace_time(jsonb)');
SELECT create_distributed_function('agent_trace_prompt(jsonb)');
SELECT create_distributed_function('agent_trace_joined(jsonb)');

SELECT create_distributed_table('agent_trace_dedupe', 'source_id')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_dedupe'::regclass);

SELECT create_distributed_table('agent_trace_events', 'source_id', colocate_with => 'agent_trace_dedupe')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_events'::regclass);

SELECT create_distributed_table('agent_trace_records', 'source_id', colocate_with => 'agent_trace_dedupe')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_records'::regclass);

SELECT create_distributed_table('agent_trace_ranges', 'source_id', colocate_with => 'agent_trace_dedupe')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_ranges'::regclass);

SELECT create_distributed_table('agent_trace_file_states', 'source_id', colocate_with => 'agent_trace_dedupe')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_file_states'::regclass);

SELECT create_distributed_table('agent_trace_usage', 'source_id', colocate_with => 'agent_trace_dedupe')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_usage'::regclass);

SELECT create_distributed_table('agent_trace_ended_calls', 'source_id', colocate_with => 'agent_trace_dedupe')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_ended_calls'::regclass);

SELECT create_distributed_table('agent_trace_masked', 'source_id', colocate_with => 'agent_trace_dedupe')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_masked'::regclass);

SELECT create_distributed_table('agent_trace_sources', 'source_id', colocate_with => 'agent_trace_dedupe')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_sources'::regclass);

SELECT create_distributed_table('agent_trace_dead_letters', 'source_id', colocate_with => 'agent_trace_dedupe')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_dead_letters'::regclass);

-- Read by every sidecar when it connects, which may be to any node.
SELECT create_reference_table('agent_trace_migrations')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_migrations'::regclass);

-- Written by `prune`, read by `blame`: small, and by no source.
SELECT create_reference_table('agent_trace_pruned')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_pruned'::regclass);

-- Rows that were there before stay in a hidden local copy, which nothing else reaches: not `prune`, and no erasure.
SELECT truncate_local_data_after_distributing_table(p.logicalrelid)
FROM pg_dist_partition p JOIN pg_class c ON c.oid = p.logicalrelid
WHERE c.relname LIKE 'agent\_trace\_%' AND c.relkind = 'r';

-- Every table has a primary key, so shards can be moved while sidecars write: SELECT citus_rebalance_start().
