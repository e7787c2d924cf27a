"""A sidecar that writes what it reads to FILE, with its observation of each event, and acknowledges it.

Run as `python observing_sidecar.py FILE`. Nothing is redacted: for recordings of made-up secrets only.
"""

import os
import sys

from agent_trace_sidecar.opencode import wire
from agent_trace_sidecar.redaction import Redactor, is_secret_path
from agent_trace_sidecar.workspace.observer import Observer


def main(path: str) -> None:
    """Read until the end of the standard input."""
    redactor = Redactor()
    observer = Observer(redactor.holds_secret, is_secret_path=is_secret_path)
    with open(path, "ab", buffering=0) as log:  # noqa: PTH123 - as the shim's other sidecars
        for line in sys.stdin.buffer:
            log.write(wire.with_own_fields(line.rstrip(b"\n"), {}, observer.observe(line)) + b"\n")
            if (identity := wire.identity(line)) is not None:
                os.write(1, b'{"ack":%d}\n' % identity.seq)


if __name__ == "__main__":
    main(sys.argv[1])
