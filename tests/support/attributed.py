"""A repository in which an AI and a person work, recorded by the real observer, builder and sink, without OpenCode."""

import asyncio
import difflib
import os
import subprocess
from itertools import count
from pathlib import Path

import asyncpg
import msgspec

from agent_trace_sidecar.blame.blame import blame
from agent_trace_sidecar.blame.lines import Line
from agent_trace_sidecar.opencode.wire import Observed
from agent_trace_sidecar.postgres.copy import copy_items
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.rows import Built, Item
from agent_trace_sidecar.workspace.observer import Observer
from tests.support.envelopes import MESSAGE, SESSION, Shim, envelope

_NOBODY = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}
_serial = count(1)


def run_git(folder: Path, *args: str) -> str:
    """Run git as nobody in particular, without anyone's settings."""
    command = ["git", "-c", "init.defaultBranch=main", *args]
    env = os.environ | _NOBODY
    return subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True).stdout.strip()


class Project:
    """A git repository; `ai_*` are recorded calls, everything else is a person's doing."""

    def __init__(self, root: Path, url: str, *, with_git: bool = True, identity: str = "") -> None:
        """Begin in a repository or a new folder; without git OpenCode 1 names no project."""
        self.root, self.url = root, url
        root.mkdir(parents=True, exist_ok=True)
        if with_git and not (root / ".git").exists():
            self.git("init", "-q")
            (root / "README").write_text(f"Project {next(_serial)}.\n")
            self.commit("first")
        # Calls happen long after any file was written, so that the observer trusts what it reads before them.
        self._shim = Shim(str(root), at=4_000_000_000_000 + next(_serial) * 1_000_000)
        self._number = next(_serial) << 20
        self._observer = Observer(lambda text: "hunter2" in text)
        self._builder = Builder(BuildSettings())
        self._calls = count(1)
        self._model = ""
        if with_git:
            identity = self.git("rev-list", "--max-parents=0", "--all").split()[0]
        if identity:
            self.feed([self._shim.line("hello", {"project": {"id": identity, "worktree": str(root)}})])

    def git(self, *args: str) -> str:
        """Run git here."""
        return run_git(self.root, *args)

    def commit(self, message: str = "work") -> str:
        """Commit everything, and give the commit."""
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def write(self, path: str, *lines: str, end: str = "\n") -> None:
        """Write a file as a person."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes("".join(line + end for line in lines).encode())

    def read(self, path: str) -> list[str]:
        """A file's lines."""
        return (self.root / path).read_text().splitlines()

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace a text once, as a person."""
        text = (self.root / path).read_text()
        assert text.count(old) == 1, (old, text)
        (self.root / path).write_text(text.replace(old, new))

    def ai_write(self, path: str, *lines: str, model: str = "claude-x") -> None:
        """OpenCode's write tool."""
        exists = (self.root / path).exists()
        content = "".join(line + "\n" for line in lines)
        args = {"filePath": str(self.root / path), "content": content}
        self._model = model
        self._call("write", args, path, content, {"exists": exists})

    def ai_edit(self, path: str, old: str, new: str, model: str = "claude-x") -> None:
        """OpenCode's edit tool."""
        text = (self.root / path).read_text()
        assert text.count(old) == 1, (old, text)
        after = text.replace(old, new)
        diff = "".join(
            line if line.endswith("\n") else line + "\n"
            for line in difflib.unified_diff(
                text.splitlines(keepends=True), after.splitlines(keepends=True), path, path
            )
        )
        args = {"filePath": str(self.root / path), "oldString": old, "newString": new}
        self._model = model
        self._call("edit", args, path, after, {"diff": diff})

    def blame(self, path: str, revision: str | None = None) -> list[Line]:
        """What the command says."""
        return asyncio.run(self._blame(path, revision))

    def authors(self, path: str, revision: str | None = None) -> str:
        """A letter for each line: a(i), h(uman), m(ixed), u(nknown)."""
        return "".join(line.contributor[0] for line in self.blame(path, revision))

    async def _blame(self, path: str, revision: str | None) -> list[Line]:
        connection = await asyncpg.connect(self.url, statement_cache_size=0)
        try:
            return (await blame(connection, self.root / path, revision)).lines
        finally:
            await connection.close()

    def _call(self, tool: str, args: object, path: str, content: str, metadata: object) -> None:
        call = f"call_{next(self._calls)}"
        lines = [
            self._shim.assistant(modelID=self._model),
            self._shim.part(tool, {"status": "pending", "input": {}, "raw": ""}, (SESSION, MESSAGE, call)),
            self._shim.line(
                "tool.execute.before", {"tool": tool, "sessionID": SESSION, "callID": call}, {"args": args}
            ),
        ]
        self.feed(lines)
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        self.feed([self._shim.after(tool, args, metadata, call)])

    def feed(self, lines: list[bytes]) -> None:
        """What the sidecar does with lines, without spool and gate."""
        built = []
        for line in lines:
            parsed = envelope(line)
            seen = self._observer.observe(line)
            parsed.observed = msgspec.json.decode(seen, type=Observed) if seen is not None else None
            parsed.id = type(parsed.id)(int=parsed.id.int + self._number)
            built.append(self._builder.feed(parsed))
        asyncio.run(self._store(built))

    async def _store(self, built: list[Built]) -> None:
        connection = await asyncpg.connect(self.url, statement_cache_size=0)
        try:
            await copy_items(connection, [Item(one, b"", 0) for one in built])
        finally:
            await connection.close()
