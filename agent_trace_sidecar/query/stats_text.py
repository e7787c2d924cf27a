"""The answer of `stats` for people: a table; pure."""

from collections.abc import Iterator

import msgspec

from agent_trace_sidecar.query.stats import Group, Stats

_HEADS = ("written", "living", "changed", "lost", "tokens", "cost $", "$ per living line")


def as_json(stats: Stats) -> str:
    """One JSON object."""
    return msgspec.json.encode(stats).decode()


def as_text(stats: Stats) -> Iterator[str]:
    """Yield the lines of the table."""
    rows = [(stats.by, *_HEADS), *(_cells(one) for one in (*stats.groups, stats.total))]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADS) + 1)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
    whole = sum(stats.lines.values())
    authors = ", ".join(f"{count} {name}" for name, count in stats.lines.items() if count)
    yield f"\n{whole} lines in {stats.files} files: {authors or 'none'}"


def _cells(group: Group) -> tuple[str, ...]:
    return (
        "".join(char if char.isprintable() else "�" for char in group.name),
        str(group.written),
        str(group.living),
        str(group.changed),
        str(group.lost),
        "" if group.tokens is None else str(group.tokens),
        "" if group.cost is None else f"{group.cost:.4f}",
        "" if group.cost_per_living_line is None else f"{group.cost_per_living_line:.6f}",
    )
