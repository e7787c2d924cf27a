"""What a step of a session changed, from OpenCode's own trees before and after it.

OpenCode keeps them in a git directory of its own, `<data>/opencode/snapshot/<project id>/<sha1 of the worktree>`.
One process gives everything: the raw list of changed paths and a patch with so much context that it holds both
files whole. So lines are byte-exact, formatter and all, and the two contents are known besides.
"""

import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from agent_trace_sidecar.opencode.wire import Repository
from agent_trace_sidecar.records.content import text_lines
from agent_trace_sidecar.records.diffs import Change, compared, has_other_endings
from agent_trace_sidecar.workspace import git
from agent_trace_sidecar.workspace.places import Place

TIMEOUT_S: Final = 4.0
"""On the clock, for a git that hangs; its work is bounded by its output. The shim's pipe waits meanwhile, and OpenCode
does not: the shim keeps what the pipe does not take."""
MAX_OUTPUT_BYTES: Final = 24 * 1024 * 1024
MAX_FILES: Final = 2000
"""A step that changed more of them generated or installed something; it is not read."""
BIG_FILE: Final = "2m"
"""Larger files count as binary: their lines are not recorded."""

_LISTED: Final = 3
"""Mode, type, and id with path, of an entry of `git ls-tree`."""
_PROBE_BYTES: Final = 8000
_MAX_FOLDERS: Final = 4
_MAX_TREES: Final = 8
"""Trees whose paths are kept: the calls of a step need the same one."""
_TREE: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_HUNK: Final = re.compile(rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_FILE_MODES: Final = (b"100644", b"100755")
_NONE: Final = b"000000"
_DIFF: Final = (
    "-c",
    f"core.bigFileThreshold={BIG_FILE}",
    "diff-tree",
    "-r",
    "-z",
    "--raw",
    "--patch",
    "--unified=1000000000",
    "--find-renames=50%",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--full-index",
)


class TreeChange(NamedTuple):
    """One file in both trees. The contents are None where they are not read: binary, big, or moved as it was."""

    path: str
    old_path: str | None
    """Where a moved file stood."""
    status: str
    """A, M, D or R, git's letters."""
    old_id: str
    new_id: str
    """The blobs in the two trees; zeros where there is none."""
    before: list[bytes] | None
    after: list[bytes] | None
    changes: tuple[Change, ...] | None
    """Between the two contents, if these are known."""
    place: Place | None = None
    """Set where no snapshot holds the file and the file itself was read."""
    changed_ms: float | None = None
    """When that file was last changed."""
    repository: Repository | None = None
    """What it belongs to, if not the session's repository by the session's name."""
    certain: frozenset[bytes] | None = None
    """The lines that are certainly the calls', where others may be a person's; the content before is not known then."""

    @property
    def key(self) -> str:
        """One name for one file."""
        return self.place.file if self.place else self.path


class _Raw(NamedTuple):
    modes: tuple[bytes, bytes]
    old_id: str
    new_id: str
    status: str
    path: bytes
    old_path: bytes | None


class Snapshots:
    """Finds and compares the trees of OpenCode's users on this machine."""

    def __init__(self, data_home: Path | None = None) -> None:
        """`data_home` is where programs keep their data, if not in the environment's folder."""
        named = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")  # noqa: PTH111 - no error
        self._root = (data_home or Path(named)) / "opencode" / "snapshot"
        self._found: dict[str, Path] = {}
        self._paths: OrderedDict[tuple[str, str], frozenset[str]] = OrderedDict()

    def compare(self, worktree: str, before: str, after: str) -> list[TreeChange] | None:
        """Everything that differs between two trees; None where that can't be found out."""
        if not (_TREE.fullmatch(before) and _TREE.fullmatch(after)):
            return None
        for folder in self._folders(worktree):
            output = git.run(folder, *_DIFF, before, after, "--", timeout_s=TIMEOUT_S, max_bytes=MAX_OUTPUT_BYTES)
            if output is not None:
                self._found[worktree] = folder
                return parse(output)
        return None

    def ids(self, worktree: str, tree: str) -> frozenset[str]:
        """The ids of all contents in a tree; none where it can't be found."""
        entries = self._listed(worktree, tree) or []
        return frozenset(entry[2].partition(b"\t")[0].decode() for entry in entries)

    def entries(self, worktree: str, tree: str) -> frozenset[bytes] | None:
        """Id and path of all files in a tree, with a tab between them; None where it can't be found."""
        entries = self._listed(worktree, tree)
        return frozenset(entry[2] for entry in entries) if entries is not None else None

    def paths(self, worktree: str, tree: str) -> frozenset[str] | None:
        """The paths of all files in a tree; None where it can't be found."""
        known = self._paths.get((worktree, tree))
        entries = self._listed(worktree, tree) if known is None else None
        if entries is not None:
            known = frozenset(os.fsdecode(entry[2].partition(b"\t")[2]) for entry in entries)
            self._paths[worktree, tree] = known
            if len(self._paths) > _MAX_TREES:
                self._paths.popitem(last=False)
        return known

    def _listed(self, worktree: str, tree: str) -> list[list[bytes]] | None:
        """Mode, type, and id with path, of each file in a tree; None where it can't be found."""
        for folder in self._folders(worktree) if _TREE.fullmatch(tree) else ():
            command = ("ls-tree", "-r", "-z", tree)
            output = git.run(folder, *command, timeout_s=TIMEOUT_S, max_bytes=MAX_OUTPUT_BYTES)
            if output is not None:
                entries = (entry.split(b" ", 2) for entry in output.split(b"\0") if entry)
                return [entry for entry in entries if len(entry) == _LISTED]
        return None

    def contents(self, worktree: str, tree: str, paths: Sequence[str]) -> dict[str, bytes] | None:
        """What some files hold in a tree, those that are there; None where the tree can't be found."""
        named = [path for path in paths if "\n" not in path]
        if not _TREE.fullmatch(tree):
            return None
        queries = "".join(f"{tree}:{path}\n" for path in named).encode(errors="surrogateescape")
        for folder in self._folders(worktree):
            command = ("cat-file", "--batch")
            given = f"{tree}\n".encode() + queries
            output = git.run(folder, *command, given=given, timeout_s=TIMEOUT_S, max_bytes=MAX_OUTPUT_BYTES)
            answers = list(git.blobs(output)) if output is not None else []
            if answers and answers[0][0]:
                return {path: data for path, (blob, data) in zip(named, answers[1:], strict=True) if blob}
        return None

    def _folders(self, worktree: str) -> Iterator[Path]:
        """Where the trees may be: the folder that had them last, or that of any project of this worktree.

        The worktree's path alone determines the folder, so the project's id need not be known; there are several only
        where a repository was replaced by another.
        """
        last = self._found.get(worktree)
        if last is not None:
            yield last
        name = hashlib.sha1(worktree.encode(errors="replace"), usedforsecurity=False).hexdigest()
        for head in sorted(self._root.glob(f"*/{name}/HEAD"))[:_MAX_FOLDERS]:
            if head.parent != last:
                yield head.parent


def parse(output: bytes) -> list[TreeChange] | None:
    """Read `git diff-tree -z --raw --patch`: the list, an empty field, the patches in the same order."""
    listed, _, patch = output.partition(b"\0\0")
    entries = list(_raw(listed.split(b"\0")))
    if len(entries) > MAX_FILES:
        return None
    sections = iter(_sections(patch))
    found = []
    for entry in entries:
        section = next(sections, [])
        if entry.status == "T":
            next(sections, None)  # a file that became a link is listed as one deleted and one added
        change = _change(entry, section)
        if change is not None:
            found.append(change)
    return found


def _raw(fields: Sequence[bytes]) -> Iterator[_Raw]:
    at = 0
    while at + 1 < len(fields) and fields[at].startswith(b":"):
        old_mode, new_mode, old_id, new_id, status = fields[at][1:].split(b" ")
        moved = status[:1] in {b"R", b"C"}
        path, old_path = (fields[at + 2], fields[at + 1]) if moved else (fields[at + 1], None)
        yield _Raw((old_mode, new_mode), old_id.decode(), new_id.decode(), status[:1].decode(), path, old_path)
        at += 3 if moved else 2


def _sections(patch: bytes) -> Iterator[list[bytes]]:
    """The patch of each file as lines; a line of a file never starts like a header, for it has its mark before it."""
    section: list[bytes] | None = None
    for line in patch.split(b"\n"):
        if line.startswith(b"diff --git "):
            if section is not None:
                yield section
            section = []
        elif section is not None:
            section.append(line)
    if section is not None:
        yield section


def _change(entry: _Raw, section: Sequence[bytes]) -> TreeChange | None:
    """None for what is no file of lines on either side, or has a name that no text can hold."""
    regular = [mode in _FILE_MODES for mode in entry.modes if mode != _NONE]
    try:
        path, old_path = entry.path.decode(), entry.old_path.decode() if entry.old_path is not None else None
    except UnicodeDecodeError:
        return None
    if not regular or not all(regular):
        return None
    before, after, changes = _contents(section)
    if changes is None and not any(line.startswith(b"Binary ") for line in section):
        if entry.status == "M":
            return None  # only its mode is another
        if entry.status != "R":
            before, after, changes = [], [], ()  # an empty file
    return TreeChange(path, old_path, entry.status, entry.old_id, entry.new_id, before, after, changes)


def _contents(section: Sequence[bytes]) -> tuple[list[bytes] | None, list[bytes] | None, tuple[Change, ...] | None]:
    """Both files and the changes between them, from a patch that holds all lines in one hunk."""
    start = next((at for at, line in enumerate(section) if _HUNK.match(line)), None)
    if start is None:
        return None, None, None
    before: list[bytes] = []
    after: list[bytes] = []
    changes: list[Change] = []
    old, new = 0, 0

    def close() -> None:
        if len(before) > old or len(after) > new:
            changes.extend(_trimmed(before, after, old, new))

    for line in section[start + 1 :]:
        mark = line[:1]
        if mark == b" ":
            close()
            before.append(line[1:])
            after.append(line[1:])
            old, new = len(before), len(after)
        elif mark == b"-":
            before.append(line[1:])
        elif mark == b"+":
            after.append(line[1:])
    close()
    again = compared(before, after) if has_other_endings(before, after) else None
    return before, after, again if again is not None else tuple(changes)


def _trimmed(before: Sequence[bytes], after: Sequence[bytes], old: int, new: int) -> Iterator[Change]:
    """The change of the last lines of both, without lines that only got or lost the file's last line ending."""
    while old < len(before) and new < len(after) and before[old] == after[new]:
        old, new = old + 1, new + 1
    tail = 0
    while len(before) - tail > old and len(after) - tail > new and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    gone, come = len(before) - tail - old, len(after) - tail - new
    if gone or come:
        yield Change(old + 1, gone, new + 1, ("",) * come)


def change_of(place: Place, before: bytes, after: bytes, changed_ns: int) -> TreeChange:
    """A file that was read itself, as if two trees held it; no content is no file."""
    status = "A" if not before else "D" if not after else "M"
    binary = b"\0" in before[:_PROBE_BYTES] or b"\0" in after[:_PROBE_BYTES]
    old, new = text_lines(before), text_lines(after)
    changes = None if binary else compared(old, new)
    known = changes is not None
    return TreeChange(
        place.path,
        None,
        status,
        blob_id(before),
        blob_id(after),
        old if known else None,
        new if known else None,
        changes,
        place,
        changed_ns / 1e6 if changed_ns else None,
    )


def blob_id(data: bytes) -> str:
    """What git calls a content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
