"""What is kept of a line instead of its text, so that it is known again later; pure.

A line's hash is 8 bytes: 4 of its text without any white space, and 4 of the line as it is without its line ending.
A byte order mark is no part of either.
A line that was only indented anew, aligned or given another line ending has the same first half; both halves
together tell two lines of a large store apart. Many lines are one `bytes`, 8 for each.

A line's tokens are one byte for each word or operator, in order: 7 bits of a hash for a word, the character itself
for an operator. That is enough to recognise a line as another one partly rewritten or wrapped anew, and too little to
reconstruct it.

A line that may hold a secret has neither: its hash is `NO_HASH`, its tokens are not known.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2s
from itertools import islice
from typing import Final

HASH_BYTES: Final = 8
LOOSE_BYTES: Final = HASH_BYTES // 2
"""The first part of a line's hash, which does not depend on white space."""
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
NO_HASH: Final = bytes(HASH_BYTES)
"""Stands for a line that may hold a secret: it equals no line, not even another one of its kind."""
MAX_TOKENS: Final = 1000
"""Of a longer line only the first ones are kept: of those beyond them nothing is known."""
UNKNOWN_TOKENS: Final = 255
"""Stands in the place of the count where a line's tokens are not known."""
_LONG: Final = 254
"""Stands there where two more bytes hold the count."""
KEY_TOKENS: Final = 3
"""Lines with fewer tokens are in too many files to be evidence of where they come from."""

_ZERO: Final = bytes(4)
_TOKEN: Final = re.compile(rb"[A-Za-z0-9\x80-\xff]+|[^\sA-Za-z0-9\x80-\xff'\"`,;()\\_]")
"""Quotes, commas, semicolons, brackets and backslashes at a line's end come and go with formatters."""


def line_hash(line: bytes) -> bytes:
    """The hash of one line; its ending does not matter."""
    bare = line.removesuffix(b"\r").removeprefix(BYTE_ORDER_MARK)
    loose, exact = _half(b"".join(bare.split())), _half(bare)
    return loose + exact


def line_hashes(lines: Iterable[bytes]) -> bytes:
    """The hashes of many lines, one after the other."""
    return b"".join(map(line_hash, lines))


def hashes_of(packed: bytes) -> list[int]:
    """The hashes as numbers, the loose half above the exact one; 0 for a line that has none."""
    count = len(packed) // HASH_BYTES
    return list(struct.unpack(f">{count}Q", packed[: count * HASH_BYTES]))


def without_space(line: bytes) -> bytes:
    """A line without any white space."""
    return b"".join(line.split())


def line_tokens(line: bytes) -> bytes:
    """The tokens of one line, a byte for each, from 128 on for words."""
    found = _TOKEN.findall(line.removeprefix(BYTE_ORDER_MARK))
    return bytes(map(_token_byte, found[:MAX_TOKENS]))


def is_evidence(line: bytes) -> bool:
    """Whether a line says enough to be evidence of where it comes from."""
    tokens = _TOKEN.finditer(line.removeprefix(BYTE_ORDER_MARK))
    return sum(1 for _ in islice(tokens, KEY_TOKENS)) == KEY_TOKENS


def packed_tokens(lines: Iterable[bytes | None]) -> bytes:
    """The tokens of many lines, one after the other, each after its number; None for a line that may hold a secret."""
    return b"".join(bytes((UNKNOWN_TOKENS,)) if line is None else _counted(line_tokens(line)) for line in lines)


def _counted(tokens: bytes) -> bytes:
    count = len(tokens)
    return (bytes((count,)) if count < _LONG else bytes((_LONG,)) + count.to_bytes(2, "big")) + tokens


def tokens_of(packed: bytes) -> Iterator[bytes | None]:
    """The tokens of each line, None where they are not known."""
    at = 0
    while at < len(packed):
        count = packed[at]
        at += 1
        if count == UNKNOWN_TOKENS:
            yield None
            continue
        if count == _LONG:
            count = int.from_bytes(packed[at : at + 2], "big")
            at += 2
        yield packed[at : at + count]
        at += count


def line_keys(project: str, hashes: bytes, tokens: bytes | None) -> list[int]:
    """The keys that find lines which have moved to another file of the project; each key once, sorted.

    Args:
        project: what the file belongs to.
        hashes: of the lines.
        tokens: of the same lines, where known: then lines that are weak evidence are left out.
    """
    counts = [len(own) if own is not None else 0 for own in tokens_of(tokens)] if tokens is not None else None
    halves = [hashes[at : at + 4] for at in range(0, len(hashes), HASH_BYTES)]
    if counts is not None and len(counts) == len(halves):
        halves = [half for half, count in zip(halves, counts, strict=True) if count >= KEY_TOKENS]
    first = _half(project.encode(errors="replace"))
    return sorted({int.from_bytes(first + half, "big", signed=True) for half in halves if half != _ZERO})


def path_key(project: str, path: str) -> int:
    """The key of a file that records were pruned of; with an empty path of any file of the project."""
    digest = blake2s(f"{project}\0{path}".encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def loose_of(key: int) -> int:
    """The line's hash without regard to white space, as `hashes_of` has it in its upper half."""
    return key & 0xFFFF_FFFF


def _half(text: bytes) -> bytes:
    """Four bytes, never all zero: zero means no hash."""
    digest = blake2s(text, digest_size=4).digest()
    return digest if digest != _ZERO else b"\x00\x00\x00\x01"


@lru_cache(maxsize=65_536)
def _token_byte(token: bytes) -> int:
    is_word = token.isalnum() or not token.isascii()
    return 128 | blake2s(token, digest_size=1).digest()[0] if is_word else token[0] & 127
