"""Which lines are whose, with a real OpenCode: formatters, bash, parallel calls, subagents, people, git, undoing."""

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agent_trace_sidecar.records.fingerprints import line_hashes
from tests.support.fake_model import Call, FakeModel, Step, fake_model
from tests.support.opencode import SHIM, OpenCode, Server, opencode
from tests.support.postgres import PostgresServers
from tests.support.records import checked
from tests.support.waiting import beside, eventually

FILES = {
    "a.txt": "one\ntwo\nthree\nfour\n",
    "b.py": "x=1\ny=2\n",
    "mv.txt": "m\nn\no\np\n",
    "mv2.txt": "".join(f"line {n}\n" for n in range(20)),
    "gone.txt": "a\nb\n",
    ".gitignore": "ignored/\n",
}
FORMAT = """
case "$0" in *slow*) touch ignored/formatting; until test -e ignored/edited; do sleep 0.1; done;; esac
sed -i 's/ *= */ = /' "$0"; grep -q formatted "$0" || sed -i '1i # formatted' "$0"
"""
"""A formatter that adds a line on top; on a file called slow it waits until the person has done something."""
TOOL = """
import fs from "node:fs";
const file = new URL("../../stamp.txt", import.meta.url);
export default { description: "stamp", args: {}, execute: async () => (fs.writeFileSync(file, "by a tool"), "ok") };
"""
OF_PROJECT = "record #>> '{metadata,io.opencode.directory}' = $1"
RANGES = f"""
SELECT g.path, start_line, end_line, g.tool, method, g.session_id, g.model_id, voided_at IS NOT NULL AS void
FROM agent_trace_ranges g JOIN agent_trace_records r USING (record_id, recorded_at) WHERE {OF_PROJECT}
ORDER BY recorded_at, record_id, path, start_line
"""
STATES = f"""
SELECT s.* FROM agent_trace_file_states s JOIN agent_trace_records r USING (record_id, recorded_at) WHERE {OF_PROJECT}
ORDER BY recorded_at, record_id
"""
COMMIT = "git -c user.name=t -c user.email=t@example.invalid commit -qm AI"
Span = tuple[str, int, int, str, str]


def bash(command: str) -> Call:
    """A call of bash."""
    return Call("bash", {"command": command, "description": "do it"})


def write(path: str, content: str) -> Call:
    """A call of write."""
    return Call("write", {"filePath": path, "content": content})


def edit(path: str, old: str, new: str) -> Call:
    """A call of edit."""
    return Call("edit", {"filePath": path, "oldString": old, "newString": new})


def task(prompt: str) -> Call:
    """A subagent."""
    return Call("task", {"description": "sub", "prompt": prompt, "subagent_type": "general"})


def hashes(text: str) -> bytes:
    """What is kept of a file's lines."""
    return line_hashes(text.encode().splitlines())


class Store:
    """One connection for all questions: waiting asks often, and connecting costs more than asking."""

    def __init__(self, url: str) -> None:
        self._one_at_a_time = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(url))

    def rows(self, query: str, *args: object) -> list[dict[str, Any]]:
        """Ask the database."""
        with self._one_at_a_time:
            return [dict(row) for row in self._loop.run_until_complete(self._connection.fetch(query, *args))]

    def close(self) -> None:
        """Leave the database."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


@dataclass
class Site:
    """One OpenCode server that records all projects of these tests into one database."""

    oc: OpenCode
    model: FakeModel
    server: Server
    store: Store

    def project(self, name: str, files: dict[str, str] | None = None) -> "Project":
        """Make a repository where everything is recorded."""
        folder = self.oc.project(name, FILES if files is None else files)
        self.oc.add_plugin(folder, SHIM)
        self.oc.git(folder, "add", "-A")
        self.oc.git(folder, "commit", "-q", "-m", "Record")
        (folder / "ignored").mkdir()
        return Project(self, folder, "")


@dataclass
class Project:
    """A repository and its one session."""

    site: Site
    folder: Path
    session: str

    def prompt(self, marker: str, *steps: Step, model: str = "fake/m1") -> None:
        """Let the model take these steps, and wait until all of it is stored."""
        self.site.model.script(marker, *steps)
        self.session = self.session or self.site.server.session(self.folder)
        idle = self.stored("session.idle")
        self.site.server.prompt(self.folder, self.session, f"do {marker}", model)
        eventually(lambda: self.stored("session.idle") > idle, 20, "the turn is stored")

    def rows(self, query: str, *args: object) -> list[dict[str, Any]]:
        """Ask the database."""
        return self.site.store.rows(query, *args)

    def stored(self, event_name: str, tool: str = "") -> int:
        """How many events of the session are stored; of one tool, if it is named."""
        query = """SELECT count(*)::int AS n FROM agent_trace_events
        WHERE event_name = $1 AND session_id = $2 AND $3 IN ('', tool)"""
        return int(self.rows(query, event_name, self.session, tool)[0]["n"])

    def ranges(self) -> list[dict[str, Any]]:
        """The project's ranges, in order; and every record is a valid one."""
        for row in self.rows(f"SELECT record::text AS record FROM agent_trace_records WHERE {OF_PROJECT}", self.place):
            checked(row["record"])
        return self.rows(RANGES, self.place)

    def spans(self, *, void: bool = False) -> set[Span]:
        """The ranges in short, those that are void or the others.

        A file that a busy machine has read too late is compared by the trees of its step: the same lines, by another
        method.
        """
        rows = [row for row in self.ranges() if row["void"] == void]
        late = {(tool, "snapshot"): method for tool, method in (("edit", "diff"), ("write", "content"))}
        return {
            (r["path"], r["start_line"], r["end_line"], r["tool"], late.get((r["tool"], r["method"]), r["method"]))
            for r in rows
        }

    def kinds(self) -> set[tuple[str, str | None, str]]:
        """Every file of every record: where it stands, where it stood, and what happened to it."""
        return {(row["path"], row["old_path"], row["kind"]) for row in self.rows(STATES, self.place)}

    def state(self, path: str) -> tuple[bytes | None, bytes | None]:
        """What the last record that touched a file says of it before and after."""
        row = [row for row in self.rows(STATES, self.place) if row["path"] == path][-1]
        return row["before_hashes"], row["after_hashes"]

    @property
    def place(self) -> str:
        """The folder as OpenCode calls it."""
        return str(self.folder)


@pytest.fixture(scope="module", name="site")
def _site(postgres_servers: PostgresServers) -> Iterator[Site]:
    """A server for all tests of this file: starting one takes longer than a session."""
    with fake_model() as model, postgres_servers.database(migrated=True) as url, opencode(model) as oc:
        oc.env["AGENT_TRACE_DATABASE_URL"] = url
        oc.env["AGENT_TRACE_SIDECAR"] = f"'{sys.executable}' -m agent_trace_sidecar run"
        oc.env["AGENT_TRACE_STATE_DIR"] = str(oc.folder / "state")
        oc.config["formatter"] = {"ours": {"command": ["sh", "-c", FORMAT, "$FILE"], "extensions": [".py"]}}
        store = Store(url)
        with closing(store), oc.serve() as server:
            yield Site(oc, model, server, store)


def test_what_bash_and_formatters_wrote_is_the_ais_and_nothing_else(site: Site) -> None:
    """Each call has its own lines, also of calls that ran side by side; moves and deletions are data."""
    project = site.project("bash")
    project.prompt(
        "bashwork",
        Step(
            [
                write("new.py", "a=1\n"),
                bash("sleep 0.2; sed -i s/two/TWO/ a.txt; echo x > ignored/x.txt"),
                edit("b.py", "y=2", "y=3\nz=4"),
            ]
        ),
        Step([bash("git mv mv.txt moved.txt; mv mv2.txt mv3.txt; sed -i 's/line 7/LINE/' mv3.txt; rm gone.txt")]),
        Step(
            [bash("printf 'tee 1\\ntee 2\\n' | tee tee.txt"), bash("python3 -c \"open('py.txt','w').write('p\\n')\"")]
        ),
        Step([bash("echo five >> a.txt; false")]),
    )
    assert project.spans() == {
        ("new.py", 1, 2, "write", "content"),
        ("a.txt", 2, 2, "bash", "snapshot"),
        ("b.py", 1, 4, "edit", "diff"),
        ("mv3.txt", 8, 8, "bash", "snapshot"),
        ("tee.txt", 1, 2, "bash", "snapshot"),
        ("py.txt", 1, 1, "bash", "snapshot"),
        ("a.txt", 5, 5, "bash", "snapshot"),
    }
    assert project.kinds() >= {
        ("moved.txt", "mv.txt", "move"),
        ("mv3.txt", "mv2.txt", "move"),
        ("gone.txt", None, "delete"),
    }
    assert project.state("a.txt") == (hashes("one\nTWO\nthree\nfour\n"), hashes("one\nTWO\nthree\nfour\nfive\n"))
    assert project.state("moved.txt") == (hashes(FILES["mv.txt"]), hashes(FILES["mv.txt"]))
    assert project.state("gone.txt") == (hashes(FILES["gone.txt"]), b"")
    assert {row["model_id"] for row in project.ranges()} == {"fake/m1"}


def test_a_record_of_bash_is_of_the_call_itself(site: Site) -> None:
    """It is made when the step ends, but its event, time and revision are the call's."""
    project = site.project("own")
    project.prompt("ownwork", Step([bash("echo x > x.txt && rm gone.txt && git add -A && " + COMMIT)]))
    query = f"""SELECT e.event_name, e.tool, e.occurred_at = r.recorded_at AS same, vcs_revision, record::text AS record
    FROM agent_trace_records r JOIN agent_trace_events e USING (event_id) WHERE {OF_PROJECT}"""
    (row,) = project.rows(query, project.place)
    assert (row["event_name"], row["tool"], row["same"]) == ("tool.execute.after", "bash", True)
    head = site.oc.git(project.folder, "rev-parse", "HEAD").strip()
    assert row["vcs_revision"] == head
    gone = json.loads(row["record"])["metadata"]["io.opencode.deleted"]
    assert gone == [{"path": "gone.txt", "start_line": 1, "end_line": 2}]
    assert project.spans() == {("x.txt", 1, 1, "bash", "snapshot")}


def test_apply_patch_and_its_formatter(site: Site) -> None:
    """The patch's own diff is older than the formatter's work; moves with and without a change are told apart."""
    project = site.project("patch")
    patch = """*** Begin Patch
*** Update File: b.py
@@
 x=1
+w=0
 y=2
*** Add File: added.py
+k=1
*** Delete File: gone.txt
*** Update File: mv.txt
*** Move to: moved.txt
@@
 m
-n
+N
 o
*** End Patch"""
    project.prompt("patchwork", Step([Call("apply_patch", {"patchText": patch})]), model="openai/gpt-5-x")
    assert {(path, start, end) for path, start, end, _, _ in project.spans()} == {
        ("b.py", 1, 4),
        ("added.py", 1, 2),
        ("moved.txt", 2, 2),
    }
    assert project.kinds() == {
        ("b.py", None, "update"),
        ("added.py", None, "add"),
        ("gone.txt", None, "delete"),
        ("moved.txt", "mv.txt", "move"),
    }
    assert project.state("b.py") == (hashes("x=1\ny=2"), hashes("# formatted\nx = 1\nw = 0\ny = 2"))


def test_what_a_subagent_wrote_is_its_own_and_counted_once(site: Site) -> None:
    """The parent's step holds the child's files again; what the parent's own bash wrote meanwhile is the parent's."""
    project = site.project("child")
    site.model.script("subwork", Step([write("sub.txt", "sub\n"), bash("echo child > child.txt")]))
    project.prompt("parentwork", Step([task("subwork please"), bash("echo parent > parent.txt")]))
    ranges = project.ranges()
    assert {(row["path"], row["session_id"] == project.session) for row in ranges} == {
        ("sub.txt", False),
        ("child.txt", False),
        ("parent.txt", True),
    }
    assert len(ranges) == 3


def test_what_a_person_types_while_the_ai_works_is_not_the_ais(site: Site) -> None:
    """Beside an edit, whose formatter takes its time; and before a bash command of the same step begins."""
    project = site.project("person", FILES | {"slow.py": "s=1\n"})

    def person() -> None:
        eventually((project.folder / "ignored" / "formatting").exists, 30)
        (project.folder / "a.txt").write_text("one\nMINE\nthree\nfour\n")
        (project.folder / "mine.txt").write_text("mine\n")
        (project.folder / "ignored" / "edited").touch()

    with beside(person):
        project.prompt("slowwork", Step([edit("slow.py", "s=1", "s=2")]), Step([bash("echo ai > ai.txt")]))
    # whether the edit's own diff or the step's trees are its evidence depends on when the person's files were written
    assert project.spans() == {("ai.txt", 1, 1, "bash", "snapshot"), ("slow.py", 1, 2, "edit", "diff")}


def test_a_persons_own_command_is_not_the_ais(site: Site) -> None:
    """`!cmd` is a bash call in OpenCode's eyes."""
    project = site.project("shell")
    project.prompt("hiwork", Step(text="Hi."))
    body = {"agent": "build", "command": "echo user > user.txt", "model": {"providerID": "fake", "modelID": "m1"}}
    site.server.request("POST", f"/session/{project.session}/shell", project.folder, body)
    project.prompt("afterwork", Step([bash("echo ai > ai.txt")]))
    assert (project.folder / "user.txt").exists()
    # The person's command ends idle as well, maybe only after the prompt has begun to wait for its own end.
    eventually(project.spans, 20, "a record is stored")
    assert project.spans() == {("ai.txt", 1, 1, "bash", "snapshot")}


def test_what_git_brings_is_not_the_ais(site: Site) -> None:
    """Checkout, stash and merge put other people's lines into the files; lines the same command wrote are the AI's."""
    project = site.project("git")
    git = partial(site.oc.git, project.folder)
    git("checkout", "-q", "-b", "side")
    (project.folder / "a.txt").write_text("one\ntwo\nthree\nfour\nside\n")
    (project.folder / "side.txt").write_text("side\n")
    git("add", "-A")
    git("commit", "-qm", "Side")
    git("checkout", "-q", "main")
    (project.folder / "b.py").write_text("x=1\ny=2\nstashed=1\n")
    git("stash", "-q")
    project.prompt(
        "gitwork",
        Step([bash("git checkout -q side && echo ai > ai.txt")]),
        Step([bash("git checkout -q main")]),
        Step([bash("git -c user.name=t -c user.email=t@example.invalid merge -q side; sed -i s/one/ONE/ a.txt")]),
        Step([bash("git stash pop -q && echo more >> b.py")]),
        Step([bash("git checkout -q -b fresh && echo fresh > fresh.txt && rm gone.txt")]),
    )
    assert "stashed=1" in (project.folder / "b.py").read_text()
    assert project.spans() == {
        ("ai.txt", 1, 1, "bash", "snapshot"),
        ("a.txt", 1, 1, "bash", "snapshot"),
        ("b.py", 4, 4, "bash", "snapshot"),
        ("fresh.txt", 1, 1, "bash", "snapshot"),
    }
    assert ("gone.txt", None, "delete") in project.kinds()


def test_a_custom_tool_that_says_nothing_is_known_by_what_it_did(site: Site) -> None:
    """So is every tool of an MCP server."""
    project = site.project("custom", FILES | {".opencode/tool/stamp.js": TOOL})
    project.prompt("stampwork", Step([Call("stamp", {})]))
    assert project.spans() == {("stamp.txt", 1, 1, "stamp", "snapshot")}


def test_undone_lines_are_void_and_come_back_until_they_are_gone_for_good(site: Site) -> None:
    """Revert, unrevert, revert again and go on: with the lines of the subagent that the message started."""
    project = site.project("undo")
    site.model.script("undosub", Step([write("sub.txt", "sub\n")]))
    project.prompt("keepwork", Step([write("keep.txt", "keep\n")]))
    project.prompt("undowork", Step([write("w.txt", "w\n"), bash("echo b > b.txt")]), Step([task("undosub please")]))
    kept = {("keep.txt", 1, 1, "write", "content")}
    undone = {
        ("w.txt", 1, 1, "write", "content"),
        ("b.txt", 1, 1, "bash", "snapshot"),
        ("sub.txt", 1, 1, "write", "content"),
    }
    assert (project.spans(), project.spans(void=True)) == (kept | undone, set())
    server, folder, path = site.server, project.folder, f"/session/{project.session}"
    users = [m["info"]["id"] for m in server.request("GET", f"{path}/message", folder) if m["info"]["role"] == "user"]

    server.request("POST", f"{path}/revert", folder, {"messageID": users[1]})
    eventually(lambda: project.spans(void=True) == undone, 20, "the undone lines are void")
    assert project.spans() == kept
    assert not (project.folder / "w.txt").exists()
    server.request("POST", f"{path}/unrevert", folder, {})
    eventually(lambda: project.spans() == kept | undone, 20, "they are back")
    server.request("POST", f"{path}/revert", folder, {"messageID": users[1]})
    project.prompt("onwork", Step([write("on.txt", "on\n")]))
    assert project.spans() == kept | {("on.txt", 1, 1, "write", "content")}
    assert project.spans(void=True) == undone
    server.request("POST", f"{path}/revert", folder, {"messageID": users[0]})
    eventually(lambda: not project.spans(), 20, "all is void")
    server.request("POST", f"{path}/unrevert", folder, {})
    eventually(lambda: len(project.spans()) == 2, 20, "what is not gone for good is back")
    assert project.spans() == kept | {("on.txt", 1, 1, "write", "content")}


def test_calls_side_by_side_on_one_file_have_each_their_own_lines(site: Site) -> None:
    """Two edits, and a command that writes the same file as an edit: every new line once, and no other."""
    text = "".join(f"line {at}\n" for at in range(1, 31))
    project = site.project("side", {"s.txt": text, "t.txt": text, "crlf.txt": text.replace("\n", "\r\n")})
    project.session = site.server.session(project.folder)
    # A command that writes before the sidecar has read what the edit beside it left would take its lines from both.
    waiting = "until test -e ignored/{}; do sleep 0.05; done;"

    def edits_are_read() -> None:
        for number in (3, 4):
            eventually(lambda n=number: project.stored("tool.execute.after", "edit") >= n, 60)  # type: ignore[misc]
            (project.folder / "ignored" / str(number)).touch()

    with beside(edits_are_read):
        project.prompt(
            "sidework",
            Step([edit("s.txt", "line 2\n", "line 2\ntwo\n"), edit("s.txt", "line 20\n", "LINE 20\n")]),
            Step(
                [
                    edit("t.txt", "line 5\n", "FIVE\n"),
                    bash(f"{waiting.format(3)} sed -i 's/line 25/TWENTY-FIVE/' t.txt"),
                ]
            ),
            Step(
                [
                    bash(f"{waiting.format(4)} sed -i 's/line 7/SEVEN/' crlf.txt"),
                    edit("crlf.txt", "line 9\r\n", "NINE\r\n"),
                ]
            ),
        )
    found = {(path, line) for path, start, end, _, _ in project.spans() for line in range(start, end + 1)}
    assert found == {("s.txt", 3), ("s.txt", 21), ("t.txt", 5), ("t.txt", 25), ("crlf.txt", 7), ("crlf.txt", 9)}
