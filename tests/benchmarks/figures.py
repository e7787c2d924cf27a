"""Figures by day beside a million events: what the server works for `report --since`, `usage` and the dashboard.

The times are the server's own, of planning and executing, for statements one after the other; the same figures from the
events themselves, by the views that read payloads, are beside them.
"""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from agent_trace_sidecar.commands.usage import GROUPS, statement
from agent_trace_sidecar.report import since
from tests.benchmarks.harness import ROOT, Bench, Row, number, run, sidecar
from tests.benchmarks.lines import write_log
from tests.support.postgres import execute, fetch

GROUP: Final = "figures"
_FIRST: Final = datetime(2026, 11, 1, tzinfo=UTC)
"""Before all events of the log, which is 20 days long."""
_PERIOD: Final = "BETWEEN '2026-11-01T00:00:00Z' AND '2027-01-01T00:00:00Z'"
_TARGET_S: Final = 1.0
_RAW: Final = "cost in all, from the events"
_FROM_EVENTS: Final = "SELECT sum(cost), sum(input_tokens) FROM agent_trace_steps"


def rows(bench: Bench) -> Iterator[Row]:
    """The rows of this group."""
    events = bench.size(100_000, 1_000_000)
    log = bench.scratch / "figures.jsonl"
    write_log(log, events)
    with bench.database() as url:
        run(sidecar("replay", str(log)), bench.environment(url))
        log.unlink()
        execute(url, "VACUUM ANALYZE")
        project = fetch(url, "SELECT min(project) FROM agent_trace_file_states")[0][0]
        queries: dict[str, list[tuple[Any, ...]]] = {
            "report --since 30d": [(one,) for one in since.statements(_FIRST, [project]).values()],
            **{f"usage --by {by}": [(statement(by), _FIRST)] for by in GROUPS},
            "Grafana, all panels": [(one,) for one in _panels(url)],
            _RAW: [(_FROM_EVENTS,)],
        }
        found = bench.alternate("s", {name: partial(_server_s, url, asked) for name, asked in queries.items()})
    raw = found.pop(_RAW)
    for name, ours in found.items():
        ratio = ours.median / raw.median
        what = f"{name}, {number(events)} events: database time"
        yield Row(GROUP, what, ours, _RAW, raw, ratio, "<= 1 s", ours.median <= _TARGET_S)


def _panels(url: str) -> Iterator[str]:
    """The dashboard's statements, as Grafana sends them where everything is chosen in its lists."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "agent-trace.json").read_text())
    lists = [one for one in dashboard["templating"]["list"] if "POSTGRES" in one["datasource"]["uid"]]
    chosen = {one["name"]: ",".join(f"'{row[0]}'" for row in fetch(url, one["query"])) for one in lists}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            if "rawSql" in target:
                sql = re.sub(r"\$__timeFilter\((.*?)\)", rf"\1 {_PERIOD}", target["rawSql"])
                yield re.sub(r"\$\{(\w+):sqlstring\}", lambda name: chosen[name[1]], sql)


def _server_s(url: str, queries: Iterable[tuple[Any, ...]]) -> float:
    """Seconds of these statements, each with its parameters."""
    milliseconds = 0.0
    for sql, *given in queries:
        plan = json.loads(fetch(url, f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", *given)[0][0])[0]
        milliseconds += plan["Planning Time"] + plan["Execution Time"]
    return milliseconds / 1000
