"""Lines that stood in another file when a step began, though no commit has them.

Who types them again shows nothing about who wrote them there. Git can be searched for committed ones at any time; only
OpenCode's snapshot has the others, so they are marked when they are recorded.
"""

import os
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from agent_trace_sidecar.opencode.wire import FileChange
from agent_trace_sidecar.records.content import text_lines
from agent_trace_sidecar.records.fingerprints import HASH_BYTES, LOOSE_BYTES, NO_HASH, is_evidence, line_hash
from agent_trace_sidecar.workspace import git
from agent_trace_sidecar.workspace.revision import git_dir
from agent_trace_sidecar.workspace.snapshot import Snapshots
from agent_trace_sidecar.workspace.steps import Step

LEAST: Final = 3
"""Fewer lines are never taken for a copy of others that still stand elsewhere."""
MAX_LISTED: Final = 20_000
"""Files of a snapshot; of a larger one nothing is read, as the list alone would take too long for each step."""
MAX_FILES: Final = 200
MAX_BYTES: Final = 2 * 1024 * 1024
"""Of the files that differ from the last commit; of more none is read."""
_MAX_KNOWN: Final = 4
_MAX_LISTED_BYTES: Final = 16 * 1024 * 1024
_TIMEOUT_S: Final = 4.0

_Places = dict[bytes, set[str]]


class Standing:
    """Knows the uncommitted lines of the last steps; git runs only for calls that wrote several lines."""

    def __init__(self, snapshots: Snapshots) -> None:
        """`snapshots` are those of OpenCode."""
        self._snapshots = snapshots
        self._known: OrderedDict[tuple[str, str, str], _Places] = OrderedDict()

    def marked(self, step: Step | None, change: FileChange) -> FileChange:
        """The change of a file of the session's folder, with those of its lines that stood in another one."""
        lines = list(_written(change))
        if step is None or not step.tree or len(lines) < LEAST:
            return change
        places, own = self._places(step), {change.path, change.old_path}
        stood = [one for one in lines if one in places and not places[one] <= own]
        return msgspec.structs.replace(change, stood=b"".join(stood).hex()) if len(stood) >= LEAST else change

    def _places(self, step: Step) -> _Places:
        key = (step.root, step.tree, step.heads.head if step.heads else "")
        if key not in self._known:
            self._known[key] = self._read(step, key[2])
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return self._known[key]

    def _read(self, step: Step, head: str) -> _Places:
        paths = self._uncommitted(step, head)
        contents = self._snapshots.contents(step.root, step.tree, paths) if 0 < len(paths) <= MAX_FILES else None
        found: _Places = defaultdict(set)
        if contents is None or sum(map(len, contents.values())) > MAX_BYTES:
            return found
        for path, content in contents.items():
            for line in text_lines(content):
                if is_evidence(line):
                    found[line_hash(line)[:LOOSE_BYTES]].add(path)
        return found

    def _uncommitted(self, step: Step, head: str) -> list[str]:
        """The files of the step's first snapshot that the last commit does not have as they are."""
        own = git_dir(Path(step.root))
        held = self._snapshots.entries(step.root, step.tree)
        if own is None or held is None or len(held) > MAX_LISTED:
            return []
        command = ("ls-tree", "-r", "-z", head)
        output = git.run(own, *command, timeout_s=_TIMEOUT_S, max_bytes=_MAX_LISTED_BYTES) if head else b""
        if output is None:
            return []
        committed = {entry.partition(b" ")[2].partition(b" ")[2] for entry in output.split(b"\0")}
        return [os.fsdecode(entry.partition(b"\t")[2]) for entry in sorted(held - committed)]


def _written(change: FileChange) -> Iterator[bytes]:
    """The halves of the hashes of the lines that a change wrote."""
    for span in change.ranges:
        packed = bytes.fromhex(span.line_hashes or "")
        for at in range(0, len(packed), HASH_BYTES):
            if packed[at : at + HASH_BYTES] != NO_HASH:
                yield packed[at : at + LOOSE_BYTES]
