"""The figures as a table for people and as JSON."""

from collections.abc import Mapping
from typing import Any

from tests.simulator.blamed import BlameScore
from tests.simulator.lines import AI, HUMAN, MIXED, Tally

_HEAD = f"{'source':<14}{'lines':>8}{'right':>8}{'wrong':>7}{'missed':>8}{'precision':>12}{'recall':>12}{'unknown':>12}"


def total(tallies: Mapping[str, Tally]) -> Tally:
    """All of them together."""
    result = Tally()
    for tally in tallies.values():
        result.add(tally)
    return result


def table(title: str, tallies: Mapping[str, Tally]) -> str:
    """One row for each source, and one for all."""
    rows = [_row(name, tallies[name]) for name in sorted(tallies)]
    return "\n".join([title, _HEAD, *rows, _row("all", total(tallies))])


def blame_table(score: BlameScore) -> str:
    """The lines of models by what wrote them, then all lines by author."""
    parts = [table("Blame at the end: lines of models", score.by_source)]
    parts.append("\nBlame at the end: by author\n" + _HEAD)
    parts += [_row(name, score.by_author[name]) for name in (AI, MIXED, HUMAN)]
    undecided = percent(score.undecided / max(1, score.lines.total()))
    parts.append(f"lines with more than one right answer: {undecided}; with the wrong model: {score.wrong_model}")
    return "\n".join(parts)


def as_json(ranges: Mapping[str, Tally], score: BlameScore) -> dict[str, Any]:
    """Everything, to be compared by machines."""
    blame = {
        "by_source": _figures(score.by_source),
        "by_author": _figures(score.by_author),
        "lines": dict(score.lines),
        "undecided": score.undecided,
        "wrong_model": score.wrong_model,
    }
    return {"ranges": _figures(ranges), "blame": blame}


def _figures(tallies: Mapping[str, Tally]) -> dict[str, dict[str, float | None]]:
    named = {**tallies, "all": total(tallies)}
    return {
        name: {
            "right": tally.right,
            "wrong": tally.wrong,
            "missed": tally.missed,
            "unknown": tally.unknown,
            "precision": tally.precision,
            "recall": tally.recall,
        }
        for name, tally in named.items()
    }


def _row(name: str, tally: Tally) -> str:
    counts = f"{tally.right + tally.missed:>8}{tally.right:>8}{tally.wrong:>7}{tally.missed:>8}"
    shares = (tally.precision, tally.recall, tally.unknown_share)
    return f"{name:<14}{counts}" + "".join(f"{percent(share):>12}" for share in shares)


def percent(share: float | None) -> str:
    """A share to two digits; a dash where there was nothing."""
    return "-" if share is None else f"{100 * share:.2f} %"
