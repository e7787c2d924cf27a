"""Who wrote a line, as it is carried from one state of a file to the next; pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Origin:
    """The call that wrote some lines, from a row of `agent_trace_ranges`."""

    record_id: UUID
    at: datetime
    contributor: str
    method: str
    model_id: str | None = None
    session_id: str | None = None
    message_id: str | None = None
    call_id: str | None = None
    tool: str | None = None


@dataclass(frozen=True, slots=True)
class Wrote:
    """A line of a recorded change; it stays the same object wherever the line goes."""

    origin: Origin
    path: str
    line: int
    """Where it stood when it was written."""
    loose: int
    """Its hash without regard to white space."""
    tokens: bytes | None = None
    """See `fingerprints.line_tokens`; None where they are not known."""


class Human(NamedTuple):
    """A line that is no recorded change's; `instead_of` are lines of such that stood at its place and are gone."""

    instead_of: tuple[Wrote, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is known of the line, or what is known contradicts itself; `reason` is one of docs/attribution.md."""

    reason: str = "unseen"
    instead_of: tuple[Wrote, ...] = ()
    """As of `Human`: it may be such a line in other words."""


class Carried(NamedTuple):
    """A recorded line that was found elsewhere than in its place; `trust` is how sure that is, up to 1."""

    wrote: Wrote
    trust: float


Author: TypeAlias = Wrote | Carried | Human | Unknown

HUMAN: Final = Human()
GUESSED: Final = Unknown("guessed")
HIDDEN: Final = Unknown("hidden")
PARTIAL: Final = Unknown("partial")
PRUNED: Final = Unknown("pruned")
UNCOVERED: Final = Unknown("uncovered")
UNSEEN: Final = Unknown()


def written(author: Author) -> Wrote | None:
    """The recorded line, if it is one."""
    match author:
        case Wrote():
            return author
        case Carried(wrote):
            return wrote
        case Human() | Unknown():
            return None
