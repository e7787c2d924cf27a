"""What `blame` answers of each line, and how its author is judged; pure."""

from collections.abc import Container, Sequence
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import msgspec

from agent_trace_sidecar.blame.authors import Author, Carried, Human, Unknown, Wrote
from agent_trace_sidecar.blame.rewrite import Kind, compare
from agent_trace_sidecar.records.fingerprints import MAX_TOKENS, line_tokens

Contributor = Literal["ai", "human", "mixed", "unknown"]

_CONFIDENCE: Final = {"snapshot": 0.99, "diff": 0.99, "content": 0.99, "localised": 0.95, "fallback": 0.3}
_CONFIDENCE_OTHERS: Final = 0.7
"""Of methods that are not ours: imported traces."""
_CONFIDENCE_HUMAN: Final = 0.9
_TRUST_WRAPPED: Final = 0.9
_TRUST_REWRITTEN: Final = 0.8


class Line(msgspec.Struct, frozen=True):
    """Who wrote a line. The fields after `contributor` are of the call that wrote it, None where a person did."""

    line: int
    contributor: Contributor
    model_id: str | None = None
    session_id: str | None = None
    message_id: str | None = None
    call_id: str | None = None
    tool: str | None = None
    at: datetime | None = None
    method: str | None = None
    confidence: float = 0.0
    """0 to 1; 0 for unknown."""
    record_id: UUID | None = None
    origin_path: str | None = None
    origin_line: int | None = None
    reason: str | None = None
    """Why the line is unknown: one of the reasons in docs/attribution.md."""


def judged(text: Sequence[bytes], authors: Sequence[Author]) -> list[Line]:
    """The answer for each line."""
    lines: list[Line] = []
    here = {id(author.wrote if isinstance(author, Carried) else author) for author in authors}
    at = 0
    while at < len(authors):
        author = authors[at]
        if isinstance(author, Human | Unknown) and author.instead_of:
            end = at + 1
            while end < len(authors) and authors[end] is author:
                end += 1
            lines.extend(_replaced(author, text[at:end], at + 1, here))
            at = end
        else:
            lines.append(_line(at + 1, author))
            at += 1
    return lines


def _replaced(author: Human | Unknown, text: Sequence[bytes], first: int, here: Container[int]) -> list[Line]:
    """New lines where recorded ones stood that are not `here`: a person's or unknown, unless they have much of them."""
    gone = [one for one in author.instead_of if id(one) not in here and one.tokens is not None]
    found = compare([one.tokens or b"" for one in gone], [line_tokens(line) for line in text])
    lines = []
    for number, one in enumerate(found, first):
        match one.kind:
            case Kind.SAME if len(gone[one.old].tokens or b"") < MAX_TOKENS:
                lines.append(_of(number, gone[one.old], "ai", _TRUST_WRAPPED))
            case Kind.SAME | Kind.PARTLY:  # of a very long line the rest may be another
                lines.append(_of(number, gone[one.old], "mixed", _TRUST_REWRITTEN))
            case Kind.OTHER:
                lines.append(_line(number, author))
    return lines


def _line(number: int, author: Author) -> Line:
    match author:
        case Wrote():
            return _of(number, author, "ai", 1.0)
        case Carried(wrote, trust):
            return _of(number, wrote, "ai", trust)
        case Human():
            return Line(number, "human", confidence=_CONFIDENCE_HUMAN)
        case Unknown(reason):
            return Line(number, "unknown", reason=reason)


def _of(number: int, wrote: Wrote, contributor: Contributor, trust: float) -> Line:
    """A line that goes back to a recorded one; an imported record may attribute it to a person."""
    origin = wrote.origin
    if origin.contributor != "ai":
        contributor = origin.contributor if origin.contributor in {"human", "mixed"} else "unknown"  # type: ignore[assignment]
    return Line(
        line=number,
        contributor=contributor,
        model_id=origin.model_id,
        session_id=origin.session_id,
        message_id=origin.message_id,
        call_id=origin.call_id,
        tool=origin.tool,
        at=origin.at,
        method=origin.method,
        confidence=round(_CONFIDENCE.get(origin.method, _CONFIDENCE_OTHERS) * trust, 3),
        record_id=origin.record_id,
        origin_path=wrote.path,
        origin_line=wrote.line,
    )
