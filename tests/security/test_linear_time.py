"""Foreign text costs its length: processor time over 10, 20 and 40 KB grows no faster than linear."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
import pytest

from agent_trace_sidecar.opencode import wire
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.diffs import parse_diff
from agent_trace_sidecar.workspace import commands
from agent_trace_sidecar.workspace.revision import Revisions
from agent_trace_sidecar.workspace.rewrites import Rewrites
from agent_trace_sidecar.workspace.steps import Call, Heads, Step
from tests.support.snapshots import Work

SIZES: Final = (10_000, 20_000, 40_000)
MAX_GROWTH: Final = 8.0
"""From 10 to 40 KB: linear is 4, quadratic 16."""
UNMEASURABLE_S: Final = 0.05
"""40 KB in less than this are fast enough; their ratio is noise."""

PIECES: Final = [
    "git ", "git checkout ", "git; ", "git stash|", "cd ", "cd a;", "\n", "\r\n", "; ", "(\n ", "'", '"', "' ", "& ",
    "1> ", "> ", "`", "$(", "at  ", "at now ", "checkout ", "git\t", "a/b ", "a~", "pushd '", "&& git reset ", "x",
]  # fmt: skip
"""What each pattern over commands begins with, and what it ends at."""

DIFFS: Final = [
    "@@ -1 +1 @@\n", "@@ -1 +1 @@\n-a\n+b\n", "+a\n", "-a\n", " a\n", "\\ No newline at end of file\n",
    "@@ -1,9 +1,9 @@ ", "--- a\n+++ b\n", "@@ -0,0 +1,9999 @@\n+a\n",
]  # fmt: skip


def fastest(work: Callable[[str], object], text: str) -> float:
    """Processor time in seconds, the least of three."""

    def once() -> float:
        began = time.process_time()
        work(text)
        return time.process_time() - began

    return min(once() for _ in range(3))


@pytest.fixture(name="brought", scope="module")
def _brought(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], object]:
    """What git brought into a worktree while a command ran."""
    work = Work(tmp_path_factory.mktemp("work"), {"a.txt": "one\n"})
    rewrites = Rewrites(Revisions())
    heads = rewrites.heads(Path(work.root))
    assert isinstance(heads, Heads)

    def run(command: str) -> object:
        step = Step("s", "m", str(work.root), "", 0.0, heads=heads)
        step.calls["c"] = Call("c", "bash", silent=True, began_ms=0.0, command=command)
        return rewrites.brought(step, [])

    return run


def stored(text: str) -> None:
    """A line whose tool was told this text: through the wire, the dialect and the diff parser into rows."""
    told = {"tool": "edit", "sessionID": "s", "callID": "c", "args": {"filePath": "/p/a", "newString": text}}
    done = {"title": "a", "output": text, "metadata": {"diff": f"@@ -1 +1 @@\n{text}", "filediff": {"additions": 1}}}
    line = {
        "v": 1,
        "id": str(UUID(int=1)),
        "seq": 1,
        "at": 1,
        "instance": str(UUID(int=2)),
        "hook": "tool.execute.after",
        "worktree": "/p",
        "input": told,
        "output": done,
    }
    found = wire.parse(wire.with_own_fields(msgspec.json.encode(line), {}, None))
    assert isinstance(found, wire.Envelope)
    Builder(BuildSettings()).feed(found)


@pytest.mark.parametrize("piece", [*PIECES, *DIFFS], ids=repr)
def test_an_event_costs_its_length(piece: str) -> None:
    """Also where the text is a diff, or stands before one."""
    for work in (stored, parse_diff):
        small, _, large = (fastest(work, piece * (size // len(piece))) for size in SIZES)
        assert large < UNMEASURABLE_S or large / small < MAX_GROWTH, (work, small, large)


@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_a_command_costs_its_length(piece: str, brought: Callable[[str], object]) -> None:
    """Whichever piece of it is repeated."""
    for work in (brought, lambda text: list(commands.names(text)), commands.only_reads, commands.lingers):
        small, _, large = (fastest(work, piece * (size // len(piece))) for size in SIZES)
        assert large < UNMEASURABLE_S or large / small < MAX_GROWTH, (work, small, large)
