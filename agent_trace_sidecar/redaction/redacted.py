"""The proof, as a type, that a line went through the redactor: what spool, wire, log and database accept."""

from collections.abc import Sequence
from typing import Final, Self

from agent_trace_sidecar.opencode import wire

_MINT: Final = object()


class Redacted:
    """One line without secrets and without its newline. Only the redactor makes it."""

    __slots__ = ("line",)

    def __init__(self, line: bytes, token: object = None) -> None:
        if token is not _MINT:
            raise TypeError("only a Redactor makes a Redacted line; a spooled one is read by Redacted.from_spool")
        self.line: Final = line

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Redacted) and self.line == other.line

    def __hash__(self) -> int:
        return hash(self.line)

    @classmethod
    def from_spool(cls, line: bytes) -> Self:
        """A line that the redactor had made before, read back from where only the redactor's lines are written."""
        return cls(line, _MINT)


class EnvelopeError(Exception):
    """Masking changed the identity of an event; the message holds no content."""


def unchanged(lines: Sequence[bytes]) -> list[Redacted]:
    """For `redactor.py` alone: declare that these lines hold no secret."""
    return [Redacted(line, _MINT) for line in lines]


def mint(line: bytes, masked: bytes, raw: bytes) -> Redacted:
    """For `redactor.py` alone: declare that `line` holds no secret any more.

    Args:
        line: what is stored.
        masked: what it was made of, after masking.
        raw: the same before masking.

    Raises EnvelopeError when masking has made another event of it.
    """
    if masked is not raw and (before := wire.identity(raw)) is not None and wire.identity(masked) != before:
        raise EnvelopeError
    return Redacted(line, _MINT)
