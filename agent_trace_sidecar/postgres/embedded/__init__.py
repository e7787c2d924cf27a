"""The Postgres that is used when no database URL is set: one server per state directory, shared by its users."""

from agent_trace_sidecar.postgres.embedded.binaries import EmbeddedError
from agent_trace_sidecar.postgres.embedded.server import DATABASE, USER, EmbeddedPostgres

__all__ = ["DATABASE", "USER", "EmbeddedError", "EmbeddedPostgres"]
