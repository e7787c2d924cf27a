"""The alert rules: Prometheus' own tool takes and runs them, and every metric in them exists with its labels."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from agent_trace_sidecar.limits import SPOOL_MAX_BYTES
from agent_trace_sidecar.telemetry.metrics import Metrics
from tests.support.debian import program
from tests.support.envelopes import DATA

RULES = Path(__file__).parents[3] / "deploy" / "prometheus-rules.yaml"
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def promtool(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run it."""
    return subprocess.run([program("promtool"), *words], capture_output=True, text=True, check=False)


@pytest.mark.needs("promtool")
def test_prometheus_takes_the_rules() -> None:
    """Grammar, types, templates."""
    done = promtool("check", "rules", RULES)
    assert (done.returncode, f"SUCCESS: {len(ALERTS)} rules found" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )


@pytest.mark.needs("promtool")
def test_the_alerts_fire_when_they_should() -> None:
    """And not on a sidecar that works, nor on an outage that is short."""
    done = promtool("test", "rules", DATA / "prometheus" / "rules.test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested() -> None:
    """Both ways: where it fires, and where it does not."""
    tests = yaml.safe_load((DATA / "prometheus" / "rules.test.yaml").read_text())["tests"]
    cases = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]
    assert set(cases) == {(rule["alert"], fires) for rule in ALERTS for fires in (True, False)}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_metric_of_an_alert_exists_from_the_start(rule: dict[str, str]) -> None:
    """With the labels that it is summed up by: a counter that appears with its first event has no increase."""
    families = text_string_to_metric_families(Metrics().render("1").decode())
    labels: dict[str, set[str]] = {}
    for sample in (sample for family in families for sample in family.samples):
        labels.setdefault(sample.name, {"instance", "job"}).update(sample.labels)
    asked = re.findall(r"agent_trace_sidecar_\w+", rule["expr"])
    assert asked
    for metric in asked:
        assert metric in labels
        for group in re.findall(r"by \(([\w, ]+)\)", rule["expr"]):
            assert set(re.split(r",\s*", group)) <= labels[metric]


def test_the_spool_alerts_before_it_is_full() -> None:
    """At half of its bound."""
    (rule,) = [rule for rule in ALERTS if rule["alert"] == "AgentTraceSpoolFillsUp"]
    assert int(rule["expr"].rpartition(">")[2]) == SPOOL_MAX_BYTES // 2
