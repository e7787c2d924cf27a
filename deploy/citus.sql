-- Spreads the tables over a Citus cluster, each by the first column of its key.
--
--   agent-trace-sidecar migrate    on the coordinator
--   psql -f deploy/citus.sql       there, too; again after each later `migrate`
--
-- Each statement is a transaction of its own, as Citus likes it, with rows in the tables or without; running the file
-- again does what is missing. Sidecars need no setting: they look nothing up across tables, make all ids and times
-- themselves, and count by RETURNING. The number of shards is the coordinator's citus.shard_count; each month of the
-- partitioned tables has that many. Run deploy/roles.sql after CREATE EXTENSION citus, not before: Citus knows no rights
-- to single columns.

-- What the views call runs where the rows are.
SELECT create_distributed_function('agent_trace_number(jsonb)');
SELECT create_distributed_function('agent_trace_time(jsonb)');
SELECT create_distributed_function('agent_trace_prompt(jsonb)');

-- What a run of OpenCode recorded is on one shard, whatever table it is in.
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

SELECT create_distributed_table('agent_trace_sources', 'source_id', colocate_with => 'agent_trace_dedupe')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_sources'::regclass);

SELECT create_distributed_table('agent_trace_dead_letters', 'source_id', colocate_with => 'agent_trace_dedupe')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_dead_letters'::regclass);

-- Read by every sidecar when it connects, which may be to any node.
SELECT create_reference_table('agent_trace_migrations')
WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'agent_trace_migrations'::regclass);
