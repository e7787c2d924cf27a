"""`python -m agent_trace_sidecar` is the command `agent-trace-sidecar`."""

import sys

from agent_trace_sidecar.cli import main

sys.exit(main())
