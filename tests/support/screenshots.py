"""Draws the pictures of the README: python -m tests.support.screenshots [FOLDER]. Takes about two minutes.

The sessions are real ones of an OpenCode with a scripted model; for the page of a month they are then spread over it.
"""

import sys
from pathlib import Path
from typing import Final

from tests.support.chromium import Browser, chromium
from tests.support.opencode import ROOT
from tests.support.postgres import execute, fetch, open_servers
from tests.support.showcase import Showcase, showcase

FOLDER: Final = ROOT / "tests" / "data" / "screenshots"
_DAYS_BETWEEN: Final = 4
_TABLES: Final = ("agent_trace_records", "agent_trace_ranges", "agent_trace_file_states")
_OF_EVENTS: Final = {
    "agent_trace_events": "occurred_at",
    "agent_trace_usage": "finished_at",
    "agent_trace_ended_calls": "finished_at",
    "agent_trace_masked": "occurred_at",
}


def main(folder: Path) -> None:
    """Record, make the pages, and draw each of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_servers() as servers, servers.database(migrated=True) as url, showcase(url) as shown:
        shown.work()
        shown.more()
        execute(url, "UPDATE agent_trace_sources SET os_user = 'anna', host = 'laptop' WHERE kind = 'instance'")
        query = "SELECT session_id FROM agent_trace_sessions WHERE parent_session_id IS NULL ORDER BY started_at"
        sessions = [row["session_id"] for row in fetch(url, query)]
        with chromium() as browser:
            there = "location.hash = '#shop%2Fprices.py:42'; setTimeout(() => scrollTo(0, 0), 50)"
            draw(browser, made(shown, "--repo", "."), folder / "repository.png", there, height=1060)
            session = made(shown, "--session", sessions[0])
            opened = "document.querySelectorAll('.item.changed summary.head')[1].click()"
            draw(browser, session, folder / "session.png", opened, height=1150, dark=True)
            spread(url, sessions)
            draw(browser, made(shown, "--since", "30d"), folder / "since.png", "0")
            site = shown.oc.folder / "site"
            done = shown.command("report", "--site", str(site))
            assert done.returncode == 0, done.stderr
            draw(browser, site / "index.html", folder / "site.png", "0", height=700)
    for picture in sorted(folder.glob("*.png")):
        print(f"{picture.relative_to(ROOT)}  {picture.stat().st_size >> 10} KiB")


def made(shown: Showcase, *options: str) -> Path:
    """Make a page."""
    done = shown.command("report", *options, "--output", str(shown.oc.folder / "page.html"))
    assert done.returncode == 0, done.stderr
    return shown.oc.folder / "page.html"


def draw(browser: Browser, file: Path, target: Path, script: str, *, height: int = 880, dark: bool = False) -> None:
    """Open a page, do something there, and draw it."""
    with browser.open(file, width=1280, height=height, dark=dark) as page:
        page.evaluate(f"{script}; new Promise(done => setTimeout(done, 200))")
        page.screenshot(target)


def spread(url: str, sessions: list[str]) -> None:
    """Move the sessions apart, the last one stays today."""
    for at, name in enumerate(reversed(sessions)):
        back = f"interval '{at * _DAYS_BETWEEN} days'"
        own = f"SELECT record_id FROM agent_trace_records WHERE session_id IN ({family(name)})"
        records = ", ".join(f"'{row['record_id']}'" for row in fetch(url, own)) or "NULL"
        for table in _TABLES:
            execute(url, f"UPDATE {table} SET recorded_at = recorded_at - {back} WHERE record_id IN ({records})")
        ids = ", ".join(f"'{row['session_id']}'" for row in fetch(url, family(name)))
        for table, time in _OF_EVENTS.items():
            execute(url, f"UPDATE {table} SET {time} = {time} - {back} WHERE session_id IN ({ids})")


def family(name: str) -> str:
    """A session and its subagents', as a condition."""
    parent = "payload #>> '{input,event,properties,info,parentID}'"
    return (
        f"SELECT '{name}' AS session_id UNION SELECT session_id FROM agent_trace_events "
        f"WHERE event_name = 'session.created' AND {parent} = '{name}'"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
