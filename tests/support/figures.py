"""What some sessions have cost, by every way to ask for it."""

import json
import re
import sys
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent_trace_sidecar.commands.usage import GROUPS
from tests.support.postgres import fetch
from tests.support.waiting import completed

_TOKENS: Final = ("input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens", "cache_write_tokens")
_SUM: Final = " + ".join(f"coalesce(sum({name}), 0)" for name in _TOKENS)


class Figure(NamedTuple):
    """US dollars, and tokens of all kinds."""

    cost: float
    tokens: int


def figures(url: str, project: Path, env: Mapping[str, str]) -> dict[str, Figure]:
    """The same figure from `usage` in each grouping, `stats`, the page of a period and the views.

    Args:
        url: a database in which nothing but sessions of this project is recorded.
        project: a repository.
        env: the environment of the commands, but for the database.
    """

    def run(*words: str) -> str:
        command = [sys.executable, "-P", "-m", "agent_trace_sidecar", *words]
        done = completed(command, cwd=project, env={**env, "AGENT_TRACE_DATABASE_URL": url})
        assert done.returncode == 0, done.stderr
        return done.stdout

    def summed(rows: list[dict[str, Any]]) -> Figure:
        return _figure(sum(row["cost"] or 0 for row in rows), sum(row[name] for row in rows for name in _TOKENS))

    found = {f"usage --by {by}": summed(json.loads(run("usage", "--by", by, "--json"))) for by in GROUPS}
    total = json.loads(run("stats", "--json"))["total"]
    found["stats"] = _figure(total["cost"] or 0, total["tokens"] or 0)
    for view in ("agent_trace_requests", "agent_trace_sessions", "agent_trace_usage_by_day"):
        (row,) = fetch(url, f"SELECT coalesce(sum(cost), 0) AS cost, {_SUM} AS tokens FROM {view}")
        found[view] = _figure(row["cost"], row["tokens"])
    tokens = found["agent_trace_sessions"].tokens
    listed = json.loads(run("sessions", "--json"))
    found["sessions"] = _figure(sum(one["cost"] or 0 for one in listed), tokens)
    page = project.parent / "figures.html"
    run("report", "--since", "2020-01-01", "--output", str(page))
    shown = re.search(r'id="sql-cost"[^>]*>([^<]+)<', page.read_text())
    assert shown is not None
    rows = fetch(url, unescape(shown[1]).split(";")[0])
    found["report --since"] = _figure(sum(row["cost"] or 0 for row in rows), tokens)
    return found


def _figure(cost: float, tokens: float) -> Figure:
    return Figure(round(float(cost), 6), int(tokens))
