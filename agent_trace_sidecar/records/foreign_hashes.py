"""Content hashes as other tools write them: `<algorithm>:<hex>` over a range's lines joined by LF; pure."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final

_MASK: Final = 0xFFFF_FFFF
_DIGEST: Final = re.compile(r"[0-9a-f]{8,}")
"""Fewer digits agree with too much."""


def agrees(content_hash: str, lines: Sequence[bytes]) -> bool | None:
    """Whether a hash is that of some lines; None where it can't be checked, which is neither yes nor no.

    Line endings count as LF, and a last one may be part of what was hashed or not: tools differ in both. A digest may
    be shortened; one that is longer than its algorithm's is of another variant (murmur3 also exists with 128 bits).
    """
    name, _, digest = content_hash.partition(":")
    algorithm = _ALGORITHMS.get(name.lower())
    wanted = digest.lower()
    if algorithm is None or not _DIGEST.fullmatch(wanted) or len(wanted) > len(algorithm(b"")):
        return None
    for own in (lines, [line.removesuffix(b"\r") for line in lines]):
        text = b"\n".join(own)
        if any(algorithm(one).startswith(wanted) for one in (text, text + b"\n")):
            return True
    return False


def murmur3(data: bytes) -> str:
    """MurmurHash3 for 32 bits with seed 0, as 8 hex digits."""
    state, whole = 0, len(data) & ~3
    for at in range(0, whole, 4):
        state ^= _scrambled(int.from_bytes(data[at : at + 4], "little"))
        state = (_rotated(state, 13) * 5 + 0xE654_6B64) & _MASK
    state ^= _scrambled(int.from_bytes(data[whole:], "little"))
    state ^= len(data)
    for shift, factor in ((16, 0x85EB_CA6B), (13, 0xC2B2_AE35), (16, 1)):
        state = ((state ^ (state >> shift)) * factor) & _MASK
    return f"{state:08x}"


def _scrambled(block: int) -> int:
    return (_rotated((block * 0xCC9E_2D51) & _MASK, 15) * 0x1B87_3593) & _MASK


def _rotated(value: int, by: int) -> int:
    return ((value << by) | (value >> (32 - by))) & _MASK


def _hashlib(name: str) -> Callable[[bytes], str]:
    return lambda data: hashlib.new(name, data, usedforsecurity=False).hexdigest()


_ALGORITHMS: Final[dict[str, Callable[[bytes], str]]] = {
    "murmur3": murmur3,
    **{name: _hashlib(name) for name in ("blake2s", "blake2b", "sha1", "sha256", "sha512", "md5")},
}
