"""The smallest sidecar: appends what it reads to FILE and acknowledges it, its pid in FILE.pid.

Run as `python -I recording_sidecar.py FILE`.

Uses nothing of ours and ignores SIGINT and SIGHUP, as the real one does.
"""

import fcntl
import json
import os
import signal
import sys
from contextlib import suppress


def main(path: str) -> None:
    """Read until the end of the standard input."""
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    with suppress(OSError, AttributeError):  # a larger pipe takes a larger burst before OpenCode is killed
        fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, 1 << 20)
    with open(f"{path}.pid", "w", encoding="ascii") as pid_file:  # noqa: PTH123 (as below)
        pid_file.write(str(os.getpid()))
    rest = b""
    with open(path, "ab", buffering=0) as log:  # noqa: PTH123 (starts faster without pathlib)
        while chunk := os.read(0, 1 << 20):
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                log.write(b"".join(line + b"\n" for line in lines))
                os.write(1, b'{"ack":%d}\n' % json.loads(lines[-1])["seq"])


if __name__ == "__main__":
    main(sys.argv[1])
