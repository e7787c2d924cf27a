"""Lines for the benchmarks: recordings of real sessions, amplified.

Each copy of a recording is another session: all ids, times, hashes and sequence numbers are fresh, and so are the words
of what people and tools wrote, for words that were seen before would make masking look cheaper than it is. Sizes stay
as recorded: 0.75 KB on average, two lines in each 440 of 31 KB. Every third copy of one recording shows a secret.
"""

import re
from collections.abc import Iterator
from functools import cache
from itertools import count, cycle
from pathlib import Path
from random import Random
from typing import Final
from uuid import UUID

from tests.support.envelopes import recorded_lines

_MIX: Final = (
    "basic-edit-write-bash",
    "basic-edit-write-bash",
    "apply-patch",
    "basic-edit-write-bash",
    "subagent-overwrite-crlf-unicode-commit",
    "basic-edit-write-bash",
    "slash-command",
    "killed-mid-tool",
)
"""Mostly plain work; the long outputs are in the recording with the subagent."""

_START_MS: Final = 1_795_327_000_000
_SLOT: Final = re.compile(
    rb'"instance":"(?P<instance>[^"]+)"|^\{"v":1,"id":"(?P<event>[^"]+)"|"seq":(?P<seq>\d+)|"at":(?P<at>\d+)'
    rb"|\b(?P<id>(?:ses|msg|prt|evt|per)_[0-9A-Za-z]{12,}?)(?P<tail>[0-9A-Za-z]{9})\b|\b(?P<hash>[0-9a-f]{40})\b"
)
_CONTENT: Final = re.compile(
    rb'"(?:content|output|oldString|newString|diff|patch|patchText|preview|text|description|error|stdout)":'
    rb'"((?:[^"\\]|\\.)*)"'
)
_WORD: Final = re.compile(rb"\\u[0-9a-fA-F]{4}|\\.|(?P<word>[a-z]{4,14})")
_PATH: Final = re.compile(rb"(?:/[\w.-]+){2,}|\b[\w-]+/[\w./-]+|\b[\w-]+\.(?:py|txt|md|js|json)\b")
_ONE_LETTER: Final = re.compile(rb"x{200,}")
_SYLLABLES: Final = tuple("albarbecadidoenfigahainkalelimanenooperasitevuwa"[at : at + 2] for at in range(0, 48, 2))
_SECRET: Final = b'\\nGITHUB_TOKEN=ghp_%b\\n"'
_SECRET_PLACE: Final = re.compile(rb'"output":"[^"]{20,}"')

Piece = bytes | tuple[str, bytes]


@cache
def _vocabulary(length: int) -> list[bytes]:
    """Some thousand words of this length that look like words."""
    random = Random(length)  # noqa: S311 - the same words in every run
    words = ("".join(random.choices(_SYLLABLES, k=length))[:length] for _ in range(4000))
    return sorted({word.encode() for word in words})


def _pieces(line: bytes) -> list[Piece]:
    """A line as constant bytes and slots, in order."""
    slots: list[tuple[int, int, str]] = []
    for match in _SLOT.finditer(line):
        kind = "tail" if match["tail"] else str(match.lastgroup)
        slots.append((*match.span(kind), kind))
    for content in _CONTENT.finditer(line):
        paths = [path.span() for path in _PATH.finditer(line, *content.span(1))]
        words = (word for word in _WORD.finditer(line, *content.span(1)) if word["word"])
        slots.extend(
            (*word.span(), "word") for word in words if not any(a < word.end() and word.start() < b for a, b in paths)
        )
    pieces: list[Piece] = []
    at = 0
    for start, end, kind in sorted(slots):
        if start >= at:
            pieces += [line[at:start], (kind, line[start:end])]
            at = end
    return [*pieces, line[at:]]


def _as_a_build_log(run: re.Match[bytes]) -> bytes:
    """The long outputs were recorded as one letter thirty thousand times, which no tool prints."""
    random = Random(0)  # noqa: S311 - as above
    text = b""
    while len(text) < len(run[0]):
        words = [random.choice(_vocabulary(random.randint(4, 10))) for _ in range(9)]
        text += b"%05d " % random.randint(0, 99999) + b" ".join(words) + b"\\n"
    return text[: len(run[0])].rstrip(b"\\")


@cache
def _template(recording: str) -> list[list[Piece]]:
    return [_pieces(_ONE_LETTER.sub(_as_a_build_log, line)) for line in recorded_lines(recording)]


class _Copy:
    """What the slots of one copy are filled with; the same slot gets the same filling all through the copy."""

    def __init__(self, number: int) -> None:
        self._random = Random(number)  # noqa: S311 - the same lines in every run
        self._fillings: dict[tuple[str, bytes], bytes] = {}
        self._tail = f"{number:09x}".encode()
        self._instance = str(UUID(int=self._random.getrandbits(128), version=4)).encode()
        self.at = _START_MS + number * 300_000 % (20 * 86_400_000)

    def fill(self, kind: str, old: bytes, seq: int) -> bytes:
        """The bytes for a slot of the line `seq`."""
        if kind == "seq":
            return b"%d" % seq
        if kind == "at":
            return b"%d" % (self.at + seq * 100)
        if kind == "event":
            value = (self.at + seq * 100 << 80) | self._random.getrandbits(80)
            return str(UUID(int=value & ~(0xF000 << 64) & ~(0xC000 << 48) | (7 << 76) | (2 << 62))).encode()
        filling = self._fillings.get((kind, old))
        if filling is None:
            filling = self._fillings[kind, old] = self._make(kind, old)
        return filling

    def _make(self, kind: str, old: bytes) -> bytes:
        if kind == "instance":
            return self._instance
        if kind == "tail":
            return self._tail
        if kind == "hash":
            return b"%040x" % self._random.getrandbits(160)
        return self._random.choice(_vocabulary(len(old)))

    def secret(self) -> bytes:
        """A token as GitHub makes them."""
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        return "".join(self._random.choices(letters, k=36)).encode()


def _copy_lines(recording: str, number: int) -> Iterator[bytes]:
    copy = _Copy(number)
    shown = b""
    for seq, pieces in enumerate(_template(recording), 1):
        line = b"".join([p if isinstance(p, bytes) else copy.fill(p[0], p[1], seq) for p in pieces])
        if number % 3 == 0 and recording == _MIX[0] and b'"tool":"bash"' in line and (b'"exit"' in line):
            shown = shown or copy.secret()
            line = _SECRET_PLACE.sub(lambda m: m[0][:-1] + _SECRET % shown, line, count=1)  # noqa: B023 - used at once
        yield line


def lines(first_copy: int = 0) -> Iterator[bytes]:
    """Lines without their newlines, without end; other copies give other ids."""
    for number, recording in zip(count(first_copy), cycle(_MIX), strict=False):
        yield from _copy_lines(recording, number)


def write_log(path: Path, events: int, first_copy: int = 0) -> int:
    """Write a log of so many lines and return its size in bytes."""
    source = lines(first_copy)
    with path.open("wb") as file:
        for _ in range(events):
            file.write(next(source) + b"\n")
        return file.tell()
