"""What git itself wrote into the worktree while a step ran: checkout, pull, rebase, stash and the like.

Such lines are nobody's work of this step. They are told by two signs together: something rewrote the worktree (the
log of HEAD has grown by such an entry, whoever made it, or a call's command names such a subcommand), and the lines
stand in a version of the file that git knows and the file did not have before: of the commits in those entries, of
where HEAD and the stash stood before the step, or of a revision that the command names. A commit that the step itself
made is no such version.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from agent_trace_sidecar.content import text_lines
from agent_trace_sidecar.workspace import git
from agent_trace_sidecar.workspace.revision import Revisions, common_dir, git_dir, read_small
from agent_trace_sidecar.workspace.snapshot import TreeChange
from agent_trace_sidecar.workspace.steps import Heads, Step

TIMEOUT_S: Final = 1.0
MAX_BYTES: Final = 16 * 1024 * 1024
MAX_QUERIES: Final = 5000
_MAX_LOG_BYTES: Final = 256 * 1024
_MAX_REVISIONS: Final = 16

_COMMAND: Final = re.compile(
    r"\bgit\b[^\n;&|]*?\b(?:checkout|switch|restore|reset|stash|pull|merge|rebase|cherry-pick|revert|am|clean|bisect)\b"
    r"([^\n;&|]*)"
)
_ENTRY: Final = re.compile(
    r"([0-9a-f]{40,64}) ([0-9a-f]{40,64}) [^\t\n]*\t"
    r"(checkout|switch|reset|pull|merge|rebase|cherry-pick|revert|am|commit)\b"
)
_REVISION: Final = re.compile(r"[A-Za-z0-9_][\w./@{}~^-]{0,200}")
_MARKERS: Final = (b"<<<<<<< ", b"=======", b">>>>>>> ", b"||||||| ")


class Rewrites:
    """Looks into the user's repository, only where a step calls for it."""

    def __init__(self, revisions: Revisions) -> None:
        """`revisions` reads where HEAD stands."""
        self._revisions = revisions

    def heads(self, root: Path) -> Heads | None:
        """Where the repository stands now; None where there is no git repository."""
        try:
            own, common = git_dir(root), common_dir(root)
            if own is None or common is None:
                return None
            known = self._revisions.of(root)
            log = own / "logs" / "HEAD"
            size = log.stat().st_size if log.is_file() else 0
            return Heads(known.revision if known else "", read_small(common / "refs" / "stash"), size)
        except (OSError, ValueError):
            return None

    def brought(self, step: Step, changes: Sequence[TreeChange]) -> dict[str, frozenset[bytes]]:
        """The lines that git may have brought into each changed file; a file it took away has its old lines here."""
        root = Path(step.root)
        try:
            own = git_dir(root)
            log = _grown(own / "logs" / "HEAD", step.heads.log_size) if own and step.heads else ""
        except (OSError, ValueError):
            return {}
        asked = [found[1] for call in step.calls.values() if call.silent for found in _COMMAND.finditer(call.command)]
        entries = [found for found in _ENTRY.finditer(log) if found[1] != found[2]]
        if own is None or step.heads is None or not (asked or any(found[3] != "commit" for found in entries)):
            return {}
        return _lines(own, list(_revisions(step.heads, entries, asked)), changes)


def _grown(log: Path, size: int) -> str:
    """What was appended to the log of HEAD."""
    try:
        with log.open("rb") as file:
            file.seek(size)
            return file.read(_MAX_LOG_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""


def _revisions(heads: Heads, entries: Iterable[re.Match[str]], asked: Iterable[str]) -> Iterator[str]:
    """Where versions may have come from, each once."""
    known = list(entries)
    own = {found[2] for found in known if found[3] == "commit"}
    named = [found[at] for found in known if found[3] != "commit" for at in (2, 1)]
    named += [heads.head, heads.stash, f"{heads.stash}^3" if heads.stash else ""]
    named += [word for words in asked for word in words.split() if _REVISION.fullmatch(word)]
    fresh = dict.fromkeys(name for name in named if name and name.strip("0") and name not in own)
    yield from list(fresh)[:_MAX_REVISIONS]


def _lines(own: Path, revisions: Sequence[str], changes: Sequence[TreeChange]) -> dict[str, frozenset[bytes]]:
    """What is known of each file's other versions; a file that is gone from HEAD as well was taken away by git."""
    queries = [
        (change, f"{revision}:{change.path}")
        for change in changes
        if "\n" not in change.path
        for revision in (revisions if change.status != "D" else ("HEAD",))
    ]
    given = "".join(f"{query}\n" for _, query in queries).encode()
    output = (
        git.run(own, "cat-file", "--batch", given=given, timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES)
        if 0 < len(queries) <= MAX_QUERIES
        else None
    )
    found: dict[str, set[bytes]] = {}
    stays: set[str] = set()
    if output is None:  # not known: then nothing of it is anyone's
        return {change.path: frozenset(change.after or change.before or ()) for change in changes}
    for (change, _), (blob, content) in zip(queries, _blobs(output), strict=False):
        if blob and blob != change.old_id and change.status != "D":
            lines = text_lines(content)
            both = {*lines, *(line + b"\r" for line in lines)} if b"\r\n" not in content else lines
            found.setdefault(change.path, set()).update(both)
            found[change.path].update(line for line in change.after or () if line.startswith(_MARKERS))
        if blob and change.status == "D":
            stays.add(change.path)
    for change in changes:
        if change.status == "D" and change.path not in stays:
            found[change.path] = {b"", *(change.before or ())}
    return {path: frozenset(lines) for path, lines in found.items()}


def _blobs(output: bytes) -> Iterator[tuple[str, bytes]]:
    """The answers of `git cat-file --batch`; an empty id where there is no such file."""
    at = 0
    while at < len(output):
        end = output.index(b"\n", at)
        words = output[at:end].split(b" ")
        at = end + 1
        if len(words) == 3 and words[2].isdigit():  # noqa: PLR2004 - id, type, size
            size = int(words[2])
            yield (words[0].decode() if words[1] == b"blob" else ""), output[at : at + size]
            at += size + 1
        else:
            yield "", b""
