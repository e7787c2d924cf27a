"""The page of a span of time, for a person who steers: what was written, what of it stands, what it cost; pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

from agent_trace_sidecar.report.html import Html, join, priced
from agent_trace_sidecar.report.page import Page, fact, facts
from agent_trace_sidecar.report.plots import COLOURS, Figure, bars, day_bars
from agent_trace_sidecar.report.since import Since

MAX_SERIES: Final = 6
"""Models with a colour of their own; the others are put together."""
MAX_BARS: Final = 15
"""Bars of a plot; the table beside it has the rest."""
_MAX_DAYS: Final = 400
_SHORT_DAYS: Final = 92


def since_page(found: Since, until: datetime) -> Page:
    """Make the page; nothing of it is a content."""
    written = sum(row["lines"] for row in found.written.rows)
    living = found.surviving.lines.total()
    figures = [_by_day(found, until), _surviving(found, until), _by_model(found), _by_repository(found)]
    figures += [_cost(found), _failed(found), _slow(found), _secrets(found)]
    calls, failed = (sum(row[name] for row in found.failed.rows) for name in ("calls", "failed"))
    costs = [row["cost"] for row in found.costs.rows if row["cost"] is not None]
    unpriced = sum(row["unpriced_steps"] for row in found.costs.rows)
    per_line = sum(costs) / living if costs and living else None
    is_known = bool(found.surviving.folders)
    summary = facts(
        fact("AI lines written", f"{written:,}"),
        fact("Surviving", f"{living:,}" if is_known else "unknown"),
        fact("Cost per surviving line", priced(per_line, unpriced) if living else "unknown"),
        fact("Calls", f"{calls:,}"),
        fact("Failed", f"{failed:,}" + (f" · {100 * failed / calls:.1f} %" if calls else "")),
        fact("Secrets masked", f"{sum(int(row['masked'] or 0) for row in found.secrets.rows):,}"),
    )
    notes = [*found.notes, *_unread(found)]
    return Page(
        "since", f"AI-written code since {found.since.day} {found.since:%B %Y}", (summary,), join(figures), {}, notes
    )


def _unread(found: Since) -> Iterator[str]:
    rows = found.repositories.rows
    missing = [
        str(row["repository"] or row["project"][:12]) for row in rows if row["project"] not in found.surviving.folders
    ]
    if missing:
        names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")  # noqa: PLR2004
        yield (
            f"Surviving lines of {names} are unknown: this machine has no checkout at the recorded path. "
            "Name one with --repo."
        )


def _days(found: Since, until: datetime, own: Iterable[str]) -> list[str]:
    """The days of the span; of a long one those from the first that has something."""
    start = found.since.date()
    if (until.date() - start).days > _SHORT_DAYS:
        start = date.fromisoformat(min([*own, until.date().isoformat()]))
    start = max(start, until.date() - timedelta(days=_MAX_DAYS))
    return [(start + timedelta(days=at)).isoformat() for at in range((until.date() - start).days + 1)]


def _by_day(found: Since, until: datetime) -> Html:
    lines = Counter[tuple[str, str]]()
    for row in found.written.rows:
        lines[row["day"].isoformat(), row["model"]] += row["lines"]
    days = _days(found, until, (day for day, _ in lines))
    models = Counter[str]()
    for (_, model), count in lines.items():
        models[model] += count
    top = [model for model, _ in models.most_common(MAX_SERIES - 1)]
    others = [model for model in models if model not in top]
    series = {model: [lines[day, model] for day in days] for model in top}
    if others:
        series[f"{len(others)} others"] = [sum(lines[day, model] for model in others) for day in days]
    rows = [(day, model, f"{count:,}") for (day, model), count in sorted(lines.items())]
    figure = Figure("AI lines written by day and model", ("day", "model", "lines"), rows, found.written.sql, labels=2)
    return figure.html(day_bars(days, series, "lines", COLOURS) if rows else None, "written")


def _surviving(found: Since, until: datetime) -> Html:
    title = "AI lines surviving, by the day they were written"
    sql = f"{found.written_there.sql};\n-- surviving: agent-trace-sidecar stats --by day"
    written, living = _there(found)
    rows = [(day, model, f"{count:,}", f"{living[day, model]:,}") for (day, model), count in sorted(written.items())]
    figure = Figure(title, ("day", "model", "written", "surviving"), rows, sql, _explained(found), labels=2)
    if not rows:
        return figure.html(None, "surviving")
    days = _days(found, until, (day for day, _ in written))
    stands = [sum(count for (own, _), count in living.items() if own == day) for day in days]
    all_written = [sum(count for (own, _), count in written.items() if own == day) for day in days]
    gone = [max(0, one - two) for one, two in zip(all_written, stands, strict=True)]
    return figure.html(day_bars(days, {"surviving": stands, "lost": gone}, "lines", ("s0", "quiet")), "surviving")


def _there(found: Since) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Lines written and surviving in the repositories that could be read, by day and model."""
    written, living = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for row in found.written_there.rows:
        written[row["day"].isoformat(), row["model"]] += row["lines"]
    for (day, model, _), count in found.surviving.lines.items():
        living[day, model] += count
    return written, living


def _explained(found: Since) -> str:
    read = sorted(set(found.surviving.folders.values()))
    if not read:
        return "Unknown: no repository could be read. Name one with --repo."
    return (
        f"A line survives if blame finds it unchanged in the working tree of {', '.join(read)}. Lines that "
        "the AI rewrote count as written twice."
    )


def _by_model(found: Since) -> Html:
    written, living = Counter[str](), Counter[str]()
    for counts, total in zip(_there(found), (written, living), strict=True):
        for (_, model), count in counts.items():
            total[model] += count
    rows = [(model, f"{count:,}", f"{living[model]:,}") for model, count in written.most_common()]
    drawn = [(model, (float(count), float(living[model]))) for model, count in written.most_common(MAX_BARS)]
    texts = [f"{row[1]} written, {row[2]} surviving" for row in rows[:MAX_BARS]]
    figure = Figure(
        "Surviving AI lines by model (readable repositories)",
        ("model", "written", "surviving"),
        rows,
        f"{found.written_there.sql};\n-- surviving: agent-trace-sidecar stats --by model",
    )
    return figure.html(bars(drawn, texts, *_WRITTEN) if rows else None, "models")


_WRITTEN: Final = (("written", "surviving"), ("quiet", "s0"))
"""Names and colours of the two."""


def _by_repository(found: Since) -> Html:
    living = Counter[str]()
    for (_, _, project), count in found.surviving.lines.items():
        living[project] += count
    shown, values, rows = [], [], []
    for row in found.repositories.rows:
        name = _name(found, row)
        is_known = row["project"] in found.surviving.folders
        said = f"{living[row['project']]:,}" if is_known else "unknown"
        shown.append((name, (float(row["lines"]), float(living[row["project"]]))))
        values.append(f"{row['lines']:,} written, {said} surviving" if is_known else f"{row['lines']:,} written")
        rows.append((name, f"{row['lines']:,}", said))
    figure = Figure("AI lines by repository", ("repository", "written", "surviving"), rows, found.repositories.sql)
    plot = bars(shown[:MAX_BARS], values[:MAX_BARS], *_WRITTEN) if shown else None
    return figure.html(plot, "repositories")


def _name(found: Since, row: Mapping[str, Any]) -> str:
    """What people call a project: its remote, or its folder, which in containers may be the same for many."""
    project = str(row["project"] or "unknown")
    folder = found.surviving.folders.get(project)
    return str(row["repository"] or folder or f"{found.surviving.recorded.get(project, '')} {project[:8]}".strip())


def _cost(found: Since) -> Html:
    living = Counter[str]()
    for (_, model, _), count in found.surviving.lines.items():
        living[model] += count
    known = [(row["model"], row["cost"], row["unpriced_steps"], living[row["model"]]) for row in found.costs.rows]
    rows = [
        (
            model,
            priced(cost, unpriced),
            f"{count:,}",
            priced(cost / count if cost is not None else None, unpriced) if count else "none survive",
        )
        for model, cost, unpriced, count in known
    ]
    drawn = [(model, (cost / count if cost is not None and count else 0.0,)) for model, cost, _, count in known]
    figure = Figure(
        "Cost per surviving line, by model",
        ("model", "cost", "surviving lines", "per line"),
        rows,
        found.costs.sql,
        "Total cost of the sessions in the readable repositories, whether they wrote lines or not, including lines "
        "that are lost.",
    )
    texts = [row[3] for row in rows[:MAX_BARS]]
    return figure.html(bars(drawn[:MAX_BARS], texts, ("cost",), ("s0",)) if rows else None, "cost")


def _failed(found: Since) -> Html:
    known = [(row["tool"], row["calls"], row["failed"]) for row in found.failed.rows]
    share = {tool: 100 * failed / calls if calls else 0.0 for tool, calls, failed in known}
    rows = [(tool, f"{calls:,}", f"{failed:,}", f"{share[tool]:.1f} %") for tool, calls, failed in known]
    drawn = [(tool, (float(calls), float(failed))) for tool, calls, failed in known[:MAX_BARS]]
    texts = [f"{row[2]} of {row[1]} failed · {row[3]}" for row in rows[:MAX_BARS]]
    figure = Figure("Failed calls by tool", ("tool", "calls", "failed", "share"), rows, found.failed.sql)
    return figure.html(bars(drawn, texts, ("calls", "failed"), ("quiet", "bad")) if rows else None, "failed")


def _slow(found: Since) -> Html:
    known = [
        (row["tool"], row["calls"], row["mean_seconds"] or 0.0, row["max_seconds"] or 0.0) for row in found.slow.rows
    ]
    rows = [(tool, f"{calls:,}", _seconds(mean), _seconds(most)) for tool, calls, mean, most in known]
    drawn = [(tool, (mean,)) for tool, _, mean, _ in known[:MAX_BARS]]
    texts = [f"{row[2]} on average, at most {row[3]}" for row in rows[:MAX_BARS]]
    figure = Figure("Slowest tools", ("tool", "calls", "on average", "at most"), rows, found.slow.sql)
    return figure.html(bars(drawn, texts, ("on average",), ("s0",)) if rows else None, "slow")


def _secrets(found: Since) -> Html:
    known = [(row["rule"], int(row["masked"] or 0)) for row in found.secrets.rows]
    rows = [(rule, f"{count:,}") for rule, count in known]
    figure = Figure("Secrets masked, by rule", ("rule", "masked"), rows, found.secrets.sql)
    drawn = [(rule, (float(count),)) for rule, count in known[:MAX_BARS]]
    return figure.html(
        bars(drawn, [row[1] for row in rows[:MAX_BARS]], ("masked",), ("s0",)) if rows else None, "secrets"
    )


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
