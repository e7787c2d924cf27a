"""The first look at a portion of lines: which of them must be opened.

Most strings of a line were said before, by it or by an earlier one, and most of the rest hold nothing. So the strings
of many lines that are new are laid into one buffer, each once, and every layer passes over it once: what a layer costs
to start is paid once per portion. It looks at the strings only, without the keys that they stand under; a key that
announces a secret is a string as well, and is never clean.
"""

import bisect
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from agent_trace_sidecar.redaction.files import is_secret_path, reads_secret_file, secret_paths
from agent_trace_sidecar.redaction.jsonline import BORDER, is_json, is_utf8, unescaped
from agent_trace_sidecar.redaction.masker import Masker
from agent_trace_sidecar.redaction.memory import Memory
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.spans import Span

_NO_ID: Final = re.compile(
    rb"^(?!(?:(?:msg|prt|ses|evt|call|per|que|toolu)_[A-Za-z0-9_]{1,40}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    rb"|[0-9a-f]{40})$).+",
    re.MULTILINE,
)
_SHORT_CORE: Final = (b"pat", b"Pat", b"PAT")
"""Announces a token at the end of a name, and is too frequent elsewhere to be looked for."""
_LONGEST_NAME: Final = 256
_LONGEST_COMMAND: Final = 2000
_MOST_SUSPECTS: Final = 32
"""With more of them it is cheaper to open all lines than to ask which ones hold which."""


class Seen(NamedTuple):
    """What a first look has found."""

    suspects: Collection[int]
    """The indexes of the lines that may hold a secret; of the others, the memory knows now that they don't."""
    spans: Mapping[bytes, list[Span]] | None
    """What the layers found in each string of these lines, which says the same wherever it stands. None: all of it must
    be looked at again."""


def first_look(lines: Sequence[bytes], masker: Masker, memory: Memory) -> Seen:
    """Look at the lines together."""
    plain = [_with_plain_quotes(line) if is_json(line) and is_utf8(line) else b"" for line in lines]
    unreadable = {index for index, line in enumerate(plain) if not line}
    fresh = _fresh(plain, memory)
    if not fresh:
        return Seen(unreadable, {})
    opened = [unescaped(text) for text in fresh]
    found: dict[int, list[Span]] = {}
    suspects = _suspects(opened, any(b'"command"' in line for line in plain), masker, memory, found)
    memory.remember_clean([text for index, text in enumerate(fresh) if index not in suspects])
    if len(suspects) > _MOST_SUSPECTS:
        return Seen(range(len(lines)), None)
    tokens = [b'"%b"' % fresh[index] for index in suspects]
    showing = {index for index, line in enumerate(plain) if any(token in line for token in tokens)}
    return Seen(unreadable | showing, {opened[index]: spans for index, spans in found.items()})


def _with_plain_quotes(line: bytes) -> bytes:
    """The same JSON, in which every quote is the border of a string."""
    if b"\\" not in line:
        return line
    return line.replace(b"\\\\", b"\\u005c").replace(b'\\"', b"\\u0022")


def _fresh(plain: Sequence[bytes], memory: Memory) -> list[bytes]:
    """The strings, keys too, that are no ids and not known to be clean, in order, each once."""
    clean = memory.clean
    strings = b"\n".join(plain).split(b'"')[1::2]
    unknown = b"\n".join(dict.fromkeys([text for text in strings if text not in clean]))
    found: list[bytes] = _NO_ID.findall(unknown)
    return [text for text in found if not memory.is_clean(text)]


def _suspects(
    texts: Sequence[bytes], command: bool, masker: Masker, memory: Memory, found: dict[int, list[Span]]
) -> set[int]:
    """The indexes of the texts in which something is `found`, or which announce a secret elsewhere."""
    buffer = BORDER.join(texts)
    bases = list(accumulate((len(text) + len(BORDER) for text in texts), initial=0))

    def which(places: Iterable[int]) -> set[int]:
        return {bisect.bisect_right(bases, place) - 1 for place in places}

    cores: list[int] = []
    for span in masker.find(buffer, cores=cores):
        index = bisect.bisect_right(bases, span.start) - 1
        found.setdefault(index, []).append(span._replace(start=span.start - bases[index], end=span.end - bases[index]))
    named = which(cores) | {index for index, text in enumerate(texts) if text.endswith(_SHORT_CORE)}
    # The border before a path belongs to what was found.
    paths = which(at + 1 for at in secret_paths(buffer))
    return {
        *found,
        *which(memory.places(buffer)),
        *(index for index in named if _is_secret_name(texts[index])),
        *(index for index in paths if _names_secret_file(texts[index], command)),
    }


def _is_secret_name(text: bytes) -> bool:
    """Whether a string, as a key, announces a secret."""
    return len(text) <= _LONGEST_NAME and kind_of(text) is not Kind.NONE


def _names_secret_file(text: bytes, command: bool) -> bool:
    """Whether a string is a file of secrets, or may be a command that prints one."""
    name = text[:_LONGEST_COMMAND].decode("utf-8", "replace")
    return (len(text) <= _LONGEST_NAME and is_secret_path(name)) or (command and reads_secret_file(name))
