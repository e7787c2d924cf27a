"""The weight of a line as evidence of where it comes from: none for a brace, much for a long expression; pure."""

from collections.abc import Iterable
from typing import Final

from agent_trace_sidecar.records.fingerprints import hashes_of, line_hashes, line_tokens

_IN_EVERY_FILE: Final = (
    b"", b"{", b"}", b"(", b")", b"[", b"]", b"};", b"},", b");", b"),", b"],", b"];", b"})", b"});", b"}),", b"))",
    b"*/", b"/*", b"/**", b"*", b"//", b"#", b"---", b'"""', b"'''", b"```", b"end", b"end;", b"fi", b"done", b"esac",
    b"else", b"else:", b"else {", b"} else {", b"try:", b"try {", b"finally:", b"finally {", b"do", b"then", b"begin",
    b"pass", b"break", b"break;", b"continue", b"continue;", b"return", b"return;", b"return None", b"return true;",
    b"return false;", b"return True", b"return False", b"default:", b"<div>", b"</div>", b"...", b"->", b"|", b"&&",
)  # fmt: skip
_NO_WEIGHT: Final = {one >> 32 for one in hashes_of(line_hashes(_IN_EVERY_FILE))}
_WEIGHTS: Final = (0.0, 0.0, 0.4, 1.0, 1.0)
"""Of lines with 0, 1, 2, 3, 4 tokens."""
_MOST: Final = 1.5
_NOT_KNOWN: Final = 0.8
"""Of a line of which only the hash is known."""

_OF_MANY: Final = 0.3
"""Of a line that stands in many files, at most."""


class Weights:
    """Knows the weight of every line whose text or tokens were seen; hashes are `fingerprints.hashes_of`."""

    def __init__(self) -> None:
        self._known: dict[int, float] = {}
        self._common: set[int] = set()
        self._shared: set[int] = set()

    def learn_lines(self, hashes: Iterable[int], lines: Iterable[bytes]) -> None:
        """Take in lines whose text is known."""
        for one, line in zip(hashes, lines, strict=True):
            self.learn(one, line_tokens(line))

    def learn(self, line_hash: int, tokens: bytes | None) -> None:
        """Take in a line whose tokens are known."""
        if tokens is not None:
            self._known[line_hash >> 32] = _WEIGHTS[len(tokens)] if len(tokens) < len(_WEIGHTS) else _MOST

    def common(self, loose: Iterable[int]) -> None:
        """Take in lines, by their hashes without white space, that stand in many files."""
        self._common.update(loose)

    def of(self, line_hash: int) -> float:
        """From 0, for a line that stands in every file, to 1.5."""
        loose = line_hash >> 32
        if loose in _NO_WEIGHT or not loose:
            return 0.0
        weight = self._known.get(loose, _NOT_KNOWN)
        return min(weight, _OF_MANY) if loose in self._common else weight

    def shared(self, loose: Iterable[int]) -> None:
        """Take in lines, as above, that are common property of the repository."""
        self._shared.update(loose)

    def as_evidence(self, line_hash: int) -> float:
        """The weight of a line as evidence of a copy from another file: none for boilerplate."""
        return 0.0 if line_hash >> 32 in self._shared else self.of(line_hash)

    def is_weak(self, line_hash: int) -> bool:
        """Whether the line alone is no evidence."""
        return not self.of(line_hash)
