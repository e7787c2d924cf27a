"""The keeper of an embedded server: stops it when it had no user for a while, and ends.

    python -m agent_trace_sidecar.postgres.embedded STATE_DIR SECONDS LOCK

Started by `EmbeddedPostgres`, from which it inherits LOCK, its descriptor of `keeper.lock`.
"""

import sys
import time
from pathlib import Path
from typing import Final

from agent_trace_sidecar.postgres.embedded import EmbeddedError, EmbeddedPostgres

_LOOK_S: Final = 5.0


def main(state_dir: str, seconds: str, lock: str) -> int:
    """Wait, stop the server, and return the exit code."""
    server = EmbeddedPostgres(Path(state_dir))
    while True:
        try:
            wait_s = server.stop_if_idle(float(seconds), int(lock))
        except (EmbeddedError, OSError):
            wait_s = float(seconds)  # the folder may be gone: the next check notices
        if wait_s is None:
            return 0
        _sleep(wait_s, server.root)


def _sleep(seconds: float, folder: Path) -> None:
    """Wait; not longer than the folder is there."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and folder.is_dir():
        time.sleep(min(left, _LOOK_S))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
