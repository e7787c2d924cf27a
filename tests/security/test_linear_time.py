"""Foreign text costs its length: processor time from 10 to 40 KB grows no faster than linear."""

import math
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
import pytest

from agent_trace_sidecar.blame.align import align
from agent_trace_sidecar.blame.boilerplate import is_boilerplate
from agent_trace_sidecar.blame.history import Change
from agent_trace_sidecar.blame.lineage import lineage
from agent_trace_sidecar.blame.rewrite import compare
from agent_trace_sidecar.blame.weight import Weights
from agent_trace_sidecar.limits.text import printable, printable_json, printable_line
from agent_trace_sidecar.opencode import v1_tools, v2_tools, wire
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.diffs import parse_diff
from agent_trace_sidecar.records.fingerprints import hashes_of, line_hashes, line_tokens
from agent_trace_sidecar.report import page
from agent_trace_sidecar.report.cost import SessionFacts
from agent_trace_sidecar.report.html import escape, first_line, visible
from agent_trace_sidecar.report.session import Body, Item, Session
from agent_trace_sidecar.report.session_page import session_page
from agent_trace_sidecar.report.syntax import Painter
from agent_trace_sidecar.workspace import commands
from agent_trace_sidecar.workspace.revision import Revisions
from agent_trace_sidecar.workspace.rewrites import Rewrites
from agent_trace_sidecar.workspace.steps import Call, Heads, Step
from tests.support.snapshots import Work

SMALL: Final = 10_000
LARGE: Final = 40_000
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


PATCHES: Final = [
    "*** Add File: a\n", "*** Update File: a\n", "*** Update File: a\n*** Move to: b\n", "*** Add File: ", "*** ",
    "--- ", "--- a", "--- a/", "--- a\t", "+++ ", "--- a\n", "--- a\n+++ a\n@@ ", "--- a\n+++ a", "\t",
]  # fmt: skip
"""What a patch of several files, and the diff of its result, are divided at."""


def excess(work: Callable[..., object], made: Callable[[int], Sequence[object]]) -> str:
    """Two processor times that grow too fast for their sizes; empty where they do not.

    A time that comes from something else does not come again, so three tries are compared by their least.
    """
    small = large = math.inf
    for _ in range(3):
        large = min(large, seconds(work, *made(LARGE)))
        if large < UNMEASURABLE_S:
            return ""
        small = min(small, seconds(work, *made(SMALL)))
        if large < MAX_GROWTH * small:
            return ""
    return f"{work}: {small:.3f} s, {large:.3f} s"


def seconds(work: Callable[..., object], *given: object) -> float:
    """The processor time of a call."""
    began = time.process_time()
    work(*given)
    return time.process_time() - began


def repeated(piece: str) -> Callable[[int], tuple[str]]:
    """A text of so many characters."""
    return lambda size: (piece * (size // len(piece)),)


@pytest.fixture(name="brought", scope="module")
def _brought(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], object]:
    """What git brought into a worktree while a command ran."""
    work = Work(tmp_path_factory.mktemp("work"), {"a.txt": "one\n"})
    rewrites = Rewrites(Revisions())
    heads = rewrites.heads(Path(work.root), 1e15)
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
        assert not excess(work, repeated(piece))


@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_a_command_costs_its_length(piece: str, brought: Callable[[str], object]) -> None:
    """Whichever piece of it is repeated."""
    for work in (brought, lambda text: list(commands.names(text)), commands.only_reads, commands.lingers):
        assert not excess(work, repeated(piece))


def raw(value: object) -> msgspec.Raw:
    """A value as the dialects are given it."""
    return msgspec.Raw(msgspec.json.encode(value))


def patched(text: str) -> None:
    """A patch of several files, by OpenCode 1 with one diff of all, and by OpenCode 2."""
    v1_tools.file_edits("apply_patch", raw({"patchText": text}), raw({"diff": text}))
    v1_tools.named_paths("apply_patch", raw({"patchText": text}))
    v2_tools.file_edits("patch", raw({"patchText": text}), raw({"metadata": {"files": [{"file": "a", "patch": text}]}}))


@pytest.mark.parametrize("piece", [*DIFFS, *PATCHES], ids=repr)
def test_a_patch_costs_its_length(piece: str) -> None:
    """Whichever piece of it, or of its result, is repeated."""
    assert not excess(patched, repeated(piece))


def test_a_patch_of_many_files_costs_its_length() -> None:
    """Though each file is looked for among the diffs of the result."""

    def many(size: int) -> tuple[msgspec.Raw, msgspec.Raw]:
        files = range(size // 32)
        patch = "".join(f"*** Add File: {n:08}\n+a\n" for n in files)
        return raw({"patchText": patch}), raw(
            {"diff": "".join(f"--- x{n}\n+++ x{n}\n@@ -0,0 +1 @@\n+a\n" for n in files)}
        )

    assert not excess(lambda *given: v1_tools.file_edits("apply_patch", *given), many)


# -- two contents ----------------------------------------------------------------------------------------------------

Lines = list[str]


def _between(lines: Sequence[str]) -> tuple[Lines, Lines]:
    """Two files that have these lines in common, each between lines of its own."""
    return (
        list(chain.from_iterable((line, f"j{at}") for at, line in enumerate(lines))),
        list(chain.from_iterable((line, f"k{at}") for at, line in enumerate(lines))),
    )


def _peeled(count: int) -> tuple[Lines, Lines]:
    """One line is unique, and each division at unique lines makes one more so."""
    return _between(["x1", *(f"x{n // 2 + (n % 2 == 0)}" for n in range(2, 2 * count // 2)), f"x{count}"])


def _shuffled(count: int) -> tuple[Lines, Lines]:
    lines = [f"{n:05}" for n in range(count)]
    return lines, random.Random(1).sample(lines, count)  # noqa: S311 - must be repeatable


PAIRS: Final[dict[str, Callable[[int], tuple[Lines, Lines]]]] = {
    "nothing in common": lambda count: ([f"a{n}" for n in range(count)], [f"b{n}" for n in range(count)]),
    "shuffled": _shuffled,
    "each between others": lambda count: _between([f"{n}" for n in range(count // 2)]),
    "peeled": lambda count: _peeled(count // 2),
    "mirrored": lambda count: _between(
        [*(f"{n}" for n in range(count // 4)), *(f"{n}" for n in range(count // 4, 0, -1))]
    ),
    "a period": lambda count: ([f"{n % 110}" for n in range(count)], [f"{n % 110}" for n in range(count, 0, -1)]),
    "two lines": lambda count: (["{", "}"] * (count // 2), ["}", "", "{"] * (count // 3)),
    "one long line": lambda count: ([f"x{'a b c ' * count}"], [f"y{'c b a ' * count}"]),
}
"""Files of so many lines, before and after."""


def aligned(old: Lines, new: Lines) -> None:
    """What `blame` does with two contents of a file."""
    before, after = (line_hashes(line.encode() for line in lines) for lines in (old, new))
    weights = Weights()
    weights.learn_lines(hashes_of(before), [line.encode() for line in old])
    align(before, after, weights.is_weak)
    lineage([Change("/w", "a", None, before, after, ())], "a", before, weights.is_weak)


def rewritten(old: Lines, new: Lines) -> None:
    """The same by the lines' tokens."""
    compare([line_tokens(line.encode()) for line in old], [line_tokens(line.encode()) for line in new])


def differing(old: Lines, new: Lines) -> None:
    """An edit of OpenCode 0.15, which reports both contents."""
    contents = {"before": "\n".join(old), "after": "\n".join(new)}
    v1_tools.file_edits("edit", raw({"filePath": "a", "oldString": "a", "newString": "b"}), raw({"filediff": contents}))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("work", [aligned, rewritten, differing])
def test_a_comparison_costs_the_length_of_both(work: Callable[[Lines, Lines], None], pair: str) -> None:
    """Whatever the files have in common."""
    assert not excess(work, lambda size: PAIRS[pair](size // 5))


# -- what is shown ---------------------------------------------------------------------------------------------------

AT: Final = datetime(2026, 11, 1, tzinfo=UTC)
SHOWN: Final = [
    "<",
    "&",
    '"',
    "'",
    "</script>",
    "\x1b[1m",
    "\u202e",
    "\x00",
    "\n",
    "a ",
    "+a\n",
    "```",
    "{",
    "/*",
    "\\",
    "\t",
]


def reported(text: str) -> None:
    """A page, a line on a terminal and a coloured file."""
    body = [Body("Change", text, is_diff=True), Body("Output", text)]
    items = [Item(AT, "text", "ses_1", text=text), Item(AT, "call", "ses_1", "bash", text, "msg_1", bodies=body)]
    found = Session({"ses_1": SessionFacts("ses_1", title=text, started_at=AT)}, {"ses_1": items}, {}, [])
    page.render(session_page(found, contents=True), AT)
    for show in (visible, escape, first_line, printable, printable_line, printable_json):
        show(text)
    for line in text.split("\n"):
        is_boilerplate(line.encode())
    Painter().colours("a.py", text.split("\n"))


@pytest.mark.parametrize("piece", SHOWN, ids=repr)
def test_a_page_costs_its_length(piece: str) -> None:
    """Whichever piece of a text is repeated."""
    assert not excess(reported, repeated(piece))
