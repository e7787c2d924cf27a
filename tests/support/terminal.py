"""A command on a pseudo-terminal of 80 columns."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence

from tests.support.waiting import patient


def on_terminal(command: Sequence[str], env: Mapping[str, str], *, typed: str = "", columns: int = 80) -> str:
    """Run a command to its end, and return what it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    quiet = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    shown = b""
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**quiet, "TERM": "xterm-256color"}
    ) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # Linux: the other end is closed
                break
            if not data:
                break
            shown += data
        process.wait(patient(60))
    os.close(ours)
    return shown.decode(errors="replace").replace("\r\n", "\n")
