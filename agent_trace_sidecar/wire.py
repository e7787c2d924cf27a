"""The wire protocol, version 1: one line in, an `Envelope` or a `Rejected` out.

The shim mints the ids; this module only checks. `input` and `output` stay raw JSON here: most lines are stored
without ever being opened. Whatever Postgres' jsonb would refuse is settled here, so that one line never costs its
neighbours their place in a batch: what can be repaired (NUL, lone surrogates, bytes that are no UTF-8) becomes
U+FFFD and is noted in `Envelope.repaired`, what can't is rejected with its reason.
"""

import re
from typing import Final
from uuid import UUID

import msgspec

EMPTY: Final = msgspec.Raw(b"")
"""What an absent `input` or `output` decodes to."""

MAX_DEPTH: Final = 500
"""Nesting that is still decoded; the parsers of msgspec and Postgres give up somewhere beyond it."""


class VcsObserved(msgspec.Struct, frozen=True):
    """Where the repository stood when the hook fired."""

    type: str
    revision: str


class FileObserved(msgspec.Struct, frozen=True):
    """A file as it stood when the hook fired: the blake2s hash of each line, in order (16 hex digits each)."""

    path: str
    lines: int
    text: str | None = None


class Observed(msgspec.Struct, frozen=True):
    """What the sidecar saw in the user's repository when the line arrived; written into the spool beside the line."""

    vcs: VcsObserved | None = None
    files: tuple[FileObserved, ...] = ()


class Envelope(msgspec.Struct):
    """One well-formed line. `at` is milliseconds since the epoch."""

    v: int
    id: UUID
    seq: int
    at: int | float
    instance: UUID
    hook: str
    api: int = 1
    directory: str | None = None
    worktree: str | None = None
    input: msgspec.Raw = EMPTY
    output: msgspec.Raw = EMPTY
    lost: int = 0
    """Lines that the shim had to give up since its start."""
    redacted: dict[str, int] | None = None
    """Secrets masked in this line, by rule; added by the funnel."""
    observed: Observed | None = None
    repaired: tuple[str, ...] = ()
    """What had to be mended, e.g. ("nul", "surrogate"); filled by `parse`."""


class Rejected(msgspec.Struct, frozen=True):
    """A line that is no event: `reason` is a stable word for counting, `error` a sentence without content."""

    reason: str
    error: str
