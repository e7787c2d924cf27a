"""Which calls wrote at a line's place before its present text; pure.

The recorded states of a file are followed like `history.py` does, but for the place instead of the line: a line that
took the place of others inherits what is known of those. Blame finds the author of the line, this finds what stood
there before.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from agent_trace_sidecar.blame.align import align, gaps
from agent_trace_sidecar.blame.authors import Origin
from agent_trace_sidecar.blame.history import Change
from agent_trace_sidecar.records.fingerprints import HASH_BYTES

MAX_TRAIL: Final = 12
"""Calls that are remembered for a place; older ones go first."""

Trail: TypeAlias = tuple[Origin, ...]
"""The calls that wrote at a place, the first one first."""


class _State(NamedTuple):
    packed: bytes
    trails: list[Trail]


def lineage(changes: Iterable[Change], path: str, packed: bytes, is_weak: Callable[[int], bool]) -> list[Trail]:
    """The calls that wrote at the place of each line of a content.

    Args:
        changes: all of the file and of those it was moved from, oldest first.
        path: the file's.
        packed: the hashes of the content's lines.
        is_weak: see `align`.
    """
    states: dict[tuple[str, str], _State] = {}
    newest: dict[str, _State] = {}
    for change in changes:
        if change.after is None:
            continue
        came_from = change.old_path or change.path
        state = states.get((change.worktree, came_from)) or newest.get(came_from) or _State(b"", [])
        if change.before is not None:
            state = _followed(state, change.before, is_weak)
        after = _followed(state, change.after, is_weak)
        for span in change.spans:
            if not span.excluded:
                _wrote(after.trails, span.start - 1, span.end, span.origin)
        states[change.worktree, change.path] = newest[change.path] = after
    return _followed(newest.get(path, _State(b"", [])), packed, is_weak).trails


def _wrote(trails: list[Trail], start: int, end: int, origin: Origin) -> None:
    for at in range(start, min(end, len(trails))):
        if not trails[at] or trails[at][-1].record_id != origin.record_id:
            trails[at] = (*trails[at], origin)[-MAX_TRAIL:]


def _followed(state: _State, packed: bytes, is_weak: Callable[[int], bool]) -> _State:
    """The next content: lines that stayed keep their trail, new ones take that of the place they stand at."""
    if state.packed == packed:
        return _State(packed, list(state.trails))
    count = len(packed) // HASH_BYTES
    trails: list[Trail] = [()] * count
    blocks = align(state.packed, packed, is_weak)
    for old, new, size in blocks:
        trails[new : new + size] = state.trails[old : old + size]
    for gap in gaps(blocks, len(state.trails), count):
        _inherit(trails, state.trails[gap.old_start : gap.old_end], gap.new_start, gap.new_end)
    return _State(packed, trails)


def _inherit(trails: list[Trail], gone: Sequence[Trail], start: int, end: int) -> None:
    if gone:
        for at in range(start, end):
            trails[at] = gone[(at - start) * len(gone) // (end - start)]
