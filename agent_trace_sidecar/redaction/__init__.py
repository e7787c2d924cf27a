"""Events in, events without secrets out; `Redacted` is the type that proves it.

    event ─▶ strings ─▶ scanner ─────────────────────────────▶ filters ─▶ json_line ─▶ redacted
             new ones    keywords of everything in one pass      samples,   labels, and   proof
             of many     ├ rules near theirs (RE2)               ciphertext what depends
             events,     ├ detectors near theirs ─▶ judge                   on the line
             unescaped   └ decoders: the same on other readings

    On the line depend: the value of a name, the contents of a file of secrets (secret_files), the lines of a private
    key, and what the session or the environment has shown before (known_values).

What is known is data (`data/*.toml`, read by `rules`): rules with their examples, gates of context, words, weights of
the judge. `kingfisher` adds the rules of its release. `redactor` is the entry, and fails closed.
"""

from functools import cache

from agent_trace_sidecar.redaction.redacted import Redacted
from agent_trace_sidecar.redaction.redactor import Redactor
from agent_trace_sidecar.redaction.rules import RuleError
from agent_trace_sidecar.redaction.secret_files import is_secret_path

__all__ = ["Redacted", "Redactor", "RuleError", "is_secret_path", "redact_text"]


@cache
def _default() -> Redactor:
    return Redactor()


def redact_text(text: str, path: str | None = None) -> str:
    """`text` without secrets, by the rules alone: no environment, no memory between calls."""
    return _default().text(text, path)
