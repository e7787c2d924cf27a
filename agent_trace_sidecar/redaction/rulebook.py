"""The rules with a pattern: the living set inside `kingfisher-bin`, our own table, the user's file.

The set is exported from the kingfisher binary once per version, off the start-up path, and kept as JSON in the state
folder together with each rule's literals. One automaton over all literals decides which rules look at a text at all,
and a rule is compiled when its literal is first seen.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import re2
from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from agent_trace_sidecar.redaction.literals import required_literals
from agent_trace_sidecar.redaction.names import CORES

OWN_VERSION: Final = "1"
"""To be raised when our own rules or layers change."""

EXPORT_SECONDS: Final = 20.0
"""How long the export may take before we go on with our own rules; it takes 0.3 to 0.5 s."""

_LEFT_OUT: Final = frozenset(
    {
        "betterleaks.generic-credential-uri",  # masks the host too; structures.py masks the password only
        "betterleaks.alibaba-sts-access-key-secret",  # any word of 30 letters near "key"
    }
)
_SHORTEST_LITERAL: Final = 3
_REACH: Final = 4096
"""How far behind its literal a match may end."""
_LEAD: Final = 256
"""How far before its literal a match may begin."""


@dataclass(slots=True)
class Rule:
    """A pattern; `group` is the one that is the secret (-1: the first that took part, or else the whole match)."""

    id: str
    pattern: str
    literals: tuple[str, ...]
    group: int = -1
    spread: bool = True
    compiled: Any = field(default=None, repr=False)

    def regex(self) -> Any:  # noqa: ANN401 - google-re2 is untyped
        """The pattern, compiled at first use, for bytes."""
        if self.compiled is None:
            options = re2.Options()
            options.log_errors = False
            self.compiled = re2.compile(self.pattern.encode(), options)
        return self.compiled


class Rulebook:
    """All rules and the automaton of their literals."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = list(rules)
        words: dict[str, list[Rule]] = {}
        self._always: list[Rule] = []
        for rule in self.rules:
            if not rule.literals:
                self._always.append(rule)
            for word in rule.literals:
                words.setdefault(word, []).append(rule)
        for core in CORES:
            words.setdefault(core, [])
        self._by_word = list(words.values())
        cores = {core.encode() for core in CORES}
        self._is_core = [word.encode() in cores for word in words]
        self._automaton = BytesAhoCorasick(
            [word.encode() for word in words],
            matchkind=MatchKind.Standard,
            implementation=Implementation.ContiguousNFA,
        )

    def hits(self, lowered: bytes) -> tuple[list[tuple[Rule, list[int]]], list[int]]:
        """Which rules may match, and around which positions; and where the cores of secret-like names stand."""
        found: dict[int, tuple[Rule, list[int]]] = {id(r): (r, [-1]) for r in self._always}
        cores: list[int] = []
        for word, start, _end in self._automaton.find_matches_as_indexes(lowered, overlapping=True):
            if self._is_core[word]:
                cores.append(start)
            for rule in self._by_word[word]:
                found.setdefault(id(rule), (rule, []))[1].append(start)
        return list(found.values()), cores


def windows(positions: list[int], length: int) -> Iterator[tuple[int, int]]:
    """The stretches of a text in which a rule with literals at `positions` can match, merged and in order."""
    if positions[0] < 0:
        yield 0, length
        return
    start, end = max(0, positions[0] - _LEAD), min(length, positions[0] + _REACH)
    for position in positions[1:]:
        low, high = position - _LEAD, min(length, position + _REACH)
        if low <= end:
            end = max(end, high)
        else:
            yield start, end
            start, end = low, high
    yield start, end


def kingfisher_version() -> str:
    """The version of the installed rule set, or "none"."""
    try:
        from kingfisher._version import __version__  # noqa: PLC0415 - not needed when rules come from a cache
    except ImportError:
        return "none"
    return str(__version__)


def load(cache_dir: Path | None) -> list[Rule] | None:
    """The exported rules from the cache, or None when there is none for this version."""
    if cache_dir is None:
        return None
    try:
        rows = json.loads(_cache_file(cache_dir).read_bytes())
        return [Rule(i, p, tuple(words)) for i, p, words in rows]
    except (OSError, ValueError, TypeError):
        return None


def export(cache_dir: Path | None) -> list[Rule]:
    """Ask the kingfisher binary for its rules and keep them for the next start. Raises OSError or ValueError."""
    from kingfisher import get_binary_path  # noqa: PLC0415 - only where the cache is missing

    done = subprocess.run(
        [get_binary_path(), "--no-update-check", "rules", "list", "--format", "json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=EXPORT_SECONDS,
        check=True,
    )
    rules = [rule for row in json.loads(done.stdout) if (rule := _from_export(row))]
    if cache_dir is not None:
        _keep(cache_dir, rules)
    return rules


def _from_export(row: dict[str, Any]) -> Rule | None:
    """One exported rule, when its pattern compiles and the gate can find it."""
    rule_id, pattern = str(row["id"]), str(row["pattern"])
    if rule_id in _LEFT_OUT:
        return None
    literals = required_literals(pattern)
    if not literals or min(map(len, literals)) < _SHORTEST_LITERAL:
        return None  # our own table has these few (AKIA..., SK..., s.), with literals that the gate can use
    rule = Rule(rule_id.partition(".")[2] or rule_id, pattern, tuple(sorted(literals)))
    try:
        rule.regex()
    except re2.error:
        return None
    rule.compiled = None
    return rule


def _cache_file(cache_dir: Path) -> Path:
    return cache_dir / f"redaction-rules-{kingfisher_version()}-{OWN_VERSION}.json"


def _keep(cache_dir: Path, rules: list[Rule]) -> None:
    """Write the cache whole or not at all; a folder that can't be written only costs the next start half a second."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cache_dir, prefix=".rules-")
        with os.fdopen(handle, "w") as file:
            json.dump([(r.id, r.pattern, r.literals) for r in rules], file)
        Path(name).replace(_cache_file(cache_dir))
    except OSError:
        return
