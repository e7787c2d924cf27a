"""AGENT_TRACE_OTLP_ENDPOINT, with a collector of the test's own, and with none that answers."""

import json
import re
import socket
import sys
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.semconv.schemas import Schemas

from agent_trace_sidecar.config import ConfigError, load
from agent_trace_sidecar.opencode.wire import Envelope, parse
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.rows import Built
from agent_trace_sidecar.telemetry import logging as log
from agent_trace_sidecar.telemetry import otlp
from tests.support.collector import collector
from tests.support.envelopes import DATA
from tests.support.postgres import fetch, free_port
from tests.support.sidecar import ShimDouble, sidecar_command, sidecar_env
from tests.support.tailing import Writer, tailing
from tests.support.waiting import completed, eventually, patient

RECORDINGS: Final = ("basic-edit-write-bash", "apply-patch", "subagent-overwrite-crlf-unicode-commit")
TOKENS: Final = "gen_ai.client.token.usage"
COST: Final = "agent_trace.cost"
LINES: Final = "agent_trace.lines"
CALLS: Final = "agent_trace.tool.calls"
READ: Final = "SELECT coalesce(sum((state->>'read')::int), 0)::int AS n FROM agent_trace_sources WHERE kind = 'file'"


def copied(logs: Path, *names: str) -> int:
    """Put recordings into a folder of logs; the number of their lines."""
    logs.mkdir()
    for name in names:
        (logs / f"{name}.jsonl").write_bytes((DATA / "recordings" / f"{name}.jsonl").read_bytes())
    return sum(file.read_bytes().count(b"\n") for file in logs.iterdir())


def test_the_collector_gets_what_the_database_has(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines by author and model, tokens by kind, cost, calls, failures and durations; at the end at the latest."""
    number = copied(tmp_path / "logs", *RECORDINGS)
    (tmp_path / "logs" / "again.jsonl").write_bytes((tmp_path / "logs" / "apply-patch.jsonl").read_bytes())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc")
    with collector() as received:
        env = sidecar_env(tmp_path / "state", migrated_url, flush_ms="20", otlp_endpoint=received.url)
        with tailing(env, tmp_path / "said", tmp_path / "logs") as tail:
            eventually(lambda: fetch(migrated_url, READ)[0]["n"] > number, 30, "everything is read")
            assert tail.stop() == 0
        assert set(received.paths) == {"/v1/metrics"}
        assert received.headers[-1]["authorization"] == "Bearer abc"
        assert received.resource()["service.name"] == "agent-trace-sidecar"
        assert received.resource()["host.name"] == socket.gethostname()
        assert UUID(received.resource()["service.instance.id"]).version == 4
        assert received.requests[-1].resource_metrics[0].scope_metrics[0].schema_url == Schemas.V1_37_0.value
        sums: dict[str, float] = {}
        for series, total in received.points(TOKENS).items():
            kind = dict(series)[gen_ai_attributes.GEN_AI_TOKEN_TYPE]
            sums[kind] = sums.get(kind, 0) + total
        (used,) = fetch(
            migrated_url,
            "SELECT sum(input_tokens) AS input, sum(output_tokens) AS output, sum(reasoning_tokens) AS reasoning, "
            "sum(cache_read_tokens) AS cache_read, sum(cache_write_tokens) AS cache_write "
            "FROM agent_trace_usage_by_day",
        )
        assert sums == {name: float(value) for name, value in used.items()}
        assert received.unit(TOKENS) == "{token}"
        lines = {
            (row["contributor"], row["model_id"]): float(row["n"])
            for row in fetch(
                migrated_url, "SELECT contributor, model_id, sum(lines)::int AS n FROM agent_trace_lines GROUP BY 1, 2"
            )
        }
        told = {
            (one["agent_trace.contributor"], f"{one['gen_ai.provider.name']}/{one['gen_ai.request.model']}"): total
            for one, total in ((dict(series), total) for series, total in received.points(LINES).items())
        }
        assert told == lines
        usage = json.loads(completed(sidecar_command("usage", "--by", "model", "--json"), env=env).stdout)
        spent = {row["model"]: row["cost"] for row in usage if row["cost"] is not None}
        assert sum(spent.values()) > 0
        assert {
            f"{one['gen_ai.provider.name']}/{one['gen_ai.request.model']}": total
            for one, total in ((dict(series), total) for series, total in received.points(COST).items())
        } == pytest.approx(spent)
        assert received.unit(COST) == "{USD}"
        calls = {
            (row["tool"], row["status"]): float(row["n"])
            for row in fetch(
                migrated_url, "SELECT tool, status, count(*)::int AS n FROM agent_trace_ended_calls GROUP BY 1, 2"
            )
        }
        assert {
            (dict(series)["gen_ai.tool.name"], "error" if "error.type" in dict(series) else "completed"): total
            for series, total in received.points(CALLS).items()
        } == calls
        assert {status for _, status in calls} == {"completed", "error"}
        assert received.count("agent_trace.tool.duration") == sum(calls.values())
    assert "otlp_failed" not in (tmp_path / "said").read_text()


def test_run_sends_what_it_has_before_it_ends(migrated_url: str, tmp_path: Path) -> None:
    """A short run of OpenCode is over before the first interval."""
    lines = (DATA / "recordings" / "apply-patch.jsonl").read_bytes().splitlines()
    with collector() as received:
        env = sidecar_env(tmp_path / "state", migrated_url, flush_ms="20", otlp_endpoint=f"{received.url}/")
        with ShimDouble(env) as shim:
            for line in lines:
                assert shim.send(json.loads(line)["seq"], line)
            assert shim.close() == 0
        (row,) = fetch(migrated_url, "SELECT sum(lines)::int AS n FROM agent_trace_lines")
        assert sum(received.points(LINES).values()) == row["n"]
        assert received.paths[-1] == "/v1/metrics"


def test_our_names_are_those_of_the_conventions() -> None:
    """As the library of the conventions spells them; the rest is ours by its prefix."""
    conventions = {
        gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE,
        gen_ai_attributes.GEN_AI_OPERATION_NAME,
        gen_ai_attributes.GEN_AI_PROVIDER_NAME,
        gen_ai_attributes.GEN_AI_REQUEST_MODEL,
        gen_ai_attributes.GEN_AI_TOKEN_TYPE,
        gen_ai_attributes.GEN_AI_TOOL_NAME,
        error_attributes.ERROR_TYPE,
    }
    assert set(re.findall(r'"((?:gen_ai|error)\.[\w.]+)"', Path(otlp.__file__).read_text())) == conventions
    assert Schemas.V1_37_0.value == otlp._SCHEMA_URL


def refused() -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("kind", ["refused", "silent", "rejects"])
def test_a_collector_that_does_not_work_costs_the_recording_nothing(
    kind: str, migrated_url: str, tmp_path: Path
) -> None:
    """Everything is stored, the end comes in time, and it is logged once and counted."""
    copied(tmp_path / "logs", "apply-patch")
    with socket.socket() as silent, collector() as received:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        received.status = 400
        endpoint = {
            "refused": refused(),
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "rejects": received.url,
        }[kind]
        env = sidecar_env(tmp_path / "state", migrated_url, flush_ms="20", otlp_endpoint=endpoint)
        writer = Writer()
        (tmp_path / "logs" / "more.jsonl").write_bytes(writer.lines(200))
        with tailing(env, tmp_path / "said", tmp_path / "logs") as tail:
            wanted = set(map(str, writer.ids))
            query = "SELECT event_id::text AS id FROM agent_trace_events"
            eventually(lambda: wanted <= {row["id"] for row in fetch(migrated_url, query)}, 20, "all is stored")
            assert tail.stop(otlp.CLOSE_S + 3) == 0
    logged = tail.said.count("otlp_failed")
    assert logged == 1 if kind == "rejects" else logged <= 1  # attempts to reach the others may go on until the end
    assert "Traceback" not in tail.said


def test_failures_are_logged_once_and_counted_until_it_works_again() -> None:
    """With intervals of a moment; the sums are whole all the same."""
    said: list[str] = []

    class Logger:
        def warning(self, event: str, **_: object) -> None:
            said.append(event)

        info = error = warning

    with collector() as received:
        received.status = 400
        sending = otlp.Otlp(received.url, "1", Logger(), interval_s=0.01)
        sending._queue.put(otlp.Point(LINES, 3, (("agent_trace.contributor", "ai"),)))
        eventually(lambda: sending.failures > 1, 20, "it fails again")
        received.status = 200
        eventually(lambda: said == ["otlp_failed", "otlp_back"], 20, "it works again")
        sending._stopping.set()
        sending._thread.join(patient(10))
        assert list(received.points(LINES).values()) == [3]


def test_the_queue_and_the_series_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond is counted, or summed up under no name."""
    monkeypatch.setattr(otlp, "MAX_SERIES", 2)
    with collector() as received:
        sending = otlp.Otlp(received.url, "1", log.logger(), interval_s=0.01)
        for tool in ("a", "b", "c", "d", "a"):
            sending._queue.put(otlp.Point(CALLS, 1, (("gen_ai.tool.name", tool),)))
        eventually(lambda: sum(received.points(CALLS).values()) == 5, 20, "all are counted")
        found = {dict(series).get("gen_ai.tool.name", "other"): n for series, n in received.points(CALLS).items()}
        assert found == {"a": 2, "b": 1, "other": 2}
        sending._stopping.set()
        sending._thread.join(patient(10))
        monkeypatch.setattr(otlp, "MAX_WAITING", 0)
        (step,) = [built for built in _built() if built.steps][:1]
        sending.stored([step, step])
        assert sending.dropped == len(list(otlp.points(step)))  # the second one is the same part


def _built() -> list[Built]:
    builder = Builder(BuildSettings())
    lines = (DATA / "recordings" / "apply-patch.jsonl").read_bytes().splitlines()
    return [builder.feed(found) for found in map(parse, lines) if isinstance(found, Envelope)]


@pytest.mark.parametrize("value", ["collector:4318", "ftp://x", "http://", "http://h:0", "http://h:99999"])
def test_a_wrong_endpoint_is_an_error_at_start(value: str) -> None:
    """It names the setting and no password."""
    with pytest.raises(ConfigError, match=r"AGENT_TRACE_OTLP_ENDPOINT: give the collector's URL, e\.g\. http"):
        load({"HOME": "/h", "AGENT_TRACE_OTLP_ENDPOINT": value})


def test_without_the_extra_the_error_says_what_to_install(migrated_url: str, tmp_path: Path) -> None:
    """At the start; recording without the setting needs nothing of it."""
    hook = "import sys; sys.modules['opentelemetry'] = None; from agent_trace_sidecar.cli import main; sys.exit(main())"
    env = sidecar_env(tmp_path / "state", migrated_url, otlp_endpoint="http://127.0.0.1:1")
    done = completed([sys.executable, "-c", hook, "tail", str(tmp_path / "logs")], 60, env=env)
    assert done.returncode == 2
    assert "AGENT_TRACE_OTLP_ENDPOINT: OpenTelemetry's exporter is not installed: install" in done.stderr
    assert json.loads(completed(sidecar_command("status", "--json"), 60, cwd=tmp_path, env=env).stdout)["healthy"]
