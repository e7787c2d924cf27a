"""Syntax colours of a file, as lengths and kinds for each line; found while the page is made, with Pygments.

A lexer is a pile of regular expressions that meets whatever stands in a repository. So it has a bound of bytes and of
time, and its result is used only when its pieces add up to the text.
"""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Final

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_for_filename
from pygments.token import Comment, Keyword, Name, Number, String, _TokenType
from pygments.util import ClassNotFound

_MAX_CHARS: Final = 1_000_000
_MAX_LINE: Final = 5_000
"""A longer line is no code that a person reads."""
_MAX_S: Final = 3.0
"""Of one file."""
MAX_ALL_S: Final = 30.0
"""Of all files of a page: some hundred lines take a tenth of a second."""

_KINDS: Final = (
    (Comment, 3),
    (String, 2),
    (Number, 4),
    (Keyword, 1),
    (Name.Function, 5),
    (Name.Class, 5),
    (Name.Decorator, 5),
    (Name.Tag, 5),
    (Name.Attribute, 5),
    (Name.Builtin, 1),
)
"""What the numbers mean stands in the style sheet: .t1 and so on; 0 is plain."""


class _TimeIsUp(Exception):  # noqa: N818 - no error: the file stays plain
    pass


class Painter:
    """Colours file after file until its time is up."""

    def __init__(self, max_s: float = MAX_ALL_S) -> None:
        self._left_s = max_s
        self.left_out = 0
        """Files that came too late."""

    def colours(self, path: str, lines: Sequence[str]) -> list[list[int]] | None:
        """For each line a flat list of length and kind; None where the file stays plain."""
        if self._left_s <= 0:
            self.left_out += 1
            return None
        began = time.monotonic()
        try:
            return _colours(path, lines)
        finally:
            self._left_s -= time.monotonic() - began


def _colours(path: str, lines: Sequence[str]) -> list[list[int]] | None:
    text = "\n".join(lines)
    if len(text) > _MAX_CHARS or any(len(line) > _MAX_LINE for line in lines):
        return None
    try:
        lexer = get_lexer_for_filename(path.rpartition("/")[2])
        with _within(_MAX_S):
            return _by_line(lexer, text, len(lines))
    except (ClassNotFound, _TimeIsUp):
        return None
    except Exception:  # noqa: BLE001 - some lexers fail on what they did not expect; colours are not worth a page
        return None


def _by_line(lexer: Lexer, text: str, count: int) -> list[list[int]] | None:
    found: list[list[int]] = [[]]
    end = 0
    for start, kind, value in lexer.get_tokens_unprocessed(text):
        if start != end:
            return None
        end += len(value)
        number = _kind(kind)
        for at, piece in enumerate(value.split("\n")):
            if at:
                found.append([])
            if piece:
                _add(found[-1], len(piece), number)
    return found if end == len(text) and len(found) == count else None


def _add(line: list[int], length: int, kind: int) -> None:
    if line and line[-1] == kind:
        line[-2] += length
    else:
        line.extend((length, kind))


@cache
def _kind(kind: _TokenType) -> int:
    return next((number for known, number in _KINDS if kind[: len(known)] == known), 0)


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Stop a regular expression that does not come to an end; Python handles signals inside of one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
