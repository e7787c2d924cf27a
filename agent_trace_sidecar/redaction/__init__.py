"""Lines in, lines without secrets out; `Redacted` is the type that proves it."""

from agent_trace_sidecar.redaction.files import is_secret_path
from agent_trace_sidecar.redaction.funnel import Funnel
from agent_trace_sidecar.redaction.redacted import Redacted
from agent_trace_sidecar.redaction.userrules import RuleError

__all__ = ["Funnel", "Redacted", "RuleError", "is_secret_path", "redact_text"]

_DEFAULT: list[Funnel] = []


def redact_text(text: str, path: str | None = None) -> str:
    """`text` without secrets, by the rules alone: no environment, no memory between calls."""
    if not _DEFAULT:
        _DEFAULT.append(Funnel())
    return _DEFAULT[0].text(text, path)
