"""The words that a pattern cannot match without: what the one-pass gate searches for.

Reads the parse tree of Python's own `re` (the rules' dialect differs in flags and class names only, which make no
difference to the literals) and returns lower-case literals of which at least one is in every match, or None.
"""

import re
import warnings
from collections.abc import Iterable
from itertools import product
from re import _constants as sc  # type: ignore[attr-defined]
from re import _parser as sp  # type: ignore[attr-defined]
from typing import Any, Final, NamedTuple

_MOST_ALTERNATIVES: Final = 64
_WIDEST_RANGE: Final = 4
"""[0-3] is four words, [a-z] is none."""
_DIALECT: Final = (
    (r"\(\?[imsx]+\)", ""),
    (r"\(\?[imsx]*-?[imsx]*:", "(?:"),
    (r"\(\?<([A-Za-z_])", r"(?P<\1"),
    (r"\\z", r"\\Z"),
    (r"\[:\^?\w+:\]", r"\\w"),
)
"""What RE2 writes in another way than Python."""
_Words = frozenset[str] | None


class _Literals(NamedTuple):
    """What is known of the matches of a part of a pattern."""

    exact: _Words
    """All that it can match, when that is little."""
    required: _Words
    """Words of which one is in every match."""


def required_literals(pattern: str) -> frozenset[str] | None:
    """Lower-case strings of which every match of `pattern`, lower-cased, contains at least one."""
    for theirs, ours in _DIALECT:
        pattern = re.sub(theirs, ours, pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = sp.parse(pattern)
    except (re.error, RecursionError, OverflowError):
        return None
    return _of_sequence(tree).required


def _of_sequence(items: Iterable[Any]) -> _Literals:
    best: _Words = None
    run, is_exact = frozenset([""]), True
    for op, arg in items:
        exact, required = _of_node(op, arg)
        if exact is not None and len(exact) * len(run) <= _MOST_ALTERNATIVES:
            run = frozenset(map("".join, product(run, exact)))
        else:
            best, run, is_exact = _better(_better(best, run), required), frozenset([""]), False
    return _Literals(run if is_exact else None, _better(best, run))


def _of_node(op: Any, arg: Any) -> _Literals:  # noqa: ANN401, PLR0911 - untyped nodes of sre_parse; one return per kind
    if op is sc.LITERAL:
        return _Literals(frozenset([chr(arg).lower()]), None)
    if op is sc.AT:
        return _Literals(frozenset([""]), None)
    if op is sc.IN:
        return _Literals(_members(arg), None)
    if op is sc.SUBPATTERN:
        return _of_sequence(arg[3])
    if op is sc.BRANCH:
        branches = list(map(_of_sequence, arg[1]))
        return _Literals(_union(one.exact for one in branches), _union(one.required for one in branches))
    if op in (sc.MAX_REPEAT, sc.MIN_REPEAT):
        inner = _of_sequence(arg[2])
        words = None if int(arg[1]) > 1 or inner.exact is None else inner.exact | (frozenset() if arg[0] else {""})
        return _Literals(words, inner.required if arg[0] else None)
    return _Literals(None, None)


def _union(sets: Iterable[_Words]) -> _Words:
    """None when one of them is not known."""
    known = list(sets)
    words = frozenset[str]().union(*(one for one in known if one))
    return None if None in known or len(words) > _MOST_ALTERNATIVES else words


def _better(one: _Words, other: _Words) -> _Words:
    """The set whose shortest word is longer: the rarer the word, the fewer false alarms of the gate."""
    found = [words for words in (one, other) if words and all(words)]
    return max(found, key=lambda words: (min(map(len, words)), -len(words)), default=None)


def _members(arg: Any) -> _Words:  # noqa: ANN401 - as above
    """The characters of a class, if they are few."""
    members: set[str] = set()
    for op, value in arg:
        low, high = value if op is sc.RANGE else (value, value)
        if op not in (sc.LITERAL, sc.RANGE) or high - low >= _WIDEST_RANGE:
            return None
        members.update(chr(c).lower() for c in range(low, high + 1))
    return frozenset(members)
