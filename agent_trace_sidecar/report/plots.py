"""Plots as inline SVG, without a style attribute or a script; each has a name, and its numbers stand in a table."""

from collections.abc import Mapping
from typing import Final

from agent_trace_sidecar.report.html import Html, el

_AUTHORS: Final = ("ai", "mixed", "human", "unknown")


def share_bar(counts: Mapping[str, int], name: str) -> Html:
    """One bar of the shares of the four kinds of author."""
    total = sum(counts.values())
    parts, x = [], 0.0
    for who in _AUTHORS:
        width = 100 * counts.get(who, 0) / total if total else 0
        if width:
            parts.append(el("rect", x=_short(x), y=0, width=_short(width), height=8, class_=f"fill-{who}"))
        x += width
    said = ", ".join(f"{counts.get(who, 0)} {who}" for who in _AUTHORS if counts.get(who))
    return el(
        "svg",
        *parts,
        class_="shares",
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{name}: {said or 'no lines'}",
    )


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
