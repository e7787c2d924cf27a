"""KEY=value with a secret-like name, in the forms of env, shell, JSON, YAML, XML, PHP and code."""

import re
from collections.abc import Iterator
from typing import Final

from agent_trace_sidecar.redaction.spans import Span
from agent_trace_sidecar.redaction.structures import compiled
from agent_trace_sidecar.redaction.values import Context, is_secret

NAME: Final = (
    rb"(?:pass(?:word|wd|phrase|code)?|passwort|pwd|secret|token|api[_.-]?key|apikey|access[_.-]?key|auth[_.-]?key|"
    rb"private[_.-]?key|encryption[_.-]?key|credential|oauth)"
)

_ASSIGNMENT: Final = compiled(
    rb"(?i)([A-Za-z0-9_.$\[\]-]*" + NAME + rb"[A-Za-z0-9_.\[\]-]*)"
    rb"(\\*[\"'\x60]?[\])]?[ \t]*(?::=|=>|===?|!==?|=|:)[ \t]*)"
    rb"(?:[@bBrRuUfF$]?(\\*[\"'\x60])([^\"'\x60\r\n\x1e\x1f\\]+)|([^\s\"'\x60\x1e\x1f\\,;)}\]<>]+))"
)

_SECRET_KEY: Final = re.compile(NAME, re.IGNORECASE)


def is_secret_key(key: bytes) -> bool:
    """Whether a JSON key announces a secret."""
    return _SECRET_KEY.search(key) is not None


def assignments(text: bytes) -> Iterator[Span]:
    """Values assigned to secret-like names that do not look like placeholders, references or code."""
    for match in _ASSIGNMENT.finditer(text):
        name = match.group(1)
        if match.group(4) is not None:
            if is_secret(name, match.group(4), Context.QUOTED):
                yield Span(*match.span(4), "assignment")
        elif is_secret(name, match.group(5), Context.BARE):
            key_quote = match.group(2)[: match.group(2).find(b":")].rstrip()
            quote = key_quote if key_quote.endswith(b'"') else b""
            yield Span(*match.span(5), "assignment", quote=quote)
