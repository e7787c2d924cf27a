"""The fast driver: does the calls itself and tells the real sidecar, line by line as the shim would, without OpenCode.

It is kinder than the world, as the sidecar has acknowledged all lines before a file changes; it is for thousands of
operations. The figures that are reported come from `real.py`.
"""

import difflib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.simulator.lines import Doc
from tests.simulator.model import Planned
from tests.simulator.play import Script
from tests.simulator.world import Effect, World
from tests.support.waiting import exit_code, patient


class Sidecar:
    """`agent-trace-sidecar run`, and the shim's end of its pipes."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self._instance = str(uuid.uuid4())
        self._seq = 0
        self._acked = 0
        self._said = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, place: Mapping[str, str], hook: str, given: object, output: object = None) -> None:
        """Send one line."""
        self._seq += 1
        line: dict[str, Any] = {"v": 1, "id": str(uuid.uuid4()), "seq": self._seq, "at": time.time_ns() // 1_000_000}
        line |= {"instance": self._instance, "hook": hook, "input": given, **place}
        if output is not None:
            line["output"] = output
        assert self.process.stdin
        self.process.stdin.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
        self.process.stdin.flush()

    def settle(self) -> None:
        """Wait until the sidecar has acknowledged all lines: it has read what they are about."""
        with self._said:
            assert self._said.wait_for(lambda: self._acked >= self._seq, patient(20)), "a line is not acknowledged"

    def finish(self) -> None:
        """Say that there is no more, and wait until all is delivered."""
        assert self.process.stdin
        self.process.stdin.close()
        assert exit_code(self.process, 60) == 0

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._said:
                self._acked = json.loads(line)["ack"]
                self._said.notify_all()


@contextmanager
def sidecar(url: str, folder: Path) -> Iterator[Sidecar]:
    """Run a sidecar that writes to a database, and let it deliver everything at the end."""
    env = os.environ | {"AGENT_TRACE_DATABASE_URL": url, "AGENT_TRACE_STATE_DIR": str(folder / "state")}
    env["XDG_DATA_HOME"] = str(folder / "data")
    command = [sys.executable, "-m", "agent_trace_sidecar", "run"]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Sidecar(process)
        finally:
            process.kill()


class FastDriver:
    """Does what a script says in one project."""

    def __init__(self, world: World, sidecar: Sidecar, data: Path) -> None:
        self._world = world
        self._sidecar = sidecar
        self._place = {"directory": str(world.root), "worktree": str(world.root)}
        self._project = world.git("rev-list", "--max-parents=0", "HEAD").split()[0]
        folder = hashlib.sha1(str(world.root).encode()).hexdigest()  # noqa: S324 - as OpenCode names it
        self._snapshots = data / "opencode" / "snapshot" / self._project / folder
        self._snapshots.mkdir(parents=True)
        (world.root / ".git" / "opencode").write_text(self._project)  # where OpenCode itself remembers it
        self._git("init", "-q")
        self._session = ""
        self._asked = ""
        self._serial = 0
        project = {"id": self._project, "worktree": str(world.root), "vcs": "git"}
        self._send("hello", {"shim": "0.0.0", "opencode": "1.18.33", "api": "v1", "project": project})
        sidecar.settle()

    def session(self) -> None:
        """Begin a new session."""
        self._session = self._open(None)
        self._sidecar.settle()

    def prompt(self, model_id: str, script: Script) -> None:
        """Do one turn to its end."""
        self._run(self._session, model_id, script)
        self._sidecar.settle()

    def undo(self, docs: Mapping[str, Doc]) -> None:
        """Revert the last turn."""
        self._reset(docs)
        self._update({"messageID": self._asked, "snapshot": self._snapshot()})

    def redo(self, docs: Mapping[str, Doc]) -> None:
        """Take the revert back."""
        self._reset(docs)
        self._update(None)

    def _reset(self, docs: Mapping[str, Doc]) -> None:
        for path in self._world.on_disk().keys() - docs.keys():
            self._world.remove(path)
        for path in docs:
            self._world.write(path)

    def _update(self, revert: Mapping[str, str] | None) -> None:
        info: dict[str, Any] = {"id": self._session, "version": "1.18.33", "directory": str(self._world.root)}
        info |= {"revert": revert} if revert else {}
        self._event("session.updated", {"sessionID": self._session, "info": info})
        self._sidecar.settle()

    def shell(self, model_id: str, command: str, effect: Effect) -> None:
        """Run a command of the user's own, in the session."""
        del effect
        text = {"type": "text", "text": "The following tool was executed by the user", "synthetic": True}
        user = self._message(self._session, model_id, "user", None)
        self._part(self._session, user, text)
        message = self._message(self._session, model_id, "assistant", user)
        call_id = self._id("call")
        state = {"input": {"command": command}, "output": "", "metadata": {}, "title": ""}
        tool = {"type": "tool", "tool": "bash", "callID": call_id}
        self._shell(command)
        self._part(self._session, message, tool | {"state": state | {"status": "completed"}})
        self._sidecar.settle()

    # -- one turn --------------------------------------------------------------------------------------------

    def _run(self, session: str, model_id: str, script: Script) -> None:
        user = self._message(session, model_id, "user", None)
        if session == self._session:
            self._asked = user
        children = {child.marker: child for child in script.children}
        for number, step in enumerate([*script.steps, ()]):
            if number in script.meanwhile:
                self._sidecar.settle()
                script.meanwhile[number]()
            message = self._message(session, model_id, "assistant", user)
            before = self._snapshot()
            self._part(session, message, {"type": "step-start", "snapshot": before})
            calls = [(script.call_id(number, index), call) for index, call in enumerate(step)]
            self._sidecar.settle()
            for _, call in calls:
                self._age(call)
            for call_id, call in calls:
                self._begin(session, message, call_id, call)
            self._sidecar.settle()
            if script.aside and number == len(script.steps) - 1:
                self._world.write(script.aside)
            for call_id, call in calls:
                if call.tool == "task":
                    self._run(self._open(session), model_id, children[call.arguments["prompt"]])
                self._end(session, message, call_id, call)
            after = self._snapshot()
            usage = {"reason": "tool-calls", "tokens": {"input": 1, "output": 1}, "cost": 0}
            self._part(session, message, {"type": "step-finish", "snapshot": after} | usage)
            if before != after:
                self._part(session, message, {"type": "patch", "hash": before, "files": []})
            self._message(session, model_id, "assistant", user, message)
        self._event("session.idle", {"sessionID": session})

    def _begin(self, session: str, message: str, call_id: str, call: Planned) -> None:
        tool = {"type": "tool", "tool": call.tool, "callID": call_id}
        self._part(session, message, tool | {"state": {"status": "pending", "input": {}, "raw": ""}})
        named = {"tool": call.tool, "sessionID": session, "callID": call_id}
        self._send("tool.execute.before", named, {"args": call.arguments})

    def _age(self, call: Planned) -> None:
        """Let the files look as old as they are when a model has thought about them for a while."""
        for effect in call.effects:
            path = self._world.root / (effect.old_path or effect.path)
            if path.exists():
                stamp = time.time() - 1
                os.utime(path, (stamp, stamp))

    def _end(self, session: str, message: str, call_id: str, call: Planned) -> None:
        self._sidecar.settle()
        if call.tool == "bash":
            self._shell(call.arguments["command"])
        for effect in call.effects if call.tool != "bash" else ():
            self._apply(effect)
        metadata = _metadata(self._world.root, call)
        args = _absolute(self._world.root, call)
        named = {"tool": call.tool, "sessionID": session, "callID": call_id, "args": args}
        self._send("tool.execute.after", named, {"title": "", "output": "", "metadata": metadata})
        state = {"status": "completed", "input": args, "output": "", "title": "", "metadata": metadata}
        self._part(session, message, {"type": "tool", "tool": call.tool, "callID": call_id, "state": state})

    def _apply(self, effect: Effect) -> None:
        """Write a file as the whole of this script's call leaves it; later calls of the turn may change it again."""
        root = self._world.root
        if effect.old_path:
            (root / effect.old_path).unlink()
        if not effect.change.after and effect.path not in self._world.docs:
            (root / effect.path).unlink()
            return
        target = root / effect.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes("".join(text + effect.eol for text in effect.change.after).encode())

    def _shell(self, command: str) -> None:
        env = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        for name in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{name}_NAME": "Test", f"GIT_{name}_EMAIL": "test@example.invalid"}
        subprocess.run(["bash", "-c", command], cwd=self._world.root, check=True, capture_output=True, env=env)

    # -- lines -----------------------------------------------------------------------------------------------

    def _id(self, kind: str) -> str:
        self._serial += 1
        return f"{kind}_{self._world.root.name}_{self._serial:06d}"

    def _open(self, parent: str | None) -> str:
        session = self._id("ses")
        info = {"id": session, "version": "1.18.33", "directory": str(self._world.root)}
        self._event("session.created", {"sessionID": session, "info": info | ({"parentID": parent} if parent else {})})
        return session

    def _message(self, session: str, model_id: str, role: str, parent: str | None, done: str = "") -> str:
        provider, _, name = model_id.partition("/")
        message = done or self._id("msg")
        stamp = {"created": 1} | ({"completed": 2} if done else {})
        info: dict[str, Any] = {"id": message, "role": role, "sessionID": session, "agent": "build", "time": stamp}
        if role == "user":
            info["model"] = {"providerID": provider, "modelID": name}
        else:
            info |= {"parentID": parent, "providerID": provider, "modelID": name, "mode": "build"}
        self._event("message.updated", {"sessionID": session, "info": info})
        return message

    def _part(self, session: str, message: str, part: Mapping[str, Any]) -> None:
        part = {"id": self._id("prt"), "sessionID": session, "messageID": message, **part}
        self._event("message.part.updated", {"sessionID": session, "part": part, "time": time.time_ns() // 1_000_000})

    def _event(self, kind: str, properties: object) -> None:
        self._send("event", {"event": {"id": self._id("evt"), "type": kind, "properties": properties}})

    def _send(self, hook: str, given: object, output: object = None) -> None:
        self._sidecar.send(self._place, hook, given, output)

    # -- snapshots -------------------------------------------------------------------------------------------

    def _snapshot(self) -> str:
        self._git("add", "--all", ".")
        return self._git("write-tree").strip()

    def _git(self, *args: str) -> str:
        place = ["--git-dir", str(self._snapshots), "--work-tree", str(self._world.root)]
        command = ["git", "-c", "core.autocrlf=false", *place, *args]
        env = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        cwd = self._world.root
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd, env=env).stdout


def _absolute(root: Path, call: Planned) -> dict[str, Any]:
    path = call.arguments.get("filePath")
    return call.arguments | ({"filePath": str(root / path)} if path else {})


def _metadata(root: Path, call: Planned) -> dict[str, Any]:
    """What the tools of OpenCode 1.18 say of files."""
    if call.tool == "edit":
        effect = call.effects[0]
        patch = _diff(root / effect.path, effect.change.before, effect.change.after)
        return {"diff": patch, "filediff": {"file": str(root / effect.path), "patch": patch}}
    if call.tool == "write":
        effect = call.effects[0]
        return {"filepath": str(root / effect.path), "exists": bool(effect.change.before)}
    if call.tool == "apply_patch":
        files = [_patched(root, effect) for effect in call.effects]
        return {"diff": "".join(file["patch"] for file in files), "files": files}
    return {"output": "", "exit": 0} if call.tool == "bash" else {}


def _patched(root: Path, effect: Effect) -> dict[str, Any]:
    old = effect.old_path or effect.path
    kind = "move" if effect.old_path else "update" if effect.change.before and effect.raw else "delete"
    kind = "add" if not effect.change.before else kind
    patch = _diff(root / old, effect.change.before, effect.raw)
    file = {"filePath": str(root / old), "relativePath": effect.path, "type": kind, "patch": patch}
    return file | ({"movePath": str(root / effect.path)} if effect.old_path else {})


def _diff(path: Path, before: Sequence[str], after: Sequence[str]) -> str:
    """A unified diff; `difflib.unified_diff` itself takes frequent lines for noise and replaces them by themselves."""
    lines = [f"Index: {path}", "=" * 67, f"--- {path}", f"+++ {path}"]
    for group in difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(4):
        (_, i, _, j, _), (_, _, i_end, _, j_end) = group[0], group[-1]
        old, new = (f"{at + (end > at)},{end - at}" for at, end in ((i, i_end), (j, j_end)))
        lines.append(f"@@ -{old} +{new} @@")
        for kind, low, high, new_low, new_high in group:
            if kind == "equal":
                lines += [f" {text}" for text in before[low:high]]
                continue
            lines += [f"-{text}" for text in before[low:high]]
            lines += [f"+{text}" for text in after[new_low:new_high]]
    return "\n".join(lines) + "\n"
