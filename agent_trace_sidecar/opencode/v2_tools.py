"""The tools of OpenCode 2.x that report which files they change: one function and one row each.

Their results carry `metadata.files`, a diff per file as the formatter left it.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from agent_trace_sidecar.opencode.events import FileEdit
from agent_trace_sidecar.opencode.v1_tools import requested_edits

Fields: TypeAlias = dict[str, Any]


def file_edits(tool: str, args: msgspec.Raw, result: msgspec.Raw) -> tuple[FileEdit, ...]:
    """The file edits that a finished call reports; none for a tool that changes none.

    Raises:
        ValueError: the arguments are not what the tool takes.
        RecursionError: they are nested beyond what can be decoded.
    """
    reader = FILE_TOOLS.get(tool)
    return tuple(reader(_decoded(args), _decoded(result))) if reader else ()


def _write(args: Fields, result: Fields) -> Iterator[FileEdit]:
    path, content = _text(args, "path"), _text(args, "content")
    if path is None or content is None:
        raise ValueError("write without path or content")
    yield FileEdit(path, "add" if _fields(result, "output").get("existed") is False else "update", content=content)


def _edit(args: Fields, result: Fields) -> Iterator[FileEdit]:
    path, old, new = _text(args, "path"), _text(args, "oldString"), _text(args, "newString")
    if path is None or new is None:
        raise ValueError("edit without path or newString")
    diffs = [diff for _, diff in _diffs(result)]
    yield FileEdit(path, "update", diffs=tuple(diffs[:1]), replaced=((old or "", new),))


def _patch(args: Fields, result: Fields) -> Iterator[FileEdit]:
    """The result lists the files in the patch's order; of a moved one it names the new place only."""
    text = _text(args, "patchText")
    if text is None:
        raise ValueError("patch without patchText")
    requested, reported = list(requested_edits(text)), list(_diffs(result))
    if len(reported) != len(requested):
        by_name = {name: (name, diff) for name, diff in reported}
        reported = [by_name.get(edit.path, ("", "")) for edit in requested]
    for edit, (_, diff) in zip(requested, reported, strict=True):
        yield FileEdit(
            edit.path,
            edit.kind,
            edit.old_path,
            (diff,) if diff else (),
            content=edit.content,
            replaced=() if diff else edit.replaced,
        )


FILE_TOOLS: Final[dict[str, Callable[[Fields, Fields], Iterator[FileEdit]]]] = {
    "edit": _edit,
    "patch": _patch,
    "write": _write,
}

QUIET_TOOLS: Final = frozenset(
    "glob grep list question read skill subagent todowrite webfetch websearch".split()  # noqa: SIM905 - read as text
)
"""Tools that change no file themselves. Any other that is not in FILE_TOOLS, `shell` above all, may do so unseen."""


def named_paths(tool: str, args: msgspec.Raw) -> tuple[str, ...]:
    """The files a call is about to change, as its arguments name them.

    Raises:
        ValueError: the arguments are no JSON.
        RecursionError: they are nested beyond what can be decoded.
    """
    if tool not in FILE_TOOLS:
        return ()
    fields = _decoded(args)
    path = _text(fields, "path")
    if path is not None:
        return (path,)
    requested = requested_edits(_text(fields, "patchText") or "")
    return tuple(name for edit in requested for name in (edit.path, edit.old_path) if name)


def _diffs(result: Fields) -> Iterator[tuple[str, str]]:
    """Name and diff of each file in the result."""
    files = _fields(result, "metadata").get("files") or _fields(result, "output").get("files")
    for file in files if isinstance(files, list) else []:
        if isinstance(file, dict):
            yield _text(file, "file") or "", _text(file, "patch") or ""


def _decoded(raw: msgspec.Raw) -> Fields:
    value = msgspec.json.decode(raw) if len(raw) else None
    return value if isinstance(value, dict) else {}


def _fields(fields: Fields, name: str) -> Fields:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _text(fields: Fields, name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None
