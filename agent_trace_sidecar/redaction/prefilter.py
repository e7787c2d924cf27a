"""The words that a pattern cannot match without: what the one-pass gate searches for.

Reads the parse tree of Python's own `re` (the rules' dialect differs in flags and class names only, which make no
difference to the literals) and returns lower-case literals of which at least one is in every match.
"""

import re
import warnings
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from itertools import product
from re import _constants as sc  # type: ignore[attr-defined]
from re import _parser as sp  # type: ignore[attr-defined]
from typing import Any, Final

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
_Words = AbstractSet[str]
_ANY: Final[_Words] = frozenset([""])
"""A word that is in everything."""


def required_literals(pattern: str) -> list[str]:
    """Lower-case strings of which every match of `pattern`, lower-cased, contains one; none where there are no such."""
    for theirs, ours in _DIALECT:
        pattern = re.sub(theirs, ours, pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = sp.parse(pattern)
    except (re.error, RecursionError, OverflowError):
        return []
    return [word for word in sorted(_of_sequence(tree)[1]) if word]


def _of_sequence(items: Iterable[Any]) -> tuple[_Words | None, _Words]:
    """All that a sequence can match, if that is little, and words of which one is in every match."""
    best, run, is_whole = _ANY, _ANY, True
    for op, arg in items:
        exact, required = _of_node(op, arg)
        if exact is not None and len(exact) * len(run) <= _MOST_ALTERNATIVES:
            run = set(map("".join, product(run, exact)))
        else:
            best, run, is_whole = max(best, run, required, key=_rarity), _ANY, False
    return (run if is_whole else None), max(best, run, key=_rarity)


def _rarity(words: _Words) -> tuple[int, int]:
    """The longer the shortest word, the fewer false alarms of the gate."""
    return min(map(len, words)), -len(words)


def _of_node(op: Any, arg: Any) -> tuple[_Words | None, _Words]:  # noqa: ANN401 - untyped nodes of sre_parse
    """The same for one node of the tree."""
    exact: _Words | None = None
    required = _ANY
    if op is sc.LITERAL:
        exact = {chr(arg).lower()}
    elif op is sc.AT:
        exact = _ANY
    elif op is sc.IN:
        ranges = [value if kind is sc.RANGE else (value, value) for kind, value in arg]
        if all(kind in (sc.LITERAL, sc.RANGE) for kind, _ in arg) and all(b - a < _WIDEST_RANGE for a, b in ranges):
            exact = {chr(code).lower() for low, high in ranges for code in range(low, high + 1)}
    elif op is sc.SUBPATTERN:
        exact, required = _of_sequence(arg[3])
    elif op is sc.BRANCH:
        parts = list(map(_of_sequence, arg[1]))
        wholes = [whole for whole, _ in parts if whole is not None]
        exact = set().union(*wholes) if len(wholes) == len(parts) else None
        required = set().union(*(words for _, words in parts))
    elif op in (sc.MAX_REPEAT, sc.MIN_REPEAT):
        least, most, inner = arg
        exact, required = _of_sequence(inner)
        exact = None if most > 1 or exact is None else exact if least else exact | _ANY
        required = required if least else _ANY
    return exact, required if len(required) <= _MOST_ALTERNATIVES else _ANY
