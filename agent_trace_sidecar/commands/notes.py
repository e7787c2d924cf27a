"""`notes`: who wrote the lines of commits, as git notes that travel with the repository; written only on request.

A note is the Agent Trace record of the lines that its commit adds, as one line of JSON under `refs/notes/agent-trace`:
git concatenates the notes of commits that a rebase joins, which gives JSON lines. Notes of other tools are kept.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg

from agent_trace_sidecar import __version__
from agent_trace_sidecar.blame.range_authors import added_between, record_for
from agent_trace_sidecar.blame.range_records import TOOL
from agent_trace_sidecar.commands.common import PROGRAM, CommandError, UsageError
from agent_trace_sidecar.commands.database import with_database
from agent_trace_sidecar.commands.output import say, say_json
from agent_trace_sidecar.config import Config
from agent_trace_sidecar.limits import processes
from agent_trace_sidecar.limits.text import counted
from agent_trace_sidecar.records.trace import TraceError, TraceRecord, encode, parse_record
from agent_trace_sidecar.workspace.checkout import NOTES_REF, Checkout, CheckoutError, checkout_of

_FETCHED: Final = "refs/notes/agent-trace-fetched"
_TRANSPORT: Final = ("GIT_SSH*", "GIT_ASKPASS", "SSH_*", "DISPLAY", "WAYLAND_DISPLAY", "GPG_TTY", "*_proxy", "*_PROXY")
"""What git may need to reach a remote in the user's name."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which commits."""
    parser.add_argument(
        "action",
        choices=["push", "show"],
        help="push: write notes and push them; show: print notes as JSON lines",
    )
    parser.add_argument(
        "range", metavar="A..B", nargs="?", help="the commits; show also takes one revision (default: HEAD)"
    )
    parser.add_argument("--remote", metavar="NAME", default="origin", help="where to push to (default: %(default)s)")
    parser.add_argument("--local", action="store_true", help="with push: write the notes, and push nothing")


def run(config: Config, given: argparse.Namespace) -> int:
    """Write and push notes, or print them."""
    checkout = checkout_of(Path.cwd() / "x")
    try:
        if given.action == "show":
            return _show(checkout, given.range or "HEAD")
        if given.range is None:
            raise UsageError("push needs the commits: A..B or A...B, e.g. main...HEAD.")
        return _push(config, checkout, given)
    except CheckoutError as exc:
        raise CommandError(str(exc)) from None


def _show(checkout: Checkout, wanted: str) -> int:
    commits = checkout.commits_between(*checkout.ends(wanted)) if ".." in wanted else [checkout.commit(wanted)]
    kept = checkout.notes()
    lines = [line for one in commits if one in kept for line in _lines(checkout, kept[one])]
    if not lines:
        raise CommandError(
            f"no note at {wanted}: `{PROGRAM} notes push A..B` writes notes, and "
            f"`git fetch origin {NOTES_REF}:{NOTES_REF}` fetches them."
        )
    for line in lines:
        say_json(line)
    return 0


def _lines(checkout: Checkout, note: str) -> Iterator[str]:
    return filter(str.strip, checkout.note(note).decode(errors="replace").split("\n"))


def _push(config: Config, checkout: Checkout, given: argparse.Namespace) -> int:
    commits = checkout.commits_between(*checkout.ends(given.range))

    async def work(connection: asyncpg.Connection) -> list[TraceRecord]:
        added = (added_between(checkout, checkout.parent(one), one) for one in commits)
        return [await record_for(connection, checkout, one, __version__) for one in added]

    written = 0
    for commit, record in zip(commits, with_database(config, work), strict=True):
        written += _write(checkout, commit, record)
    say(f"{counted(written, 'note')} written to {NOTES_REF}, of {counted(len(commits), 'commit')} without merges")
    if not written:
        return 0
    checkout.keep_notes()
    if not given.local:
        _send(checkout, given.remote)
        say(f"{NOTES_REF} pushed to {given.remote}")
    return 0


def _write(checkout: Checkout, commit: str, record: TraceRecord) -> bool:
    """Put a record into the commit's note, in the place of an earlier one of ours; one without lines is not written."""
    if not record.files:
        return False
    note = checkout.notes().get(commit)
    others = [line for line in _lines(checkout, note) if not _is_own(line)] if note else []
    checkout.write_note(commit, "\n".join([*others, encode(record), ""]).encode())
    return True


def _is_own(line: str) -> bool:
    try:
        tool = parse_record(line).tool
    except TraceError:
        return False
    return tool is not None and tool.name == TOOL


def _send(checkout: Checkout, remote: str) -> None:
    """Push the notes; where the remote has others, take them in first.

    Raises:
        CommandError: the remote does not take them.
    """
    if _git("push", "--quiet", "--no-verify", "--", remote, NOTES_REF) == 0:
        return
    if _git("fetch", "--quiet", "--no-tags", "--", remote, f"+{NOTES_REF}:{_FETCHED}") == 0:
        checkout.merge_notes(_FETCHED)
        if _git("push", "--quiet", "--no-verify", "--", remote, NOTES_REF) == 0:
            return
    raise CommandError(f"the notes are written here, but not pushed: git can't push {NOTES_REF} to {remote}.")


def _git(*words: str) -> int:
    """The user's own git, with the user's settings and transports: it may prompt for a password."""
    program = processes.find("git")
    if program is None:
        raise CommandError("git is not on PATH.")
    return processes.interact([program, *words], env=processes.environment(*_TRANSPORT))
