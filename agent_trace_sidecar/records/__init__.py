"""Events and state to rows: Agent Trace records, line ranges, hashes. Pure: no clock, no files, no ids of its own."""
