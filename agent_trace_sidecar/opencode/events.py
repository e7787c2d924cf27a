"""The closed set of things the builder understands; each dialect of OpenCode is translated into these.

An event that holds nothing of use is still a `Seen`: its columns are stored and its `event` is None.
"""

from typing import Literal, TypeAlias

import msgspec

FileKind: TypeAlias = Literal["add", "update", "delete", "move"]


class Hello(msgspec.Struct, frozen=True, gc=False):
    """The shim started in this version of OpenCode."""

    version: str | None
    project_id: str | None = None
    """OpenCode's name for the repository, the same in all its worktrees."""


class SessionSeen(msgspec.Struct, frozen=True, gc=False):
    """A session exists; a subagent's names its parent."""

    session_id: str
    parent_id: str | None
    version: str | None
    project_id: str | None = None
    undone: "Undone | None" = None
    """From where on the session is undone at the moment."""
    created_ms: float | None = None
    """When it was created, in milliseconds since the epoch."""


class Undone(msgspec.Struct, frozen=True, gc=False):
    """Everything from this message on is undone; in the message itself only from the part on, if one is named."""

    message_id: str
    part_id: str | None = None
    paths: tuple[str, ...] | None = None
    """The files that OpenCode has taken back, from the worktree's root; None where that is not known."""


class MessageRemoved(msgspec.Struct, frozen=True, gc=False):
    """A message, or with `part_id` a part of one, is gone for good."""

    session_id: str
    message_id: str
    part_id: str | None = None


class RevertKept(msgspec.Struct, frozen=True, gc=False):
    """What is undone in a session at the moment is gone for good."""

    session_id: str


class MessageSeen(msgspec.Struct, frozen=True, gc=False):
    """A message as it stands now; an assistant's carries the model that writes it."""

    message_id: str
    role: str | None
    provider: str | None
    model: str | None
    agent: str | None
    parent_id: str | None
    """The user message that an assistant message answers."""
    completed_ms: int | float | None = None


class UserCommand(msgspec.Struct, frozen=True, gc=False):
    """This user message announces a command that a person ran (`!cmd`): its calls are not the AI's."""

    message_id: str


class CallOpened(msgspec.Struct, frozen=True, gc=False):
    """A tool call was announced; the only place that names call and message together before the hooks fire."""

    session_id: str
    message_id: str
    call_id: str
    part_id: str | None = None


class CallDone(msgspec.Struct, frozen=True, gc=False):
    """A tool call ended well. `args` and `metadata` stay unopened: most tools change no file."""

    tool: str
    args: msgspec.Raw
    metadata: msgspec.Raw
    title: str | None
    times: "CallTimes | None" = None
    background: str | None = None
    """The name under which its command continues after the call has ended."""


class BackgroundEnded(msgspec.Struct, frozen=True, gc=False):
    """A command that went on in the background has ended."""

    name: str


class CallFailed(msgspec.Struct, frozen=True, gc=False):
    """A tool call ended in an error: of what it has written all the same only a snapshot knows."""

    tool: str
    args: msgspec.Raw = msgspec.Raw()
    times: "CallTimes | None" = None


class CallTimes(msgspec.Struct, frozen=True, gc=False):
    """Where a call is reported by a part of a message, not by its hook: a part may be of a call that ended long ago.

    OpenCode sends a part again when a session is forked or pruned, or the part is edited.
    """

    ended_ms: float | None = None
    """When the call ended, in milliseconds since the epoch."""
    compacted: bool = False
    """Its output was pruned since."""


class PermissionAsked(msgspec.Struct, frozen=True, gc=False):
    """A call waits until a person permits it."""

    session_id: str
    request_id: str
    call_id: str


class PermissionReplied(msgspec.Struct, frozen=True, gc=False):
    """A person has answered."""

    session_id: str
    request_id: str
    allowed: bool


class StepPatched(msgspec.Struct, frozen=True, gc=False):
    """What the answer changed, as OpenCode lists it; the only end of a step that was aborted."""

    session_id: str
    message_id: str
    tree: str
    """The snapshot before the step."""
    files: tuple[str, ...]
    """Absolute paths."""


class StepBegan(msgspec.Struct, frozen=True, gc=False):
    """The model begins an answer, after OpenCode has taken a snapshot of the worktree (None where it takes none)."""

    session_id: str
    message_id: str
    tree: str | None
    by: MessageSeen | None = None
    """Who begins it, where the same event names it."""


class StepEnded(msgspec.Struct, frozen=True, gc=False):
    """All calls of the answer have ended, and OpenCode has taken another snapshot."""

    session_id: str
    message_id: str
    tree: str | None


Event: TypeAlias = (
    Hello
    | SessionSeen
    | MessageSeen
    | MessageRemoved
    | RevertKept
    | UserCommand
    | CallOpened
    | CallDone
    | CallFailed
    | BackgroundEnded
    | PermissionAsked
    | PermissionReplied
    | StepBegan
    | StepEnded
    | StepPatched
)


class Seen(msgspec.Struct, frozen=True, gc=False):
    """One line as its dialect reads it: the columns of the event's row, and what it means."""

    name: str
    session_id: str | None = None
    message_id: str | None = None
    call_id: str | None = None
    tool: str | None = None
    event: Event | None = None
    note: str | None = None
    """Why a line that should have meant something did not."""
    number: int | None = None
    """The place of the event among the durable ones of its session, from 0; of OpenCode 2."""
    skipped: int = 0
    """Durable events of the session before this one that the shim has left out."""
    unknown: int = 0
    """How often the shim has seen this type of event, which it does not know; its content was not sent."""


class FileEdit(msgspec.Struct, frozen=True, gc=False):
    """What one tool call reports to have done to one file; the paths are as the tool wrote them."""

    path: str
    kind: FileKind
    old_path: str | None = None
    diffs: tuple[str, ...] = ()
    """Unified diffs, each against the file as the one before left it. Indentation and CR may be missing in them."""
    content: str | None = None
    """The whole file as the tool wrote it."""
    replaced: tuple[tuple[str, str], ...] = ()
    """Pairs of old and new text, where the tool replaced one by the other."""
