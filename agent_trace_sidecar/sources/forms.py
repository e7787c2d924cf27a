"""What a file is, by its first bytes."""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final


class Form(Enum):
    """Files that users hand to the wrong command."""

    WIRE = "a log of OpenCode's hooks, as the shim writes it"
    EXPORT = "a session written by `opencode export`"
    RUN = "the output of `opencode run --format json`"
    STREAM = "a capture of OpenCode's event stream"
    TRACE = "Agent Trace records"
    SQLITE = "an SQLite database"


_FORMS: Final = (
    (Form.SQLITE, re.compile(rb"SQLite format 3\0")),
    (Form.WIRE, re.compile(rb'\s*\{\s*"v":\s*\d+\s*,\s*"(?:id|seq|at|instance|hook)"')),
    (Form.EXPORT, re.compile(rb'(?:[^\n{]*\n)?\s*\{\s*"info":\s*\{\s*"')),
    (Form.RUN, re.compile(rb'\s*\{\s*"type":\s*"[a-z_]+",\s*"timestamp":\s*\d')),
    (Form.STREAM, re.compile(rb'\s*(?:data:\s*\{|event:\s|:\s?[a-z]|\{\s*"(?:payload|directory)":\s*[{"])')),
    (Form.TRACE, re.compile(rb'\s*\[?\s*\{\s*"(?:version|id|timestamp|files|vcs|tool|metadata)":')),
)


_NO_MODELS: Final = "it names no model; `agent-trace-sidecar backfill` reads the session from OpenCode's own database"
REMEDY: Final[Mapping[Form, str]] = {
    Form.WIRE: "`agent-trace-sidecar replay FILE` stores it",
    Form.EXPORT: "`agent-trace-sidecar backfill FILE` stores it",
    Form.RUN: _NO_MODELS,
    Form.STREAM: _NO_MODELS,
    Form.TRACE: "`agent-trace-sidecar import FILE` stores it",
    Form.SQLITE: "`agent-trace-sidecar backfill --store FILE` reads OpenCode's",
}
"""What to do with a file that was given to the wrong command."""

HEAD_BYTES: Final = 1024
"""So much of a file determines its form."""


def form_of(head: bytes) -> Form | None:
    """The form of a file that begins like this; None where it is none of these."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    return next((form for form, pattern in _FORMS if pattern.match(head)), None)
