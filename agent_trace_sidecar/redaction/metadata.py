"""AGENT_TRACE_CAPTURE=metadata: names, ids, times, tokens, costs, paths, ranges and hashes stay, contents go.

By an allow-list of keys: a string under a key that is not listed is withheld, so a field that a later OpenCode brings
is withheld too. Withheld text keeps its number of lines, and a diff its headers and marks, so that ranges come out the
same; the hash of a withheld line is no evidence about the file.
"""

from typing import Any, Final

import msgspec

from agent_trace_sidecar.redaction.rules import Words

WITHHELD: Final = "[WITHHELD]"
_W: Final = Words("metadata")
_ENVELOPE: Final = 2
"""How deep `input` is the envelope's own field and not a tool's arguments."""
_LONGEST_KEY: Final = 40
_LONGEST_NAME: Final = 256


def without_contents(raw: bytes) -> bytes:
    """A line with every content withheld. Raises DecodeError for one that is no JSON, which is content as a whole."""
    return msgspec.json.encode(_walk(msgspec.json.decode(raw), "", arguments=False, depth=0))


def _walk(node: object, key: str, *, arguments: bool, depth: int) -> object:
    if isinstance(node, dict):
        inside = arguments or (key in _W.arguments and (depth >= _ENVELOPE or key != "input"))
        return {k: _walk(v, str(k), arguments=inside, depth=depth + 1) for k, v in _entries(node, arguments=inside)}
    if isinstance(node, list):
        return [_walk(item, key, arguments=arguments, depth=depth + 1) for item in node]
    return _text(node, key, arguments=arguments) if isinstance(node, str) else node


def _entries(node: dict[Any, Any], *, arguments: bool) -> list[tuple[Any, Any]]:
    """The members; those whose names are contents themselves (a map of the user's own) lose them."""
    if not arguments or all(isinstance(k, str) and k.isidentifier() and len(k) <= _LONGEST_KEY for k in node):
        return list(node.items())
    return [(f"withheld{n}", value) for n, value in enumerate(node.values())]


def _text(value: str, key: str, *, arguments: bool) -> str:
    if key in _W.paths or not value:
        return value
    if key in _W.diffs:
        return _diff(value)
    if key in _W.names and not arguments and len(value) <= _LONGEST_NAME and "\n" not in value:
        return value
    return WITHHELD + "\n" * value.count("\n")


def _diff(value: str) -> str:
    """A diff with its headers and the first character of each line."""
    return "\n".join(_diff_line(line) for line in value.split("\n"))


def _diff_line(line: str) -> str:
    if line.startswith("@@"):
        end = line.find("@@", 2)
        return line[: end + 2] if end > 0 else "@@"
    return line if line.startswith(tuple(_W.headers)) else line[:1] if line[:1] in {"+", "-", " ", "\\"} else ""
