"""OpenCode's dialects; `Envelope.api` names the one of an event."""

import msgspec

from agent_trace_sidecar.opencode import v1, v1_tools, v2, v2_tools
from agent_trace_sidecar.opencode.events import CallDone, FileEdit, Seen
from agent_trace_sidecar.opencode.wire import Envelope


class _BeforeOutput(msgspec.Struct):
    args: msgspec.Raw = msgspec.Raw()


class _Command(msgspec.Struct):
    workdir: str | None = None
    background: bool | None = None


_command = msgspec.json.Decoder(_Command)
_before_output = msgspec.json.Decoder(_BeforeOutput)


def read(envelope: Envelope) -> Seen:
    """Translate a line into what the builder understands; an unknown dialect is stored, not interpreted."""
    match envelope.api:
        case 1:
            return v1.read(envelope)
        case 2:
            return v2.read(envelope)
        case _:
            return Seen(envelope.hook, note=f"plugin API {envelope.api} is not known: stored, not interpreted")


def changes_files(api: int, tool: str) -> bool:
    """Whether a tool reports the files that it changes."""
    return (api == 1 and tool in v1_tools.FILE_TOOLS) or (api == 2 and tool in v2_tools.FILE_TOOLS)  # noqa: PLR2004


def may_change_unseen(api: int, tool: str) -> bool:
    """Whether a tool may change files without saying so: bash, and every tool that is not known here."""
    if api == 2:  # noqa: PLR2004 - OpenCode 2
        return tool not in v2_tools.FILE_TOOLS and tool not in v2_tools.QUIET_TOOLS
    return api == 1 and tool not in v1_tools.FILE_TOOLS and tool not in v1_tools.SILENT_TOOLS


def file_edits(api: int, done: CallDone) -> tuple[FileEdit, ...]:
    """The file edits that a finished call reports.

    Raises:
        ValueError: its arguments are not what the tool takes.
        RecursionError: they are nested beyond what can be decoded.
    """
    if api == 2:  # noqa: PLR2004 - OpenCode 2
        return v2_tools.file_edits(done.tool, done.args, done.metadata)
    return v1_tools.file_edits(done.tool, done.args, done.metadata) if api == 1 else ()


def before_args(envelope: Envelope) -> msgspec.Raw:
    """The arguments of a call that is about to begin; errors as for `file_edits`."""
    return v2.arguments(envelope) if envelope.api == 2 else _before_output.decode(envelope.output).args  # noqa: PLR2004


def named_paths(api: int, tool: str, args: msgspec.Raw) -> tuple[str, ...]:
    """The files a call is about to change, as its arguments name them; errors as for `file_edits`."""
    if api == 2:  # noqa: PLR2004 - OpenCode 2
        return v2_tools.named_paths(tool, args)
    return v1_tools.named_paths(tool, args) if api == 1 else ()


def working_folder(args: msgspec.Raw) -> str | None:
    """The folder that a command runs in, if it names one."""
    return _decoded(args).workdir


def in_background(args: msgspec.Raw) -> bool:
    """Whether a command is to run on after its call has ended."""
    return bool(_decoded(args).background)


def _decoded(args: msgspec.Raw) -> _Command:
    try:
        return _command.decode(args) if len(args) else _Command()
    except (ValueError, RecursionError):
        return _Command()
