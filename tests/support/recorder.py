"""An OpenCode that records with the real sidecar, and what is in the database of it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.opencode import OpenCode
from tests.support.postgres import fetch
from tests.support.records import checked
from tests.support.waiting import eventually

SEQUENCES = """
SELECT count(*) AS n, max(seq) AS top, count(DISTINCT seq) AS seqs FROM agent_trace_events GROUP BY source_id
"""


@dataclass
class Recorder:
    """An OpenCode that records with the installed sidecar into a database of its own."""

    oc: OpenCode
    url: str

    def __post_init__(self) -> None:
        """Tell every sidecar that OpenCode starts where to store what."""
        self.oc.env["AGENT_TRACE_DATABASE_URL"] = self.url
        self.oc.env["AGENT_TRACE_STATE_DIR"] = str(self.oc.folder / "state")

    def project(self, name: str, files: dict[str, Any]) -> Path:
        """Make a project and run `init` there, as a user does."""
        project = self.oc.project(name, files)
        done = subprocess.run(
            [sys.executable, "-m", "agent_trace_sidecar", "init", str(project)],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **self.oc.env},
        )
        assert "are recorded" in done.stdout
        return project

    def rows(self, query: str, *args: object) -> list[dict[str, Any]]:
        """Ask the database."""
        return [dict(row) for row in fetch(self.url, query, *args)]

    def wait_for(self, event_name: str, number: int = 1) -> None:
        """Wait until so many events of this name are stored."""
        query = "SELECT count(*) AS n FROM agent_trace_events WHERE event_name = $1"
        eventually(lambda: self.rows(query, event_name)[0]["n"] >= number, 20, f"{number} {event_name} stored")

    def ranges(self) -> dict[str, list[tuple[int, int]]]:
        """The lines by path, joined up, as the last record of each path says them."""
        found: dict[str, list[tuple[int, int]]] = {}
        for row in self.rows(
            "SELECT path, start_line, end_line FROM agent_trace_ranges ORDER BY path, recorded_at, start_line"
        ):
            found.setdefault(row["path"], []).append((row["start_line"], row["end_line"]))
        return found

    def assert_complete(self) -> None:
        """Every line once, no number missing, nothing dead, and every record valid."""
        for row in self.rows(SEQUENCES):
            assert row["n"] == row["top"] == row["seqs"]
        assert self.rows("SELECT reason, error FROM agent_trace_dead_letters") == []
        for row in self.rows("SELECT record::text AS record FROM agent_trace_records"):
            checked(row["record"])
