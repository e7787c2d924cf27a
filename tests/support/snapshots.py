"""OpenCode's snapshots of a project, made as OpenCode makes them, and the lines of steps around them."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from agent_trace_sidecar.opencode.wire import CallChange, Observed
from agent_trace_sidecar.workspace.observer import Observer
from tests.support.envelopes import SESSION, Shim
from tests.support.waiting import eventually

_TICK_S = 0.02
"""The clock of file systems ticks every few milliseconds, and the sidecar takes 10 for no evidence."""

WHO = {
    f"GIT_{who}_{what}": f"t{'@example.org' if what == 'EMAIL' else ''}"
    for who in ("AUTHOR", "COMMITTER")
    for what in ("NAME", "EMAIL")
}
EARLIER = {"GIT_COMMITTER_DATE": f"@{int(time.time()) - 3600} +0000"}
"""For what git did before the steps, of which some began a while ago: it records whole seconds."""


def git(folder: Path, *args: str, **variables: str) -> str:
    """Run git as nobody in particular, without anyone's settings."""
    base = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    command = ["git", "-c", "init.defaultBranch=main", *args]
    done = subprocess.run(command, cwd=folder, env=base | WHO | variables, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Work:
    """A project under the eyes of an observer; times are seconds from the moment it was made."""

    def __init__(
        self, folder: Path, files: Mapping[str, str], is_secret: Callable[[str], bool] = lambda _: False
    ) -> None:
        """Make a repository with these files committed, and OpenCode's private one beside it."""
        self.root = folder / "repo"
        self.root.mkdir()
        git(self.root, "init", "-q")
        self.files(files)
        git(self.root, "add", "-A")
        git(self.root, "commit", "-qm", "first", **EARLIER)
        name = hashlib.sha1(str(self.root).encode(), usedforsecurity=False).hexdigest()
        self.private = folder / "data" / "opencode" / "snapshot" / "p1" / name
        self.private.parent.mkdir(parents=True)
        git(self.root, "init", "-q", GIT_DIR=str(self.private), GIT_WORK_TREE=str(self.root))
        info = self.private / "objects" / "info"
        info.mkdir(exist_ok=True)
        (info / "alternates").write_text(f"{self.root}/.git/objects\n")
        made = time.time()
        eventually(lambda: time.time() - made > _TICK_S, 5, "what was written is older than what begins now")
        self.began = time.time()
        self.shim = Shim(str(self.root))
        self.observer = Observer(is_secret, data_home=folder / "data")

    def files(self, files: Mapping[str, str | None]) -> None:
        """Write files; None takes one away."""
        for path, text in files.items():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                target.unlink()
            else:
                target.write_bytes(text.encode())

    def tree(self) -> str:
        """What OpenCode calls the present state."""
        place = {"GIT_DIR": str(self.private), "GIT_WORK_TREE": str(self.root)}
        git(self.root, "add", "-A", ".", **place)
        return git(self.root, "write-tree", **place)

    def observe(self, line: bytes) -> Observed:
        """What the observer says of a line."""
        seen = self.observer.observe(line)
        return msgspec.json.decode(seen, type=Observed) if seen else Observed()

    def start(self, at: float = -10, session: str = SESSION, message: str = "msg_1") -> None:
        """A step begins."""
        part = {"type": "step-start", "snapshot": self.tree(), "sessionID": session, "messageID": message}
        self.observe(self.shim.event("message.part.updated", {"part": part}, at=self.ms(at)))

    def finish(self, at: float = 10, session: str = SESSION, message: str = "msg_1") -> dict[str, CallChange]:
        """A step ends: what its calls did."""
        part = {"type": "step-finish", "snapshot": self.tree(), "sessionID": session, "messageID": message}
        seen = self.observe(self.shim.event("message.part.updated", {"part": part}, at=self.ms(at)))
        return {call.call_id: call for call in seen.calls}

    def before(self, call: str, tool: str, args: object, at: float, session: str = SESSION) -> None:
        """A call begins."""
        given = {"tool": tool, "sessionID": session, "callID": call}
        self.observe(self.shim.line("tool.execute.before", given, {"args": args}, at=self.ms(at)))

    def after(  # noqa: PLR0917 - as the hook has it
        self, call: str, tool: str, args: object, metadata: object, at: float, session: str = SESSION
    ) -> Observed:
        """A call has ended."""
        given = {"tool": tool, "sessionID": session, "callID": call, "args": args}
        output = {"title": "", "output": "", "metadata": metadata}
        return self.observe(self.shim.line("tool.execute.after", given, output, at=self.ms(at)))

    def bash(
        self,
        call: str,
        command: str,
        files: Mapping[str, str | None],
        *,
        window: tuple[float, float] = (-1, 10),
        tool: str = "bash",
        session: str = SESSION,
    ) -> None:
        """A bash call, or one of another silent tool, that writes these files."""
        self.before(call, tool, {"command": command}, window[0], session)
        self.files(files)
        self.after(call, tool, {"command": command}, {}, window[1], session)

    def write(self, call: str, path: str, text: str, session: str = SESSION) -> Observed:
        """OpenCode's write tool, on a file that was written long before."""
        exists = (self.root / path).exists()
        if exists:
            os.utime(self.root / path, (1, 1))
        args = {"filePath": path, "content": text}
        self.before(call, "write", args, 0, session)
        self.files({path: text})
        return self.after(call, "write", args, {"exists": exists}, 5, session)

    def ms(self, at: float) -> float:
        """A time as the shim says it."""
        return (self.began + at) * 1000
