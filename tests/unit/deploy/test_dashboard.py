"""The Grafana dashboard: every query of it runs, and asks for what there is."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent_trace_sidecar.telemetry.metrics import Metrics
from tests.support.debian import program
from tests.support.postgres import fetch

DASHBOARD = json.loads((Path(__file__).parents[3] / "deploy" / "grafana" / "agent-trace.json").read_text())
TARGETS = [(panel, target) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
SQL = {f"{p['title']} {t['refId']}": t for p, t in TARGETS if "rawSql" in t}
PROMQL = {f"{p['title']} {t['refId']}": t["expr"] for p, t in TARGETS if "expr" in t}


VARIABLES = {
    one["name"]: one["query"] for one in DASHBOARD["templating"]["list"] if "POSTGRES" in one["datasource"]["uid"]
}


def expanded(query: str, values: Mapping[str, Sequence[str]]) -> str:
    """The query as Grafana sends it: $__timeFilter(x) is a condition on x, and a variable a list of SQL strings."""
    for name, chosen in values.items():
        quoted = ",".join("'" + one.replace("'", "''") + "'" for one in chosen)
        query = query.replace(f"${{{name}:sqlstring}}", quoted)
    return re.sub(r"\$__timeFilter\((.*?)\)", r"\1 BETWEEN '2026-11-01T00:00:00Z' AND '2026-12-01T00:00:00Z'", query)


@pytest.fixture(name="url", scope="module")
def _url(recordings_url: str) -> str:
    return recordings_url


def offered(url: str, variable: str) -> list[str]:
    """What a variable's list offers."""
    return [row[0] for row in fetch(url, VARIABLES[variable])]


def test_variables_offer_what_was_recorded(url: str) -> None:
    """Repository, user and model; what has none is offered as unknown."""
    assert set(VARIABLES) == {"repository", "user", "model"}
    assert len(offered(url, "model")) > 1
    assert offered(url, "repository") == offered(url, "user") == ["unknown"]  # a replay names nobody


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("name", [name for name in SQL if name != "Dead letters by reason A"])
def test_a_panel_shows_what_the_variables_choose(url: str, name: str, variable: str) -> None:
    """Nothing of others; tools and secrets are of no model."""
    query = SQL[name]["rawSql"]
    if variable == "model" and name in ("Tools A", "Secrets by rule A"):
        assert "${model" not in query
        return
    everything = {one: offered(url, one) for one in VARIABLES}
    rows = fetch(url, expanded(query, everything | {variable: ["it's another"]}))
    assert not rows or [tuple(row.values()) for row in rows] == [(0,)]


def test_no_two_panels_have_one_title() -> None:
    """Nor does a title say nothing."""
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert all(titles)
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", SQL)
def test_every_sql_query_runs_and_answers(url: str, name: str) -> None:
    """Series have a time, a name and one number; with the recordings in it each panel shows something."""
    target = SQL[name]
    everything = {variable: offered(url, variable) for variable in VARIABLES}
    query = expanded(target["rawSql"], everything)
    assert "$" not in query
    rows = fetch(url, query)
    assert rows or name == "Dead letters by reason A"
    if target["format"] == "time_series":
        assert {tuple(row.keys())[:2] for row in rows} == {("time", "metric")}


@pytest.mark.parametrize("name", PROMQL)
def test_every_metric_that_is_asked_for_exists(name: str) -> None:
    """With the labels by which it is summed up."""
    metrics = Metrics()
    metrics.retried("x")
    metrics.dead("x")
    metrics.masked({"x": 1})
    families = text_string_to_metric_families(metrics.render("1").decode())
    labels: dict[str, set[str]] = {}
    for sample in (sample for family in families for sample in family.samples):
        labels.setdefault(sample.name, {"instance", "job"}).update(sample.labels)
    expression = PROMQL[name]
    asked = re.findall(r"agent_trace_sidecar_\w+", expression)
    assert asked
    for metric in asked:
        assert metric in labels
        for by in re.findall(r"by \((\w+)\)", expression):
            assert by in labels[metric]
    assert expression.count("(") == expression.count(")")


@pytest.mark.needs("promtool")
def test_prometheus_takes_every_query(tmp_path: Path) -> None:
    """Its own tool reads them as rules: grammar and types."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(PROMQL.values())
    ]
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    command = [program("promtool"), "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, f"{len(rules)} rules found" in done.stdout) == (0, True), done.stdout + done.stderr


def test_panels_have_a_place_and_a_source() -> None:
    """None covers another, and each says what it shows."""
    taken: set[tuple[int, int]] = set()
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"]["uid"] in {f"${{{source['name']}}}" for source in DASHBOARD["__inputs"]}
