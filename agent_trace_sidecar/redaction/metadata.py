"""AGENT_TRACE_CAPTURE=metadata: names, ids, times, tokens, costs, paths, ranges and hashes stay, contents go.

By an allow-list of keys: a string under a key that is not listed is withheld, so a field that a later OpenCode brings
is withheld too. Withheld text keeps its number of lines, and a diff its headers and marks, so that ranges come out the
same; the hash of a withheld line says nothing about the file.
"""

# ruff: noqa: SIM905, E501 - long lists of words are read and sorted as text

from typing import Any, Final

WITHHELD: Final = "[WITHHELD]"

_PATHS: Final = frozenset(
    "directory worktree path filePath filepath relativePath movePath file files cwd root outputPath sandboxes paths".split()
)
_NAMES: Final = frozenset(
    "id sessionID sessionId messageID messageId callID callId parentID parentId parentSessionId projectID partID "
    "providerID modelID model provider agent mode role type event tool status hook instance finish reason hash snapshot "
    "version shim opencode api vcs variant slug priority permission action subagent_type revision branch created updated "
    "spec_version language mime encoding operation".split()
)
_DIFFS: Final = frozenset({"diff", "patch", "patchText"})
_ARGUMENTS: Final = frozenset({"args", "arguments", "input", "raw", "metadata", "todos", "parameters"})
_HEADERS: Final = ("--- ", "+++ ", "diff --git ", "Index: ", "index ", "===", "*** ")
_ENVELOPE: Final = 2
"""How deep `input` is the envelope's own field and not a tool's arguments."""


def without_contents(line: object) -> object:
    """A decoded line with every content withheld."""
    return _walk(line, "", arguments=False, depth=0)


def _walk(node: object, key: str, *, arguments: bool, depth: int) -> object:
    if isinstance(node, dict):
        inside = arguments or (key in _ARGUMENTS and (depth >= _ENVELOPE or key != "input"))
        return {k: _walk(v, str(k), arguments=inside, depth=depth + 1) for k, v in _entries(node, arguments=inside)}
    if isinstance(node, list):
        return [_walk(item, key, arguments=arguments, depth=depth + 1) for item in node]
    return _text(node, key, arguments=arguments) if isinstance(node, str) else node


def _entries(node: dict[Any, Any], *, arguments: bool) -> list[tuple[Any, Any]]:
    """The members; those whose names are contents themselves (a map of the user's own) lose them."""
    if not arguments or all(isinstance(k, str) and k.isidentifier() and len(k) <= 40 for k in node):  # noqa: PLR2004
        return list(node.items())
    return [(f"withheld{n}", value) for n, value in enumerate(node.values())]


def _text(value: str, key: str, *, arguments: bool) -> str:
    if key in _PATHS or not value:
        return value
    if key in _DIFFS:
        return _diff(value)
    if key in _NAMES and not arguments and len(value) <= 256 and "\n" not in value:  # noqa: PLR2004 - longer is no name
        return value
    return WITHHELD + "\n" * value.count("\n")


def _diff(value: str) -> str:
    """A diff with its headers and the first character of each line."""
    return "\n".join(_diff_line(line) for line in value.split("\n"))


def _diff_line(line: str) -> str:
    if line.startswith("@@"):
        end = line.find("@@", 2)
        return line[: end + 2] if end > 0 else "@@"
    return line if line.startswith(_HEADERS) else line[:1] if line[:1] in {"+", "-", " ", "\\"} else ""
