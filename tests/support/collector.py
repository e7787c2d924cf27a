"""A collector of OpenTelemetry metrics: a real HTTP server that decodes what it gets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


class Collector:
    """What was received, and how it answers."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[ExportMetricsServiceRequest] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200

    def resource(self) -> dict[str, str]:
        """The last request's resource."""
        (one,) = self.requests[-1].resource_metrics
        return {attribute.key: attribute.value.string_value for attribute in one.resource.attributes}

    def points(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """The last sum of each series of a metric; of a histogram the sum of what was measured."""
        found: dict[frozenset[tuple[str, str]], float] = {}
        for point in self._data(name):
            key = frozenset((each.key, each.value.string_value) for each in point.attributes)
            found[key] = point.sum if hasattr(point, "bucket_counts") else point.as_double or point.as_int
        return found

    def count(self, name: str) -> int:
        """How often a histogram was measured."""
        return sum(point.count for point in self._data(name))

    def unit(self, name: str) -> str:
        """The unit of a metric."""
        return str(next(metric.unit for metric in self._metrics() if metric.name == name))

    def names(self) -> set[str]:
        """The metrics in the last request."""
        return {metric.name for metric in self._metrics()}

    def _metrics(self) -> list[Any]:
        if not self.requests:
            return []
        (resource,) = self.requests[-1].resource_metrics
        return [metric for scope in resource.scope_metrics for metric in scope.metrics]

    def _data(self, name: str) -> list[Any]:
        found = [metric for metric in self._metrics() if metric.name == name]
        return [point for metric in found for point in getattr(metric, metric.WhichOneof("data")).data_points]


@contextmanager
def collector() -> Iterator[Collector]:
    """Serve one on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.paths.append(self.path)
            received.headers.append(dict(self.headers))
            if received.status == 200:
                received.requests.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(received.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Collector(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
