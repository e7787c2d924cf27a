"""The keeper of an embedded server: stops it when nobody has used it for a while, and ends.

    python -m agent_trace_sidecar.postgres.embedded STATE_DIR SECONDS LOCK

Started by `EmbeddedPostgres`, from which it inherits LOCK, its descriptor of `keeper.lock`.
"""

import sys
import time
from pathlib import Path

from agent_trace_sidecar.postgres.embedded import EmbeddedError, EmbeddedPostgres


def main(state_dir: str, seconds: str, lock: str) -> int:
    """Wait, stop the server, and return the exit code."""
    server = EmbeddedPostgres(Path(state_dir))
    while True:
        try:
            wait_s = server.stop_if_idle(float(seconds), int(lock))
        except (EmbeddedError, OSError):
            wait_s = float(seconds)  # the folder may be gone: the next look tells
        if wait_s is None:
            return 0
        time.sleep(wait_s)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
