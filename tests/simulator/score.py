"""What was stored, held against what is true."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.simulator.lines import Change, Tally, judged
from tests.simulator.play import Play, Unit
from tests.support.postgres import fetch

_RANGES = """
SELECT r.record #>> '{metadata,io.opencode.call_id}' AS call_id, g.path, g.start_line, g.end_line, g.method, g.model_id
FROM agent_trace_ranges g JOIN agent_trace_records r USING (record_id, recorded_at)
WHERE g.contributor = 'ai' AND g.method <> 'fallback'
"""


@dataclass
class Claims:
    """The lines that the stored ranges name, by call and path, counted from 0."""

    lines: dict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    methods: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def stored(cls, url: str) -> "Claims":
        """Read them; ranges of method `fallback` are guesses that nobody builds on, and are left out."""
        claims = cls()
        for row in fetch(url, _RANGES):
            key = (row["call_id"] or "", row["path"])
            claims.lines[key] |= set(range(row["start_line"] - 1, row["end_line"]))
            claims.methods[key].add(row["method"])
        return claims


@dataclass(frozen=True)
class Finding:
    """A unit whose ranges are not right, for a person to look at."""

    unit: Unit
    claimed: frozenset[int]
    methods: frozenset[str]
    tally: Tally

    def text(self) -> str:
        """In a few lines."""
        change = self.unit.change
        return (
            f"{self.unit.source} {self.unit.path} {'/'.join(self.unit.calls)} methods={sorted(self.methods)}\n"
            f"  wrong: {spans(self.claimed - change.added - change.optional)}"
            f"  missed: {spans(change.added - self.claimed - change.optional)}"
            f"  truth: {spans(change.added)} optional: {spans(change.optional)} claimed: {spans(self.claimed)}"
        )


def score_ranges(plays: Sequence[Play], claims: Claims) -> tuple[dict[str, Tally], list[Finding]]:
    """Precision and recall of the lines at the time of the edit, by source, and everything that was not right."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    findings: list[Finding] = []
    for play in plays:
        used: set[tuple[str, str]] = set()
        for unit in play.units:
            keys = [(call, unit.path) for call in unit.calls]
            claimed = frozenset(at for key in keys for at in claims.lines.get(key, ()))
            methods = frozenset(name for key in keys for name in claims.methods.get(key, ()))
            used.update(keys)
            _judge(unit, claimed, methods, tallies, findings)
        for key in claims.lines.keys() - used:
            if key[0] in play.calls:
                _judge_stray(key, play.calls[key[0]], claims, tallies, findings)
    ours = {call for play in plays for call in play.calls}
    for key in claims.lines:
        if key[0] not in ours:
            _judge_stray(key, "nobody's", claims, tallies, findings)
    return dict(tallies), findings


def _judge_stray(
    key: tuple[str, str], source: str, claims: Claims, tallies: dict[str, Tally], findings: list[Finding]
) -> None:
    """Lines of a file that the call did not touch."""
    unit = Unit((key[0],), key[1], Change((), (), frozenset()), source, "")
    _judge(unit, frozenset(claims.lines[key]), frozenset(claims.methods[key]), tallies, findings)


def _judge(
    unit: Unit,
    claimed: frozenset[int],
    methods: frozenset[str],
    tallies: dict[str, Tally],
    findings: list[Finding],
) -> None:
    tally = judged(unit.change, claimed)
    tallies[unit.source].add(tally)
    if tally.wrong or tally.missed:
        findings.append(Finding(unit, claimed, methods, tally))


def spans(numbers: Iterable[int]) -> str:
    """Positions as line numbers, joined up."""
    result: list[list[int]] = []
    for number in sorted(numbers):
        if result and number + 1 == result[-1][1] + 1:
            result[-1][1] = number + 1
        else:
            result.append([number + 1, number + 1])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in result) or "none"
