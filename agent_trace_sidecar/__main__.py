"""`python -m agent_trace_sidecar` is the command `agent-trace-sidecar`."""

import sys

from agent_trace_sidecar.cli import main

if __name__ == "__main__":
    sys.exit(main())
