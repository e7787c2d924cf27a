"""A file's content as lines, and what may be kept of each instead of its text; pure.

A line that may hold a secret is hidden: neither its hash nor its tokens are kept, nor the hash of a range with it.
The redactor is expensive: the whole file is checked first, then blocks, then the lines of a block that may hold a
secret. Lines that can't be distinguished are hidden together.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from agent_trace_sidecar.opencode.wire import LineRange
from agent_trace_sidecar.records.fingerprints import NO_HASH, line_hash, packed_tokens

MAX_VECTOR_LINES: Final = 40_000
"""Of a longer file only the changed lines' hashes are kept, not those of all its lines."""
_BLOCK_LINES: Final = 128
_MAX_SECRETS: Final = 40
"""Secrets in one file that are narrowed down to their lines; with more the whole file is hidden."""

IsSecret = Callable[[str], bool]


def text_lines(content: bytes) -> list[bytes]:
    """The lines of a file as git counts them: cut at LF; a CR before it stays, a last LF opens no line."""
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def content_hash(lines: Iterable[bytes]) -> str:
    """`blake2s:` and the hex digest of a range's true bytes.

    The bytes are those of the file from the range's first to its last line without the LF that ends the last one;
    a CR belongs to its line. So it is blake2s over the lines of `text_lines`, joined by LF.
    """
    return "blake2s:" + hashlib.blake2s(b"\n".join(lines)).hexdigest()


class Content:
    """The lines of a file at one moment."""

    __slots__ = ("_hashes", "hidden", "lines")

    def __init__(self, lines: Sequence[bytes], hidden: frozenset[int] = frozenset()) -> None:
        """`hidden` are the places (from 0) of lines that may hold a secret."""
        self.lines = lines
        self.hidden = hidden
        self._hashes: bytes | None = None

    @classmethod
    def judged(cls, lines: Sequence[bytes], is_secret: IsSecret) -> "Content":
        """The content of a file; `is_secret` decides which texts may hold a secret."""
        return cls(lines, _hidden(lines, is_secret))

    def vector(self) -> str | None:
        """The hashes of all lines as hex text, 16 characters for each; None for a file too long."""
        if len(self.lines) > MAX_VECTOR_LINES:
            return None
        if self._hashes is None:
            self._hashes = self._hashed(0, len(self.lines))
        return self._hashes.hex()

    def span(self, start: int, end: int, method: str) -> LineRange:
        """A range of its lines, counted from 1, both ends included, with what may be kept of them."""
        own = self.lines[start - 1 : end]
        secret = [at in self.hidden for at in range(start - 1, end)] if self.hidden else [False] * len(own)
        tokens = packed_tokens(None if hide else line for line, hide in zip(own, secret, strict=False))
        whole = None if any(secret) else content_hash(own)
        hashes = self._hashes[(start - 1) * 8 : end * 8] if self._hashes is not None else self._hashed(start - 1, end)
        return LineRange(start, end, method, whole, hashes.hex(), tokens.hex())

    def _hashed(self, first: int, last: int) -> bytes:
        if not self.hidden:
            return b"".join(map(line_hash, self.lines[first:last]))
        pairs = enumerate(self.lines[first:last], first)
        return b"".join(NO_HASH if at in self.hidden else line_hash(line) for at, line in pairs)


def _hidden(lines: Sequence[bytes], is_secret: IsSecret) -> frozenset[int]:
    everything = frozenset(range(len(lines)))
    left = [line.decode(errors="replace") for line in lines]
    if not left or not is_secret("\n".join(left)):
        return frozenset()
    if is_secret(""):  # a secret file, or no time to decide
        return everything
    hidden: set[int] = set()
    blocks = [(at, min(at + _BLOCK_LINES, len(left))) for at in range(0, len(left), _BLOCK_LINES)]
    for first, last in [*blocks, (0, len(left))]:  # at last the secrets that lie across the blocks' edges
        while is_secret("\n".join(left[first:last])):
            if len(hidden) > _MAX_SECRETS * _BLOCK_LINES or is_secret(""):
                return everything
            found = _narrowed(left, first, last, is_secret)
            if hidden.issuperset(found):
                return everything
            hidden.update(found)
            for at in found:
                left[at] = ""
    return frozenset(hidden)


def _narrowed(lines: Sequence[str], first: int, last: int, is_secret: IsSecret) -> range:
    """The fewest lines between two that hold a secret: the shortest beginning, and of that the shortest end."""
    low, high = first + 1, last
    while low < high:
        middle = (low + high) // 2
        if is_secret("\n".join(lines[first:middle])):
            high = middle
        else:
            low = middle + 1
    start, stop = first, high - 1
    while start < stop:
        middle = (start + stop + 1) // 2
        if is_secret("\n".join(lines[middle:high])):
            start = middle
        else:
            stop = middle - 1
    return range(start, high)
