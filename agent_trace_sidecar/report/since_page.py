"""The page of a span of time, for a person who steers: what was written, what of it stands, what it cost; pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from agent_trace_sidecar.limits.text import counted
from agent_trace_sidecar.report.html import Html, address, el, join, money, priced
from agent_trace_sidecar.report.page import NO_LINKS, Links, Page, fact, facts, headline
from agent_trace_sidecar.report.plots import COLOURS, Figure, Series, TimePlot, bars, time_plot
from agent_trace_sidecar.report.since import Since

MAX_SERIES: Final = 6
"""Models with a colour of their own; the others are put together."""
MAX_BARS: Final = 15
"""Bars of a plot; the table beside it has the rest."""
_MAX_DAYS: Final = 400
_SHORT_DAYS: Final = 92
_TITLES: Final = (
    "Cost by day and model",
    "AI lines written by day and model",
    "AI lines surviving, by the day they were written",
    "Surviving AI lines by model (readable repositories)",
    "AI lines by repository",
    "Cost per 1,000 surviving lines, by model (readable repositories)",
    "Failed calls by tool",
    "Slowest tools",
    "Secrets masked, by rule",
)


def since_page(found: Since, until: datetime, links: Links = NO_LINKS) -> Page:
    """Make the page; nothing of it is a content."""
    plots: dict[str, TimePlot] = {}
    shown = (
        _spent(found, until, plots),
        _by_day(found, until, plots),
        _surviving(found, until, plots),
        _by_model(found),
        _by_repository(found, links),
        _cost(found),
        _failed(found),
        _slow(found),
        _secrets(found),
    )
    missing = [title for title, figure in zip(_TITLES, shown, strict=True) if figure is None]
    figures = [figure for figure in shown if figure is not None]
    if missing:
        figures.append(el("p", f"Nothing to show: {'; '.join(missing)}.", class_="quiet"))
    title = f"AI-written code since {found.since.day} {found.since:%B %Y}"
    notes = [*found.notes, *_unread(found)]
    return Page("since", title, _summary(found), join(figures), {"plots": plots}, notes)


def _summary(found: Since) -> tuple[Html, Html]:
    written = sum(row["lines"] for row in found.written.rows)
    calls, failed = (sum(row[name] for row in found.failed.rows) for name in ("calls", "failed"))
    more = facts(
        fact("Surviving", _survival(found)),
        fact("Cost per 1,000 surviving lines", _per_thousand(found)),
        fact("Calls", f"{calls:,}"),
        fact("Failed", f"{failed:,}" + (f" · {100 * failed / calls:.1f} %" if calls else "")),
        fact("Secrets masked", f"{sum(row['secrets'] for row in found.secrets.rows):,}"),
    )
    return headline(found.totals, f"{written:,}", "AI lines written"), more


def _survival(found: Since) -> str:
    """The surviving lines out of those that were written where it can be known, and where that is."""
    if not found.surviving.folders:
        return "unknown"
    living, written = found.surviving.lines.total(), sum(row["lines"] for row in found.written_there.rows)
    share = f" · {100 * living / written:.0f} %" if written else ""
    every = {row["project"] for row in found.repositories.rows}
    read = every & set(found.surviving.folders)
    where = f" in {len(read):,} of {counted(len(every), 'repository', 'repositories')}" if read < every else ""
    return f"{living:,} of {written:,}{share}{where}"


def _per_thousand(found: Since) -> str:
    living = found.surviving.lines.total()
    costs = [row["cost"] for row in found.costs.rows if row["cost"] is not None]
    if not living:
        return "unknown"
    unpriced = sum(row["unpriced_steps"] for row in found.costs.rows)
    return priced(1000 * sum(costs) / living if costs else None, unpriced)


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


def _ranking(found: Since) -> list[str]:
    """The models by what they cost and wrote: one has the same colour in every plot."""
    totals: dict[str, tuple[float, int]] = {}
    for rows, name in ((found.spent.rows, "cost"), (found.written.rows, "lines")):
        for row in rows:
            cost, lines = totals.get(row["model"], (0.0, 0))
            own = row[name] or 0
            totals[row["model"]] = (cost + own, lines) if name == "cost" else (cost, lines + own)
    return sorted(totals, key=lambda model: (*(-one for one in totals[model]), model))


def _by_series(
    values: Mapping[tuple[str, str], float], days: Sequence[str], models: Sequence[str], unit: str
) -> list[Series]:
    """Values by day and model: a series for each of the first models, and one of all others."""
    named = models if len(models) <= MAX_SERIES else models[: MAX_SERIES - 1]
    found = [
        Series(model, colour, unit, [float(values.get((day, model), 0)) for day in days])
        for model, colour in zip(named, COLOURS, strict=False)
    ]
    if others := models[len(named) :]:
        rest = [float(sum(values.get((day, one), 0) for one in others)) for day in days]
        found.append(Series(f"{len(others)} others", COLOURS[-1], unit, rest))
    return [one for one in found if any(one.values)]


def _plotted(name: str, days: Sequence[str], series: Sequence[Series], plots: dict[str, TimePlot]) -> Html | None:
    """A place for bars by day, and in `plots` what the script draws there; None where nothing is to be drawn."""
    if not series:
        return None
    sums = [sum(one.values[at] for one in series) for at in range(len(days))]
    if series[0].unit == "cost":
        total, most = money(sum(sums)), money(max(sums))
    else:
        total, most = counted(round(sum(sums)), "line"), f"{max(sums):,.0f}"
    at = [datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for day in days]
    plots[name] = TimePlot("bars", at, series)
    shown = {one.name: "quiet" if one.colour == "gone" else one.colour for one in series}
    return time_plot(name, f"Since {days[0]}: {total}, at most {most} a day.", shown)


def _spent(found: Since, until: datetime, plots: dict[str, TimePlot]) -> Html | None:
    known = [(row["day"].isoformat(), row["model"], row) for row in found.spent.rows]
    rows = [(day, model, f"{row['tokens']:,}", priced(row["cost"], row["unpriced_steps"])) for day, model, row in known]
    if not rows:
        return None
    days = _days(found, until, (day for day, _, _ in known))
    costs = {(day, model): row["cost"] or 0.0 for day, model, row in known}
    drawn = _plotted("spent", days, _by_series(costs, days, _ranking(found), "cost"), plots)
    return Figure(_TITLES[0], ("day", "model", "tokens", "cost"), rows, found.spent.sql, labels=2).html(drawn, "spent")


def _by_day(found: Since, until: datetime, plots: dict[str, TimePlot]) -> Html | None:
    lines = {(row["day"].isoformat(), row["model"]): row["lines"] for row in found.written.rows}
    rows = [(day, model, f"{count:,}") for (day, model), count in sorted(lines.items())]
    if not rows:
        return None
    days = _days(found, until, (day for day, _ in lines))
    drawn = _plotted("written", days, _by_series(lines, days, _ranking(found), "lines"), plots)
    return Figure(_TITLES[1], ("day", "model", "lines"), rows, found.written.sql, labels=2).html(drawn, "written")


def _surviving(found: Since, until: datetime, plots: dict[str, TimePlot]) -> Html | None:
    sql = f"{found.written_there.sql};\n-- surviving: agent-trace-sidecar stats --by day"
    written, living = _there(found)
    rows = [(day, model, f"{count:,}", f"{living[day, model]:,}") for (day, model), count in sorted(written.items())]
    if not rows:
        return None
    days = _days(found, until, (day for day, _ in written))
    stands = [float(sum(count for (own, _), count in living.items() if own == day)) for day in days]
    every = [sum(count for (own, _), count in written.items() if own == day) for day in days]
    gone = [max(0.0, one - two) for one, two in zip(every, stands, strict=True)]
    series = [Series("surviving", "s0", "lines", stands), Series("lost", "gone", "lines", gone)]
    drawn = _plotted("surviving", days, series, plots)
    heads = ("day", "model", "written", "surviving")
    return Figure(_TITLES[2], heads, rows, sql, _explained(found), labels=2).html(drawn, "surviving")


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


def _by_model(found: Since) -> Html | None:
    written, living = Counter[str](), Counter[str]()
    for counts, total in zip(_there(found), (written, living), strict=True):
        for (_, model), count in counts.items():
            total[model] += count
    rows = [(model, f"{count:,}", f"{living[model]:,}") for model, count in written.most_common()]
    drawn = [(model, (float(count), float(living[model]))) for model, count in written.most_common(MAX_BARS)]
    texts = [f"{row[1]} written, {row[2]} surviving" for row in rows[:MAX_BARS]]
    figure = Figure(
        _TITLES[3],
        ("model", "written", "surviving"),
        rows,
        f"{found.written_there.sql};\n-- surviving: agent-trace-sidecar stats --by model",
    )
    return figure.html(bars(drawn, texts, *_WRITTEN), "models") if rows else None


_WRITTEN: Final = (("written", "surviving"), ("quiet", "s0"))
"""Names and colours of the two."""


def _by_repository(found: Since, links: Links) -> Html | None:
    living = Counter[str]()
    for (_, _, project), count in found.surviving.lines.items():
        living[project] += count
    shown, values, rows = list[tuple[str, tuple[float, float]]](), list[str](), list[tuple[str, str, str]]()
    for row in found.repositories.rows:
        name = _name(found, row)
        is_known = row["project"] in found.surviving.folders
        said = f"{living[row['project']]:,}" if is_known else "unknown"
        href = links.repositories.get(row["project"])
        shown.append((el("a", name, href=href) if href else name, (float(row["lines"]), float(living[row["project"]]))))
        values.append(f"{row['lines']:,} written, {said} surviving" if is_known else f"{row['lines']:,} written")
        rows.append((name, f"{row['lines']:,}", said))
    figure = Figure(_TITLES[4], ("repository", "written", "surviving"), rows, found.repositories.sql)
    if not rows:
        return None
    return figure.html(bars(shown[:MAX_BARS], values[:MAX_BARS], *_WRITTEN), "repositories")


def _name(found: Since, row: Mapping[str, Any]) -> str:
    """What people call a project: its remote, or its folder, which in containers may be the same for many."""
    project = str(row["project"] or "unknown")
    folder = found.surviving.folders.get(project)
    if row["repository"]:
        return address(str(row["repository"]))
    return str(folder or f"{found.surviving.recorded.get(project, '')} {project[:8]}".strip())


def _cost(found: Since) -> Html | None:
    living = Counter[str]()
    for (_, model, _), count in found.surviving.lines.items():
        living[model] += count
    known = [(row["model"], row["cost"], row["unpriced_steps"], living[row["model"]]) for row in found.costs.rows]
    rows = [
        (
            model,
            priced(cost, unpriced),
            f"{count:,}",
            priced(1000 * cost / count if cost is not None else None, unpriced) if count else "none survive",
        )
        for model, cost, unpriced, count in known
    ]
    drawn = [(model, (1000 * cost / count if cost is not None and count else 0.0,)) for model, cost, _, count in known]
    figure = Figure(
        _TITLES[5],
        ("model", "cost", "surviving lines", "per 1,000 lines"),
        rows,
        found.costs.sql,
        "Total cost of the sessions in the readable repositories, whether they wrote lines or not, including lines "
        "that are lost.",
    )
    texts = [row[3] for row in rows[:MAX_BARS]]
    return figure.html(bars(drawn[:MAX_BARS], texts, ("cost",), ("s0",)), "cost") if rows else None


def _failed(found: Since) -> Html | None:
    known = [(row["tool"], row["calls"], row["failed"]) for row in found.failed.rows]
    share = {tool: 100 * failed / calls if calls else 0.0 for tool, calls, failed in known}
    rows = [(tool, f"{calls:,}", f"{failed:,}", f"{share[tool]:.1f} %") for tool, calls, failed in known]
    drawn = [(tool, (float(calls), float(failed))) for tool, calls, failed in known[:MAX_BARS]]
    texts = [f"{row[2]} of {row[1]} failed · {row[3]}" for row in rows[:MAX_BARS]]
    figure = Figure(_TITLES[6], ("tool", "calls", "failed", "share"), rows, found.failed.sql)
    return figure.html(bars(drawn, texts, ("calls", "failed"), ("quiet", "bad")), "failed") if rows else None


def _slow(found: Since) -> Html | None:
    known = [
        (row["tool"], row["calls"], row["mean_seconds"] or 0.0, row["max_seconds"] or 0.0) for row in found.slow.rows
    ]
    rows = [(tool, f"{calls:,}", _seconds(mean), _seconds(most)) for tool, calls, mean, most in known]
    drawn = [(tool, (mean,)) for tool, _, mean, _ in known[:MAX_BARS]]
    texts = [f"{row[2]} on average, at most {row[3]}" for row in rows[:MAX_BARS]]
    figure = Figure(_TITLES[7], ("tool", "calls", "on average", "at most"), rows, found.slow.sql)
    return figure.html(bars(drawn, texts, ("on average",), ("s0",)), "slow") if rows else None


def _secrets(found: Since) -> Html | None:
    known = [(row["rule"], row["secrets"], row["events"]) for row in found.secrets.rows]
    rows = [(rule, f"{secrets:,}", f"{events:,}") for rule, secrets, events in known]
    figure = Figure(
        _TITLES[8],
        ("rule", "secrets", "events"),
        rows,
        found.secrets.sql,
        "A secret that many events of a session repeat counts once. Secrets are not kept, so this is an estimate: of a "
        "session and rule, as many as the event with the most of them holds.",
    )
    drawn = [(rule, (float(secrets),)) for rule, secrets, _ in known[:MAX_BARS]]
    return (
        figure.html(bars(drawn, [row[1] for row in rows[:MAX_BARS]], ("secrets",), ("s0",)), "secrets")
        if rows
        else None
    )


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
