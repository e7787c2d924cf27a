"""Records OpenCode sessions as Agent Trace records in Postgres: exactly once, without secrets."""

from typing import Final

__version__: Final = "0.3.0"
