"""The text that Prometheus reads, as its own parser reads it."""

import re
import subprocess
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent_trace_sidecar.telemetry.metrics import Metrics
from tests.support.debian import program
from tests.support.markdown import ROOT, section, table

VERSION = "1.2.3"


class Clock:
    """Stands still unless told."""

    now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample by its name and labels."""
    families = text_string_to_metric_families(metrics.render(VERSION).decode())
    found = {}
    for sample in (sample for family in families for sample in family.samples):
        found[" ".join((sample.name.removeprefix("agent_trace_sidecar_"), *sample.labels.values()))] = sample.value
    return found


def busy() -> Metrics:
    """Metrics of which each has something to say."""
    metrics = Metrics(Clock(), spool_bytes=lambda: (4096, 1024))
    metrics.counted("stored", 5)
    metrics.counted("dead", 1)
    metrics.dead("invalid_json")
    metrics.retried("08006")
    metrics.masked({"aws-key": 2, 'a "rule"\\of\nmine': 1})
    metrics.gaps(UUID(int=1), 3, 1)
    metrics.waiting("log", 990.0)
    for seconds in (0.004, 0.005, 0.3, 99.0):
        metrics.flushed(seconds)
    return metrics


def test_every_sample_says_what_happened() -> None:
    """Names, labels and values as Prometheus' parser sees them."""
    found = samples(busy())
    expected = {
        "build_info 1.2.3": 1,
        "healthy": 1,
        "events_total stored": 5,
        "events_total duplicate": 0,
        "events_total dead": 1,
        "lag_seconds": 10,
        "spool_bytes": 4096,
        "spool_unshipped_bytes": 1024,
        "flush_duration_seconds_bucket 0.005": 2,
        "flush_duration_seconds_bucket 0.5": 3,
        "flush_duration_seconds_bucket 10.0": 3,
        "flush_duration_seconds_bucket +Inf": 4,
        "flush_duration_seconds_count": 4,
        "flush_duration_seconds_sum": 99.309,
        "retries_total 08006": 1,
        "dead_letters_total invalid_json": 1,
        "missing_lines": 3,
        "lost_lines": 1,
        "secrets_masked_total aws-key": 2,
        'secrets_masked_total a "rule"\\of\nmine': 1,
        "process_start_time_seconds": 1000,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_counters_are_there_before_anything_happens() -> None:
    """Each reason that the documentation names, and each metric with a label: an increase from nothing is not seen."""
    found = samples(Metrics(Clock()))
    reasons = set(table(section(ROOT / "docs" / "operations.md", "Dead letters")))
    named = {reason for row in reasons for reason in re.findall(r"\w+", row)}
    assert {name for name in found if name.startswith("dead_letters_total ")} == {
        f"dead_letters_total {reason}" for reason in named
    }
    for name in ("retries_total connection", "retries_total too_slow", "secrets_masked_total other"):
        assert found[name] == 0


def test_lag_is_that_of_the_oldest_line_of_any_log() -> None:
    """And none when all is committed."""
    clock = Clock()
    metrics = Metrics(clock)
    metrics.waiting("a", 990.0)
    metrics.waiting("a", 995.0)
    metrics.waiting("b", 993.0)
    assert samples(metrics)["lag_seconds"] == 10
    metrics.waiting("a", None)
    clock.now = 1001.0
    assert samples(metrics)["lag_seconds"] == 8
    metrics.waiting("b", None)
    assert samples(metrics)["lag_seconds"] == 0


def test_labels_and_instances_are_bounded() -> None:
    """Nothing from outside makes the page grow without end, and no gap is forgotten."""
    metrics = Metrics(Clock())
    for number in range(5000):
        metrics.masked({f"rule{number}": 1})
        metrics.gaps(UUID(int=number), 1, 2)
    found = samples(metrics)
    assert found["secrets_masked_total other"] == 4501
    assert (found["missing_lines"], found["lost_lines"]) == (5000, 10000)
    assert len(metrics.render(VERSION)) < 100_000


@pytest.mark.needs("promtool")
def test_promtool_has_nothing_to_complain_about() -> None:
    """Names and units are as Prometheus wants them, by its own linter; which finds what is wrong."""
    promtool = program("promtool")

    def linted(text: bytes) -> tuple[int, bytes]:
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
        return done.returncode, done.stdout + done.stderr

    text = busy().render(VERSION)
    assert linted(text) == (0, b"")
    assert linted(Metrics(Clock()).render(VERSION)) == (0, b"")
    assert linted(text.replace(b"flush_duration_seconds", b"flush_duration_ms"))[0] != 0
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation
        assert family.name.startswith(("agent_trace_sidecar_", "process_"))
        units = ("_seconds", "_bytes", "_lines", "_info", "healthy", "events", "retries", "dead_letters", "masked")
        assert family.name.endswith((*units, "otlp_failures", "otlp_dropped")), family.name
        assert (family.type == "counter") == any(s.name.endswith("_total") for s in family.samples)


def test_a_secret_that_several_events_of_a_call_repeat_counts_once() -> None:
    """The call, its result and the message that shows both hold the same value."""
    metrics = Metrics()
    for session, call in (("ses_1", "call_1"), ("ses_1", "call_1"), ("ses_2", "call_1"), ("ses_1", None)):
        metrics.masked({"aws-key": 1}, session, call)
    metrics.masked({"aws-key": 3}, "ses_1", "call_1")
    assert 'secrets_masked_total{rule="aws-key"} 5' in metrics.render("0").decode()
