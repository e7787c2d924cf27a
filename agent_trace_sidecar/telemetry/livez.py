"""The image's health check: whether the sidecar of this container answers `/livez` at `AGENT_TRACE_HTTP`.

Run as `python -m agent_trace_sidecar.telemetry.livez`, every 30 s in every container: so it imports next to nothing.
An unreachable database is no reason to restart a container; `/readyz` and `status` report it.
"""

import os
import socket
import sys

TIMEOUT_S = 5.0
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to connect, not to listen


def main() -> int:
    """Send the request; return 0 if the answer is 200, otherwise 1 with a sentence on stderr."""
    host, _, port = os.environ.get("AGENT_TRACE_HTTP", "").rpartition(":")
    if not port.isdecimal():
        return _failed("AGENT_TRACE_HTTP is not set: give host:port, or run without a health check")
    host = host.strip("[]")
    try:
        with socket.create_connection((_EVERYWHERE.get(host, host), int(port)), TIMEOUT_S) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = connection.recv(64)
    except (OSError, OverflowError) as exc:
        return _failed(f"no answer: {exc}")
    return 0 if answer.split(b" ")[1:2] == [b"200"] else _failed("the answer is not 200")


def _failed(why: str) -> int:
    sys.stderr.write(f"agent-trace-sidecar: /livez: {why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
