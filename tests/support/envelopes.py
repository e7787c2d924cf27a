"""Lines in the wire's form: recorded ones, and made ones that look like the shim's."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from agent_trace_sidecar.opencode.wire import Envelope, parse

DATA = Path(__file__).parents[1] / "data"
RECORDINGS = sorted(path.stem for path in (DATA / "recordings").glob("*.jsonl"))
INSTANCE = UUID("11111111-2222-4333-8444-555555555555")
SESSION, MESSAGE, CALL = "ses_1", "msg_1", "call_1"


def recorded_lines(name: str) -> list[bytes]:
    """The lines of a recording, without their newlines."""
    return (DATA / "recordings" / f"{name}.jsonl").read_bytes().splitlines()


def envelope(line: bytes) -> Envelope:
    """Parse a line that must be a good one."""
    parsed = parse(line)
    assert isinstance(parsed, Envelope), parsed
    return parsed


def recorded(name: str) -> list[Envelope]:
    """The envelopes of a recording."""
    return [envelope(line) for line in recorded_lines(name)]


class Shim:
    """Makes lines as the shim does: ids and sequence numbers count up."""

    def __init__(self, worktree: str = "/w", directory: str | None = None, at: int = 1_795_327_000_000) -> None:
        self._seq: Iterator[int] = count(1)
        self._worktree, self._directory, self._at = worktree, directory or worktree, at

    def line(self, hook: str, given: object = None, output: object = None, **fields: object) -> bytes:
        """One line; a field of None is left out."""
        seq = next(self._seq)
        whole = {
            "v": 1,
            "id": str(UUID(int=(0x01A201D68E207BD0B47E << 48) + seq)),
            "seq": seq,
            "at": self._at + seq,
            "instance": str(INSTANCE),
            "hook": hook,
            "input": given,
            "output": output,
            "directory": self._directory,
            "worktree": self._worktree,
            **fields,
        }
        named = {name: value for name, value in whole.items() if value is not None}
        return json.dumps(named, ensure_ascii=False, separators=(",", ":")).encode()

    def event(self, kind: str, properties: dict[str, Any], **fields: object) -> bytes:
        """A bus event."""
        return self.line("event", {"event": {"type": kind, "properties": properties}}, **fields)

    def assistant(self, message: str = MESSAGE, session: str = SESSION, **info: object) -> bytes:
        """An assistant's message with its model."""
        whole = {"providerID": "anthropic", "modelID": "claude-x", "agent": "build", "role": "assistant", **info}
        return self.event("message.updated", {"info": {"id": message, "sessionID": session, **whole}})

    def part(self, tool: str, state: dict[str, Any], ids: tuple[str, str, str] = (SESSION, MESSAGE, CALL)) -> bytes:
        """A tool part in some state."""
        named = dict(zip(("sessionID", "messageID", "callID"), ids, strict=True))
        return self.event("message.part.updated", {"part": {"type": "tool", "tool": tool, "state": state, **named}})

    def pending(self, tool: str, ids: tuple[str, str, str] = (SESSION, MESSAGE, CALL)) -> bytes:
        """The announcement of a call."""
        return self.part(tool, {"status": "pending", "input": {}, "raw": ""}, ids)

    def before(self, tool: str, args: object, **fields: object) -> bytes:
        """The hook before a call."""
        return self.line(
            "tool.execute.before", {"tool": tool, "sessionID": SESSION, "callID": CALL}, {"args": args}, **fields
        )

    def after(self, tool: str, args: object, metadata: object, call: str = CALL, **fields: object) -> bytes:
        """The hook after a call."""
        given = {"tool": tool, "sessionID": SESSION, "callID": call, "args": args}
        return self.line("tool.execute.after", given, {"title": "t", "output": "done", "metadata": metadata}, **fields)

    def call(self, tool: str, args: object, metadata: object) -> list[bytes]:
        """All lines of one successful call, the message's first."""
        return [
            self.assistant(),
            self.pending(tool),
            self.before(tool, args),
            self.after(tool, args, metadata),
        ]
