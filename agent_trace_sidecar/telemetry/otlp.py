"""Metrics of what is stored, for an OpenTelemetry collector (OTLP over HTTP), where AGENT_TRACE_OTLP_ENDPOINT is set.

    event loop ── stored() ──▶ bounded queue ──▶ thread "otlp": instruments ──▶ exporter, every INTERVAL_S

The event loop only puts small tuples into the queue; all of OpenTelemetry, its import too, happens in the thread. What
does not fit into the queue is dropped and counted. Sums are cumulative, so a collector that is away for a while misses
nothing. Recording never waits for it, and its end no longer than CLOSE_S.

Names are those of the GenAI semantic conventions, 1.37.0, as far as they reach; others begin with `agent_trace`.
"""

import asyncio
import logging
import queue
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from agent_trace_sidecar.records.rows import Built
from agent_trace_sidecar.telemetry.logging import Logger

INTERVAL_S: Final = 10.0
"""Between two exports."""
EXPORT_S: Final = 5.0
"""How long one export may take, with the exporter's own attempts."""
CLOSE_S: Final = 1.0
"""How long the end waits for the last export."""
MAX_WAITING: Final = 20_000
"""Points in the queue: some seconds of a backlog, 4 MB."""
MAX_SERIES: Final = 1_000
"""Sets of attributes of one instrument: models and tools have names from outside. What is beyond is one series."""
_MAX_PARTS: Final = 10_000
"""Requests and calls whose ids are kept: OpenCode may publish one twice."""
_DRAIN_S: Final = 0.5
_SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"
_TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
"""As the conventions advise."""
_SECONDS_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_OVERFLOW: Final = {"otel.metric.overflow": True}

Attributes = tuple[tuple[str, str], ...]


class Point(NamedTuple):
    """A measurement, for the instrument of that name."""

    name: str
    value: float
    attributes: Attributes


class MissingError(Exception):
    """The exporter is not installed; the text is a sentence."""


def metrics_url(endpoint: str) -> str:
    """Where metrics are sent: `/v1/metrics` below the endpoint, as the protocol says.

    Raises:
        ValueError: it is not an http(s) URL with a host.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith("/v1/metrics") else f"{path}/v1/metrics"))


def points(built: Built) -> Iterator[Point]:
    """What is measured of one event.

    A record that the end of its step corrects counts as it was first recorded. Lines that are undone later are not
    taken back: the figures count work, not what stands in files today.
    """
    for step in built.steps:
        model = _model(step.model_id)
        kinds = {
            "input": step.input_tokens,
            "output": step.output_tokens,
            "reasoning": step.reasoning_tokens,
            "cache_read": step.cache_read_tokens,
            "cache_write": step.cache_write_tokens,
        }
        chat = ("gen_ai.operation.name", "chat")
        for kind, tokens in kinds.items():
            if tokens is not None:
                yield Point("gen_ai.client.token.usage", float(tokens), (chat, ("gen_ai.token.type", kind), *model))
        if step.cost is not None:
            yield Point("agent_trace.cost", float(step.cost), model)
    for call in built.calls:
        failed = (("error.type", "_OTHER"),) if call.status == "error" else ()
        tool = (("gen_ai.operation.name", "execute_tool"), ("gen_ai.tool.name", call.tool), *failed)
        yield Point("agent_trace.tool.calls", 1, tool)
        if call.seconds is not None:
            yield Point("agent_trace.tool.duration", float(call.seconds), tool)
    corrected = {record_id for _, record_id, _ in built.refined}
    for row in built.ranges:
        if row.record_id not in corrected:
            author = (("agent_trace.contributor", row.contributor), *_model(row.model_id))
            yield Point("agent_trace.lines", row.end_line - row.start_line + 1, author)


def _model(model_id: str | None) -> Attributes:
    """`provider/model` as two attributes; none of what is not known."""
    if model_id is None:
        return ()
    provider, slash, model = model_id.partition("/")
    return (
        (("gen_ai.provider.name", provider), ("gen_ai.request.model", model))
        if slash
        else (("gen_ai.request.model", model_id),)
    )


class Otlp:
    """The queue and its thread. `stored` is for the event loop only."""

    def __init__(self, endpoint: str, version: str, logger: Logger, *, interval_s: float = INTERVAL_S) -> None:
        """Start to send to `endpoint`.

        Raises:
            MissingError: the exporter is not installed.
        """
        if not _is_installed():
            raise MissingError(
                "OpenTelemetry's exporter is not installed: install `agent-trace-sidecar[otlp]`, or unset the variable."
            )
        self._url, self._version, self._logger = metrics_url(endpoint), version, logger
        self._interval_s = interval_s
        self._queue: queue.SimpleQueue[Point] = queue.SimpleQueue()
        self._parts: OrderedDict[tuple[str | None, str | None, str], None] = OrderedDict()
        self._stopping = threading.Event()
        self._is_failing = False
        self.failures = 0
        """Exports that failed."""
        self.dropped = 0
        """Points that did not fit into the queue."""
        self._thread = threading.Thread(target=self._work, name="otlp", daemon=True)
        self._thread.start()

    def stored(self, built: Iterable[Built]) -> None:
        """Measure events that the database has just stored. Never waits."""
        for one in built:
            if not (one.steps or one.calls or one.ranges):
                continue
            parts = [(row.session_id, row.message_id, row.part_id) for row in one.steps]
            parts += [(row.session_id, row.message_id, row.part_id) for row in one.calls]
            if any(map(self._is_known, parts)):
                continue
            for point in points(one):
                if self._queue.qsize() < MAX_WAITING:
                    self._queue.put(point)
                else:
                    self.dropped += 1

    def _is_known(self, part: tuple[str | None, str | None, str]) -> bool:
        known = part in self._parts
        self._parts[part] = None
        if len(self._parts) > _MAX_PARTS:
            self._parts.popitem(last=False)
        return known

    async def close(self) -> None:
        """Send what is left, in CLOSE_S at most."""
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, CLOSE_S)

    # -- the thread ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            _be_quiet()
            instruments = _Instruments(self._url, self._version)
        except Exception as exc:  # noqa: BLE001 - of a foreign library; the thread ends here, and the recording goes on
            self._failed(type(exc).__name__)
            return
        export_at = time.monotonic() + self._interval_s
        while not self._stopping.wait(_DRAIN_S):
            self._drain(instruments)
            if time.monotonic() >= export_at:
                self._export(instruments)
                export_at = time.monotonic() + self._interval_s
        self._drain(instruments)
        self._export(instruments)

    def _drain(self, instruments: "_Instruments") -> None:
        while not self._queue.empty():
            instruments.measure(self._queue.get())

    def _export(self, instruments: "_Instruments") -> None:
        try:
            sent, error = instruments.export(), "not accepted"
        except Exception as exc:  # noqa: BLE001 - as above
            sent, error = False, type(exc).__name__
        if not sent:
            self._failed(error)
        elif self._is_failing:
            self._is_failing = False
            self._logger.info("otlp_back", after_failures=self.failures)

    def _failed(self, error: str) -> None:
        self.failures += 1
        if not self._is_failing:
            self._is_failing = True
            hint = "metrics are not sent; recording continues. Check AGENT_TRACE_OTLP_ENDPOINT and the collector"
            self._logger.warning("otlp_failed", error=error, hint=hint)


def _is_installed() -> bool:
    try:
        return all(map(find_spec, ("opentelemetry.sdk.metrics", "opentelemetry.exporter.otlp.proto.http")))
    except ModuleNotFoundError:  # of a parent
        return False


def _be_quiet() -> None:
    """The library logs each failure to stderr otherwise, which the shim reads."""
    logger = logging.getLogger("opentelemetry")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False


class _Instruments:
    """OpenTelemetry's side, for one thread."""

    def __init__(self, url: str, version: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - as above
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult  # noqa: PLC0415 - as above
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - as above

        self._success = MetricExportResult.SUCCESS
        self._exporter = OTLPMetricExporter(endpoint=url, timeout=EXPORT_S)
        self._reader = InMemoryMetricReader()
        identity = {
            "service.name": "agent-trace-sidecar",
            "service.version": version,
            "service.instance.id": str(uuid4()),  # each run of OpenCode has a sidecar, and each sends its own sums
            "host.name": socket.gethostname(),
        }
        provider = MeterProvider([self._reader], resource=Resource.create(identity), shutdown_on_exit=False)
        meter = provider.get_meter("agent_trace_sidecar", version, schema_url=_SCHEMA_URL)
        tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )
        seconds = meter.create_histogram(
            "agent_trace.tool.duration",
            "s",
            "Duration of finished tool calls.",
            explicit_bucket_boundaries_advisory=_SECONDS_BUCKETS,
        )
        self._measures = {
            "gen_ai.client.token.usage": tokens.record,
            "agent_trace.tool.duration": seconds.record,
            "agent_trace.cost": meter.create_counter("agent_trace.cost", "{USD}", "Cost as OpenCode computed it.").add,
            "agent_trace.tool.calls": meter.create_counter(
                "agent_trace.tool.calls", "{call}", "Finished tool calls."
            ).add,
            "agent_trace.lines": meter.create_counter("agent_trace.lines", "{line}", "Lines written, by author.").add,
        }
        self._series: Mapping[str, set[Attributes]] = {name: set() for name in self._measures}

    def measure(self, point: Point) -> None:
        """Add a point to its series."""
        series = self._series[point.name]
        if point.attributes not in series and len(series) >= MAX_SERIES:
            self._measures[point.name](point.value, _OVERFLOW)
            return
        series.add(point.attributes)
        self._measures[point.name](point.value, dict(point.attributes))

    def export(self) -> bool:
        """Send all sums; whether the collector took them. Nothing measured yet is nothing to send."""
        data = self._reader.get_metrics_data()
        return data is None or self._exporter.export(data) is self._success
