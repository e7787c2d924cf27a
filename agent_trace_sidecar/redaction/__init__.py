"""Lines in, lines without secrets out; `Redacted` is the type that proves it."""

from agent_trace_sidecar.redaction.redacted import Redacted
from agent_trace_sidecar.redaction.redactor import Redactor
from agent_trace_sidecar.redaction.rules import RuleError
from agent_trace_sidecar.redaction.secret_files import is_secret_path

__all__ = ["Redacted", "Redactor", "RuleError", "is_secret_path", "redact_text"]

_DEFAULT: list[Redactor] = []


def redact_text(text: str, path: str | None = None) -> str:
    """`text` without secrets, by the rules alone: no environment, no memory between calls."""
    if not _DEFAULT:
        _DEFAULT.append(Redactor())
    return _DEFAULT[0].text(text, path)
