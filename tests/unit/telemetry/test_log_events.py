"""Log lines have stable names: operators' alerts are made of them."""

import ast
import re
from collections.abc import Iterator

from tests.support.markdown import ROOT, section, table

LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def events() -> Iterator[tuple[str, str]]:
    """Every call of a logger in the code: where, and the event's name ("" where that is no constant)."""
    for file in sorted((ROOT / "agent_trace_sidecar").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and is_logger(node.func):
                first = node.args[0] if node.args else None
                name = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
                yield f"{file.name}:{node.lineno}", name


def is_logger(function: ast.expr) -> bool:
    """`logger.info`, `self._logger.error` and the like, or a local variable `log` that is one of them."""
    if isinstance(function, ast.Name):
        return function.id == "log"
    if not isinstance(function, ast.Attribute) or function.attr not in LEVELS:
        return False
    owner = function.value
    return (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")) in {"logger", "_logger"}


def test_every_event_has_a_name_that_is_documented() -> None:
    """And no other is documented."""
    found = list(events())
    assert [where for where, name in found if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []
    documented = table(section(ROOT / "docs" / "operations.md", "Log events"))
    assert sorted({name for _, name in found}) == list(documented)
