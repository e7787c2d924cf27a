"""OpenCode's dialects; `Envelope.api` says which one a line is in."""

import msgspec

from agent_trace_sidecar.events import CallDone, FileEdit, Seen
from agent_trace_sidecar.opencode import v1, v1_tools
from agent_trace_sidecar.wire import Envelope


def read(envelope: Envelope) -> Seen:
    """Translate a line into what the builder understands; a dialect we don't speak is stored, not interpreted."""
    if envelope.api == 1:
        return v1.read(envelope)
    return Seen(envelope.hook, note=f"plugin API {envelope.api} is not known: stored, not interpreted")


def changes_files(api: int, tool: str) -> bool:
    """Whether a tool changes files and says which."""
    return api == 1 and tool in v1_tools.FILE_TOOLS


def may_change_unseen(api: int, tool: str) -> bool:
    """Whether a tool may change files without saying so: bash, and every tool that is not known here."""
    return api == 1 and tool not in v1_tools.FILE_TOOLS and tool not in v1_tools.SILENT_TOOLS


def file_edits(api: int, done: CallDone) -> tuple[FileEdit, ...]:
    """What a finished call says it did to files.

    Raises:
        ValueError: its arguments are not what the tool takes.
        RecursionError: they are nested beyond what can be decoded.
    """
    return v1_tools.file_edits(done.tool, done.args, done.metadata) if api == 1 else ()


def named_paths(api: int, tool: str, args: msgspec.Raw) -> tuple[str, ...]:
    """The files a call is about to change, as its arguments name them; errors as for `file_edits`."""
    return v1_tools.named_paths(tool, args) if api == 1 else ()
