"""The proof, as a type, that a line went through the funnel: what spool, wire, log and database accept."""

from dataclasses import InitVar, dataclass
from typing import Final, Self

_MINT: Final = object()


@dataclass(frozen=True, slots=True)
class Redacted:
    """One line without secrets and without its newline. Only the funnel makes it."""

    line: bytes
    token: InitVar[object] = None

    def __post_init__(self, token: object) -> None:
        if token is not _MINT:
            raise TypeError("only redaction.Funnel makes a Redacted line; a spooled one is read by Redacted.from_spool")

    @classmethod
    def from_spool(cls, line: bytes) -> Self:
        """A line that the funnel had made before, read back from where only the funnel's lines are written."""
        return cls(line, _MINT)


def mint(line: bytes) -> Redacted:
    """For `funnel.py` alone: declare that `line` holds no secret any more."""
    return Redacted(line, _MINT)
