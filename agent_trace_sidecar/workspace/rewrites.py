"""What git itself wrote into the worktree while a step ran: checkout, pull, rebase, stash and the like.

Such lines are not the work of this step. They are recognised by two signs together: something rewrote the worktree (the
log of HEAD has grown by such an entry, or a call's command names such a subcommand), and the lines
stand in a version of the file that git knows and the file did not have before: of the commits in those entries, of
where HEAD and the stash stood before the step, or of a revision that the command names. A commit that the step itself
made is no such version.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from agent_trace_sidecar.limits.files import read_part, read_small
from agent_trace_sidecar.records.content import text_lines
from agent_trace_sidecar.workspace import git
from agent_trace_sidecar.workspace.revision import Revisions, common_dir, git_dir
from agent_trace_sidecar.workspace.snapshot import TreeChange
from agent_trace_sidecar.workspace.steps import SLACK_MS, Heads, Step

TIMEOUT_S: Final = 4.0
MAX_BYTES: Final = 16 * 1024 * 1024
MAX_QUERIES: Final = 5000
_MAX_LOG_BYTES: Final = 256 * 1024
_MAX_REVISIONS: Final = 16
_MAX_NAMED: Final = 300
"""Files at revisions that the words of commands may mean."""

_SEPARATOR: Final = re.compile(r"[\n;&|]")
_SUBCOMMAND: Final = re.compile(
    r"\b(?:checkout|switch|restore|reset|stash|pull|merge|rebase|cherry-pick|revert|am|clean|bisect)\b"
)
_GIT: Final = re.compile(r"\bgit\b")
_ENTRY: Final = re.compile(
    r"([0-9a-f]{40,64}) ([0-9a-f]{40,64}) [^\t\n]*\t"
    r"(checkout|switch|reset|pull|merge|rebase|cherry-pick|revert|am|commit)\b"
)
LOG_ENTRY: Final = re.compile(rb"(?m)^([0-9a-f]{40,64}) ([0-9a-f]{40,64}) [^\n]*> (\d{1,12}) [+-]\d{4}\t")
"""An entry of the log of HEAD: where it stood before and after, and when that was, in seconds since the epoch."""
_TAKES_NEW_FILES: Final = re.compile(r"\b(?:stash|reset|clean)\b")
_REVISION: Final = re.compile(r"[A-Za-z0-9_][\w./@{}~^-]{0,200}")
_MARKERS: Final = (b"<<<<<<< ", b"=======", b">>>>>>> ", b"||||||| ")


class Rewrites:
    """Reads the user's repository, only where a step requires it."""

    def __init__(self, revisions: Revisions) -> None:
        """`revisions` reads where HEAD stands."""
        self._revisions = revisions

    def heads(self, root: Path, began_ms: float) -> Heads | None:
        """Where the repository stood when a step began, which may be a while ago; None where there is none of git."""
        try:
            own, common = git_dir(root), common_dir(root)
            if own is None or common is None:
                return None
            known = self._revisions.of(root)
            log = own / "logs" / "HEAD"
            status = log.stat() if log.is_file() else None
            stash = read_small(common / "refs" / "stash")
            now = Heads(known.revision if known else "", stash, status.st_size if status else 0)
            late = status is not None and status.st_mtime_ns / 1e6 >= began_ms - SLACK_MS
            return _before(log, now, began_ms) if late else now
        except (OSError, ValueError):
            return None

    def brought(self, step: Step, changes: Sequence[TreeChange]) -> dict[str, frozenset[bytes]]:
        """The lines that git may have brought into each changed file; a file it took away has its old lines here."""
        own, log = _log_of(step)
        commands = [words for call in step.calls.values() if call.silent for words in _git_commands(call.command)]
        entries = [found for found in _ENTRY.finditer(log) if found[1] != found[2]]
        if own is None or step.heads is None or not (commands or any(found[3] != "commit" for found in entries)):
            return {}
        return _lines(own, _sources(step.heads, entries, commands), changes)

    def tracked(self, step: Step, paths: Sequence[str]) -> set[str]:
        """Those of some files that the last commit before the step has."""
        try:
            own = git_dir(Path(step.root))
        except (OSError, ValueError):
            return set()
        if own is None or step.heads is None or not step.heads.head:
            return set()
        named = [path for path in paths if "\n" not in path]
        given = "".join(f"{step.heads.head}:{path}\n" for path in named).encode(errors="surrogateescape")
        output = git.run(own, "cat-file", "--batch-check", given=given, timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES)
        answers = output.split(b"\n") if output is not None else []
        return {path for path, answer in zip(named, answers, strict=False) if answer.split()[1:2] == [b"blob"]}

    def named(self, step: Step) -> list[tuple[str, list[bytes]]]:
        """Contents that commands name by a revision and a path, as in `git show REV:PATH`, but for those made here.

        By their ids.
        """
        own, log = _log_of(step)
        commands = [call.command for call in step.calls.values() if call.silent and _GIT.search(call.command)]
        queries = list(dict.fromkeys(query for command in commands for query in _queries(command)))[:_MAX_NAMED]
        if own is None or not queries:
            return []
        made = [found[2] for found in _ENTRY.finditer(log) if found[3] == "commit"][-_MAX_REVISIONS:]
        paths = dict.fromkeys(query.partition(":")[2] for query in queries)
        new = [f"{revision}:{path}" for revision in made for path in paths]
        blobs = list(_contents(own, (*new, *queries)))
        own_work = {blob for blob, _ in blobs[: len(new)]}
        known = {blob: text_lines(data) for blob, data in blobs[len(new) :] if blob and blob not in own_work}
        return list(known.items())

    def versions(self, step: Step, changes: Sequence[TreeChange]) -> dict[str, list[list[bytes]]]:
        """Contents that git has of changed files, by `TreeChange.key`: of the last commits, and of those named."""
        own, log = _log_of(step)
        mine = [change for change in changes if "\n" not in change.path and (not change.place or change.place.is_own)]
        if own is None or step.heads is None or not step.heads.head or not mine:
            return {}
        commands = [call.command for call in step.calls.values() if call.silent and _GIT.search(call.command)]
        back = [f"{step.heads.head}~{at}" for at in range(1, _MAX_REVISIONS)] if commands else []
        named = [word.partition(":")[0] for words in commands for word in words.split() if _REVISION.match(word)]
        made = [found[2] for found in _ENTRY.finditer(log) if found[3] == "commit"][-_MAX_REVISIONS:]
        revisions = [*made, step.heads.head, *back, *dict.fromkeys(named[:_MAX_REVISIONS])]
        queries = [f"{revision}:{change.path}" for change in mine for revision in revisions]
        if len(queries) > MAX_QUERIES:
            return {}
        answers = _contents(own, queries)
        found: dict[str, list[list[bytes]]] = {}
        for change in mine:
            blobs = [next(answers, ("", b"")) for _ in revisions]
            own_work = {blob for blob, _ in blobs[: len(made)]}
            found[change.key] = [
                text_lines(data) for blob, data in dict(blobs).items() if blob and blob not in own_work
            ]
        return found


def _git_commands(command: str) -> Iterator[str]:
    """The parts of a command line that call git with a subcommand that writes files, from `git` on.

    One search for each sign in each part: a pattern over both would take quadratic time for `git git git ...`.
    """
    for part in _SEPARATOR.split(command):
        found = _GIT.search(part)
        if found and _SUBCOMMAND.search(part, found.end()):
            yield part[found.start() :]


def _queries(command: str) -> Iterator[str]:
    """What `git cat-file` may know of the words of a command: a revision and a path, together or apart."""
    words = [word.strip("'\"").removesuffix(")") for word in command.split()]
    pairs = [word.partition(":") for word in words if _REVISION.match(word)]
    yield from (f"{revision}:{path.removeprefix('./')}" for revision, colon, path in pairs if colon and path)
    revisions = [revision for revision, colon, _ in pairs if not colon and _REVISION.fullmatch(revision)]
    paths = [word.removeprefix("./") for word in words if "." in word and ":" not in word]
    yield from (f"{one}:{path}" for one in revisions[:_MAX_REVISIONS] for path in paths[:_MAX_REVISIONS])


def _log_of(step: Step) -> tuple[Path | None, str]:
    """The folder of git, if there is one, and what was appended to the log of HEAD during the step."""
    try:
        own = git_dir(Path(step.root))
        return own, _grown(own / "logs" / "HEAD", step.heads) if own and step.heads else ""
    except (OSError, ValueError):
        return None, ""


def _before(log: Path, now: Heads, began_ms: float) -> Heads:
    """Where the repository stood before what the log of HEAD has of a step; git records whole seconds."""
    start = max(0, now.log_size - _MAX_LOG_BYTES)
    for found in LOG_ENTRY.finditer(read_part(log, now.log_size - start, offset=start)):
        if int(found[3]) * 1000 > began_ms - 1000:
            return Heads(found[1].decode() if found[1].strip(b"0") else "", now.stash, start + found.start())
    return now


def _contents(own: Path, queries: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """What git has at revisions and paths, in order, see `git.blobs`; nothing where it fails."""
    given = "".join(f"{query}\n" for query in queries).encode(errors="surrogateescape")
    output = git.run(own, "cat-file", "--batch", given=given, timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES)
    return git.blobs(output) if output is not None else iter(())


def _grown(log: Path, heads: Heads) -> str:
    """What was appended to the log of HEAD during the step."""
    room = _MAX_LOG_BYTES if heads.log_end is None else min(_MAX_LOG_BYTES, heads.log_end - heads.log_size)
    return read_part(log, room, offset=heads.log_size).decode(errors="replace") if room > 0 else ""


class _Sources(NamedTuple):
    """Revisions by their use as evidence."""

    brought: list[str]
    """Git may have brought a file's lines from these."""
    removed: list[str]
    """Git may have taken a file away that these don't have."""
    own: list[str]
    """Commits that the step itself made."""
    named: frozenset[str]
    """Revisions that stand in commands."""
    passed: frozenset[str]
    """Commits at which HEAD has stood during the step."""


def _sources(heads: Heads, entries: Iterable[re.Match[str]], commands: Sequence[str]) -> _Sources:
    known = list(entries)
    own = [found[2] for found in known if found[3] == "commit"]
    moved = [found[2] for found in known if found[3] != "commit"]
    named = [word for words in commands for word in words.split()[1:] if _REVISION.fullmatch(word)]
    back = [heads.head] if any(_TAKES_NEW_FILES.search(words) for words in commands) else []
    left = [found[1] for found in known if found[3] != "commit"]
    untracked = [f"{heads.stash}^3"] if heads.stash else []
    brought = [*moved, *left, heads.head, heads.stash, *untracked, *named]
    removed = [*moved, *back, heads.stash, *named]
    passed = frozenset((*own, *moved))
    return _Sources(_fresh(brought, own), _fresh(removed, own), own[-_MAX_REVISIONS:], frozenset(named), passed)


def _fresh(names: Iterable[str], own: Sequence[str]) -> list[str]:
    made = frozenset(own)
    return list(dict.fromkeys(name for name in names if name.strip("0") and name not in made))[:_MAX_REVISIONS]


def _lines(folder: Path, sources: _Sources, changes: Sequence[TreeChange]) -> dict[str, frozenset[bytes]]:
    """What is known of each file's other versions."""
    named = [change for change in changes if "\n" not in change.path]
    commands = [f"{revision}^{{tree}}" for revision in sources.removed]
    commands += [f"{revision}^{{commit}}" for revision in sources.brought]
    for change in named:
        revisions = sources.removed if change.status == "D" else [*sources.own, *sources.brought]
        commands += [f"{revision}:{change.path}" for revision in revisions]
    given = "".join(f"{query}\n" for query in commands).encode()
    output = (
        git.run(folder, "cat-file", "--batch", given=given, timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES)
        if 0 < len(commands) <= MAX_QUERIES
        else None
    )
    if output is None:  # not known: then nothing of it is anyone's
        return {change.path: _everything(change) for change in changes}
    answers = git.blobs(output)
    trees = [next(answers, ("", b""))[0] for _ in sources.removed]
    commits = [next(answers, ("", b""))[0] for _ in sources.brought]
    # What such a commit has, the step's own commit may have from it: `git merge --squash` and a commit after it.
    older = [
        name in sources.named and one not in sources.passed for name, one in zip(sources.brought, commits, strict=True)
    ]
    found: dict[str, frozenset[bytes]] = {}
    for change in named:
        if change.status == "D":
            blobs = [next(answers, ("", b""))[0] for _ in sources.removed]
            if any(tree and not blob for tree, blob in zip(trees, blobs, strict=True)):
                found[change.path] = _everything(change)
            continue
        own = {next(answers, ("", b""))[0] for _ in sources.own}
        versions = [(*next(answers, ("", b"")), is_older) for is_older in older]
        lines = _brought(
            change,
            [
                content
                for blob, content, is_older in versions
                if blob not in {"", change.old_id} and (is_older or blob not in own)
            ],
        )
        if lines:
            found[change.path] = lines
    return found


def _everything(change: TreeChange) -> frozenset[bytes]:
    return frozenset((b"", *(change.after or ()), *(change.before or ())))


def _brought(change: TreeChange, versions: Iterable[bytes]) -> frozenset[bytes]:
    """The lines of these versions, with either line ending; beside them the markers of a conflict are git's too."""
    lines = {line for content in versions for line in text_lines(content)}
    if not lines:
        return frozenset()
    both = {line.removesuffix(b"\r") for line in lines}
    markers = {line for line in change.after or () if line.startswith(_MARKERS)}
    return frozenset(lines | both | {line + b"\r" for line in both} | markers)
