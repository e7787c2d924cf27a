"""The tools of OpenCode 1.x that report which files they change: one function and one row each.

A tool that is in neither table changes files unseen, so a test holds every tool of the recordings against them.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from agent_trace_sidecar.opencode.events import FileEdit, FileKind

Fields: TypeAlias = dict[str, Any]

_FILE_HEADER: Final = re.compile(
    r"^--- (?:a/)?([^\t\n]*)(?:\t.*)?\n\+\+\+ (?:b/)?([^\t\n]*)(?:\t.*)?\n(?=@@ )", re.MULTILINE
)
_PATCH_VERB: Final = re.compile(r"^\*\*\* (Add|Update|Delete) File: (.+)", re.MULTILINE)
_MAX_COMPARED_LINES: Final = 500
"""Between the first and the last line that differ: comparing takes up to the cube of their number."""
_MAX_PAIRS: Final = 100_000
"""Of a patch's files and the diffs of one result: each name is compared with each."""
_KINDS: Final[dict[str, FileKind]] = {
    "add": "add",
    "update": "update",
    "delete": "delete",
    "move": "move",
    "Add": "add",
    "Update": "update",
    "Delete": "delete",
}


def file_edits(tool: str, args: msgspec.Raw, metadata: msgspec.Raw) -> tuple[FileEdit, ...]:
    """The file edits that a finished call reports; none for a tool that changes none.

    Raises:
        ValueError: the arguments are not what the tool takes.
        RecursionError: they are nested beyond what can be decoded.
    """
    reader = FILE_TOOLS.get(tool)
    if reader is None:
        return ()
    return tuple(reader(_fields(_decoded(args)), _fields(_decoded(metadata))))


def _write(args: Fields, metadata: Fields) -> Iterator[FileEdit]:
    path = _text(args, "filePath") or _text(metadata, "filepath")
    content = _text(args, "content")
    if path is None or content is None:
        raise ValueError("write without filePath or content")
    yield FileEdit(path, "add" if metadata.get("exists") is False else "update", content=content)


def _edit(args: Fields, metadata: Fields) -> Iterator[FileEdit]:
    path, old, new = _text(args, "filePath"), _text(args, "oldString"), _text(args, "newString")
    if path is None or new is None:
        raise ValueError("edit without filePath or newString")
    diff = _diff(metadata)
    creates = not old and diff is not None and "\n@@ -0,0 " in diff
    yield FileEdit(
        path,
        "add" if creates else "update",
        diffs=(diff,) if diff else (),
        content=new if creates else None,
        replaced=((old or "", new),),
    )


def _multiedit(args: Fields, metadata: Fields) -> Iterator[FileEdit]:
    path = _text(args, "filePath")
    if path is None:
        raise ValueError("multiedit without filePath")
    edits = [_fields(edit) for edit in _list(args, "edits")]
    diffs = [_diff(_fields(result)) for result in _list(metadata, "results")]
    known = tuple(diff for diff in diffs if diff)
    yield FileEdit(
        path,
        "update",
        diffs=known if len(known) == len(edits) else (),
        replaced=tuple((_text(edit, "oldString") or "", _text(edit, "newString") or "") for edit in edits),
    )


def _apply_patch(args: Fields, metadata: Fields) -> Iterator[FileEdit]:
    requested = list(requested_edits(_text(args, "patchText") or ""))
    files = [_fields(file) for file in _list(metadata, "files")]
    if not files:
        yield from _patched(requested, _text(metadata, "diff") or "")
        return
    added = {edit.path: edit.content for edit in requested if edit.kind == "add"}
    for file in files:
        path, kind = _text(file, "filePath"), _KINDS.get(_text(file, "type") or "")
        if path is None or kind is None:
            raise ValueError("apply_patch with a file without path or type")
        moved, diff = _text(file, "movePath"), _text(file, "patch") or _text(file, "diff")
        content = added.get(path) or added.get(_text(file, "relativePath") or "") if kind == "add" else None
        yield FileEdit(
            moved or path,
            "move" if moved else kind,
            old_path=path if moved else None,
            diffs=(diff,) if diff else (),
            content=content,
        )


def _patched(requested: list[FileEdit], diff: str) -> Iterator[FileEdit]:
    """The same from one diff of all files, for versions that do not list them."""
    pieces: dict[str, str] = {}
    headers = list(_FILE_HEADER.finditer(diff))
    for header, following in zip(headers, [*headers[1:], None], strict=False):
        piece = diff[header.start() : following.start() if following else len(diff)]
        pieces[header[2]] = pieces[header[1]] = piece
    if len(pieces) * len(requested) > _MAX_PAIRS:
        pieces = {}
    for edit in requested:
        named = (name for name in pieces for path in (edit.path, edit.old_path) if path and _same(name, path))
        piece = pieces.get(next(named, ""), "")
        yield FileEdit(
            edit.path, edit.kind, edit.old_path, (piece,) if piece else (), content=edit.content, replaced=edit.replaced
        )


def _same(name: str, path: str) -> bool:
    return name == path or name.endswith("/" + path) or path.endswith("/" + name)


def requested_edits(patch: str) -> Iterator[FileEdit]:
    """The files a patch in OpenCode's own format names, with the text it adds."""
    verbs = list(_PATCH_VERB.finditer(patch))
    for verb, following in zip(verbs, [*verbs[1:], None], strict=False):
        body = patch[verb.end() : following.start() if following else len(patch)].split("\n")[1:]
        kind, path = _KINDS[verb[1]], verb[2].strip()
        target = next((line[13:].strip() for line in body if line.startswith("*** Move to: ")), None)
        added = [line[1:] for line in body if line.startswith("+")]
        yield FileEdit(
            target or path,
            "move" if target else kind,
            old_path=path if target else None,
            content="".join(line + "\n" for line in added) if kind == "add" else None,
            replaced=(("", "\n".join(added)),) if kind == "update" and added else (),
        )


FILE_TOOLS: Final[dict[str, Callable[[Fields, Fields], Iterator[FileEdit]]]] = {
    "apply_patch": _apply_patch,
    "edit": _edit,
    "multiedit": _multiedit,
    "patch": _apply_patch,
    "write": _write,
}

SILENT_TOOLS: Final = frozenset(
    {
        "codesearch",
        "glob",
        "grep",
        "invalid",
        "list",
        "lsp",
        "plan_enter",
        "plan_exit",
        "question",
        "read",
        "skill",
        "task",  # the child session's calls are calls of their own
        "todoread",
        "todowrite",
        "webfetch",
        "websearch",
    }
)
"""Tools that change no file themselves."""

UNSEEN_TOOLS: Final = frozenset({"bash"})
"""Tools that change files and don't report them: only a snapshot shows. Any tool not named here (MCP, custom) is
taken for one of them."""


def named_paths(tool: str, args: msgspec.Raw) -> tuple[str, ...]:
    """The files a call is about to change, as its arguments name them.

    Raises:
        ValueError: the arguments are no JSON.
        RecursionError: they are nested beyond what can be decoded.
    """
    if tool not in FILE_TOOLS:
        return ()
    fields = _fields(_decoded(args))
    path = _text(fields, "filePath")
    if path is not None:
        return (path,)
    requested = requested_edits(_text(fields, "patchText") or "")
    return tuple(name for edit in requested for name in (edit.path, edit.old_path) if name)


def _diff(metadata: Fields) -> str | None:
    found = _fields(metadata.get("filediff"))
    return _text(found, "patch") or _text(metadata, "diff") or _compared(_text(found, "before"), _text(found, "after"))


def _compared(before: str | None, after: str | None) -> str | None:
    """A diff of the two contents, which is all that OpenCode 0.15 reports; None where too much differs to compare."""
    import difflib  # noqa: PLC0415 - only OpenCode 0.15 needs it

    if before is None or after is None:
        return None
    old, new = (text.removesuffix("\n").split("\n") if text else [] for text in (before, after))
    start = _same_start(old, new)
    end = _same_start(old[start:][::-1], new[start:][::-1])
    old, new = old[start : len(old) - end], new[start : len(new) - end]
    if max(len(old), len(new)) > _MAX_COMPARED_LINES:
        return None
    lines = ["--- a", "+++ b"]
    for kind, old_from, old_to, new_from, new_to in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if kind != "equal":
            lines.append(f"@@ -{_hunk(start, old_from, old_to)} +{_hunk(start, new_from, new_to)} @@")
            lines += [*("-" + line for line in old[old_from:old_to]), *("+" + line for line in new[new_from:new_to])]
    return "\n".join(lines) + "\n"


def _same_start(old: list[str], new: list[str]) -> int:
    """How many lines both begin with."""
    both = enumerate(zip(old, new, strict=False))
    return next((at for at, (one, two) in both if one != two), min(len(old), len(new)))


def _hunk(start: int, first: int, last: int) -> str:
    """Lines as a hunk's header names them: the first one's number, or that of the line before where there is none."""
    number = start + first + (first < last)
    return f"{number}" if last - first == 1 else f"{number},{last - first}"


def _decoded(raw: msgspec.Raw) -> object:
    return msgspec.json.decode(raw) if len(raw) else None


def _fields(value: object) -> Fields:
    return value if isinstance(value, dict) else {}


def _list(fields: Fields, name: str) -> list[object]:
    value = fields.get(name)
    return value if isinstance(value, list) else []


def _text(fields: Fields, name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None
