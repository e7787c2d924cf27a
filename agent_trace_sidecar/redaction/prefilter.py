"""The words that a pattern cannot match without: the keywords of the one-pass prefilter.

Reads the parse tree of Python's own `re` (the rules' dialect differs in flags and class names only, which make no
difference to the literals) and returns lower-case literals of which at least one is in every match, or None.
"""

import re
import warnings
from re import _constants as sc  # type: ignore[attr-defined]
from re import _parser as sp  # type: ignore[attr-defined]
from typing import Any, Final

_MOST_ALTERNATIVES: Final = 64
_Literals = frozenset[str] | None


def required_literals(pattern: str) -> frozenset[str] | None:
    """Lower-case strings of which every match of `pattern`, lower-cased, contains at least one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = sp.parse(_for_python(pattern))
    except (re.error, RecursionError, OverflowError):
        return None
    return _of_sequence(list(tree))


def _for_python(pattern: str) -> str:
    pattern = re.sub(r"\(\?[imsx]+\)", "", pattern)
    pattern = re.sub(r"\(\?[imsx]*-?[imsx]*:", "(?:", pattern)
    pattern = re.sub(r"\(\?<([A-Za-z_])", r"(?P<\1", pattern)
    pattern = pattern.replace(r"\z", r"\Z")
    return re.sub(r"\[:\^?\w+:\]", r"\\w", pattern)


def _better(one: _Literals, other: _Literals) -> _Literals:
    """The set whose shortest word is longer: the rarer the word, the fewer false alarms of the prefilter."""
    if one is None or other is None:
        return other if one is None else one
    rank_one, rank_other = ((min(map(len, s)), -len(s)) for s in (one, other))
    return one if rank_one >= rank_other else other


def _of_sequence(items: list[Any]) -> _Literals:
    found: _Literals = None
    run = [""]
    for op, arg in items:
        words = _words([(op, arg)])
        if words is not None and len(words) * len(run) <= _MOST_ALTERNATIVES:
            run = [head + tail for head in run for tail in words]
            continue
        if all(run):
            found = _better(found, frozenset(run))
        run = [""]
        found = _better(found, _inside(op, arg))
    return _better(found, frozenset(run)) if all(run) else found


def _inside(op: Any, arg: Any) -> _Literals:  # noqa: ANN401 - nodes of sre_parse are untyped
    if op is sc.SUBPATTERN:
        return _of_sequence(list(arg[3]))
    if op is sc.BRANCH:
        sets = [_of_sequence(list(branch)) for branch in arg[1]]
        present = [s for s in sets if s is not None]
        return frozenset().union(*present) if len(present) == len(sets) else None
    if op in (sc.MAX_REPEAT, sc.MIN_REPEAT) and arg[0] >= 1:
        return _of_sequence(list(arg[2]))
    return None


def _words(items: list[Any]) -> list[str] | None:
    """Every string that the items can match, when these are few."""
    words = [""]
    for op, arg in items:
        tails = _tails(op, arg)
        if tails is None:
            return None
        words = [head + tail for head in words for tail in tails]
        if len(words) > _MOST_ALTERNATIVES:
            return None
    return words


def _tails(op: Any, arg: Any) -> list[str] | None:  # noqa: ANN401, PLR0911 - one return per kind of node
    if op is sc.LITERAL:
        return [chr(arg).lower()]
    if op is sc.AT:
        return [""]
    if op is sc.SUBPATTERN:
        return _words(list(arg[3]))
    if op is sc.BRANCH:
        branches = [_words(list(branch)) for branch in arg[1]]
        return None if any(b is None for b in branches) else [w for b in branches for w in b or ()]
    if op is sc.IN:
        return _members(arg)
    if op in (sc.MAX_REPEAT, sc.MIN_REPEAT) and int(arg[1]) == 1:
        inner = _words(list(arg[2]))
        return inner if inner is None or arg[0] == 1 else ["", *inner]
    return None


def _members(arg: Any) -> list[str] | None:  # noqa: ANN401 - as above
    members: set[str] = set()
    for op, value in arg:
        if op is sc.LITERAL:
            members.add(chr(value).lower())
        elif op is sc.RANGE and value[1] - value[0] <= 3:  # noqa: PLR2004 - [0-3], not [a-z]
            members.update(chr(c).lower() for c in range(value[0], value[1] + 1))
        else:
            return None
    return sorted(members)
