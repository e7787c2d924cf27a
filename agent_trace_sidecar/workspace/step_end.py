"""The end of a step: what OpenCode's snapshots say has changed, given to the step's calls.

Gathers the facts that `allot` decides by: the two trees' difference, when each file was last changed, and what git
itself has brought.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from agent_trace_sidecar.limits import files
from agent_trace_sidecar.opencode.wire import CallChange, FileChange, Observed
from agent_trace_sidecar.records.content import Content, text_lines
from agent_trace_sidecar.workspace.rewrites import Rewrites
from agent_trace_sidecar.workspace.snapshot import Snapshots, TreeChange, blob_id
from agent_trace_sidecar.workspace.step_attribution import Facts, allotted, may_say_more
from agent_trace_sidecar.workspace.steps import Call, Step, Steps

LOOK_S: Final = 0.5
"""How long the files of a step may be looked at, after git has told which they are."""
MAX_HASHES_BYTES: Final = 2 * 1024 * 1024
"""Of hashes of whole files in one line; files beyond it have only those of their changed lines."""


class Finisher:
    """Compares the snapshots around a step."""

    def __init__(
        self,
        data_home: Path | None,
        rewrites: Rewrites,
        judged: Callable[[str, list[bytes], float], Content],
        secret: Callable[[str], bool],
    ) -> None:
        """Make one.

        Args:
            data_home: where OpenCode keeps its data, if not where the environment says.
            rewrites: tells what git brought.
            judged: makes a content of a path's lines until a time of `time.monotonic`.
            secret: whether a file's very name may hold a secret.
        """
        self._snapshots = Snapshots(data_home)
        self._rewrites = rewrites
        self._judged = judged
        self._secret = secret

    def finish(self, steps: Steps, step: Step, tree: str, finished_ms: float) -> Observed | None:
        """What the calls of a step did, where the snapshots say more than the calls; None where they don't."""
        if tree == step.tree or not may_say_more(step):  # a git process for each step would cost more than the rest
            return None
        changes = self._snapshots.compare(step.root, step.tree, tree)
        if not changes:
            return None
        root = Path(step.root)
        known = [
            _with_moved(root, change)
            for change in changes
            if not any(self._secret(path) for path in (change.path, change.old_path) if path)
        ]
        calls = allotted(step, known, self._facts(steps, step, known, finished_ms))
        steps.claim(step, _claims(calls))
        steps.note(calls, step)
        return Observed(calls=tuple(_bounded(calls))) if calls else None

    def _facts(self, steps: Steps, step: Step, changes: Sequence[TreeChange], finished_ms: float) -> Facts:
        root = Path(step.root)
        deadline = time.monotonic() + LOOK_S
        brought = self._rewrites.brought(step, changes)
        rivals: list[Call] = list(steps.rivals(step))
        return Facts(
            finished_ms,
            stamp_ms=lambda change: _stamp_ms(root, change) if time.monotonic() < deadline else None,
            brought=lambda change: brought.get(change.path, frozenset()),
            judge=lambda path, lines: self._judged(path, list(lines), deadline),
            rivals=rivals,
        )


def _stamp_ms(root: Path, change: TreeChange) -> float | None:
    """When a file was last changed, if it holds what the second tree says."""
    content = _content(root, change.path) if change.status != "D" else None
    known = content is not None and blob_id(content.data) == change.new_id
    return content.changed_ns / 1e6 if known and content is not None else None


def _with_moved(root: Path, change: TreeChange) -> TreeChange:
    """A file that was moved as it was is not told by git; it is read where it stands now."""
    if change.status != "R" or change.after is not None or change.old_id != change.new_id:
        return change
    content = _content(root, change.path)
    if content is None or blob_id(content.data) != change.new_id or b"\0" in content.data[:8000]:
        return change
    lines = text_lines(content.data)
    return change._replace(before=lines, after=lines, changes=())


def _content(root: Path, path: str) -> files.Content | None:
    try:
        if os.path.islink(root / path):  # noqa: PTH114 - raises nothing
            return None
        return files.read_inside(root, path)
    except (OSError, ValueError):
        return None


def _claims(calls: Iterable[CallChange]) -> Iterable[str]:
    return [path for call in calls for one in call.files for path in (one.path, one.old_path) if path]


def _bounded(calls: Iterable[CallChange]) -> Iterable[CallChange]:
    """The same without the hashes of whole files beyond the bound."""
    room = MAX_HASHES_BYTES
    for call in calls:
        kept: list[FileChange] = []
        for one in call.files:
            room -= len(one.before_hashes or "") + len(one.after_hashes or "")
            kept.append(one if room > 0 else _without_hashes(one))
        yield CallChange(call.call_id, tuple(kept), call.vcs)


def _without_hashes(one: FileChange) -> FileChange:
    return FileChange(one.path, one.kind, one.old_path, one.ranges, one.deleted)
