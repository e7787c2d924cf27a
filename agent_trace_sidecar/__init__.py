"""Records OpenCode sessions as Agent Trace records in Postgres: exactly once, without secrets."""

__version__ = "0.3.0"
