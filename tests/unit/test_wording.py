"""What users read is in the field's terms: no phrase that readers have stumbled over."""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_trace_sidecar import cli
from tests.support.markdown import ROOT, pages, prose

BANNED = re.compile(
    r"by hand as|(?<!there )is no (?!longer|more)|the living |asks nobody|in vain|what became of"
    r"|\bsay (?:what|how|who|whose|for) |goes on where|\bgo on where|makes? a batch go|passes the gate|the gate\b"
    r"|one too many|by their numbers|tried again|\bmend\b|\bmended\b|\bfunnel\b|\bdear\b|so many |with ease"
    r"|brings? them up to date|nobody (?:has|made|knows)|look(?:s|ed)? after|given? up by",
    re.IGNORECASE,
)


def helps() -> Iterator[tuple[str, str]]:
    """The help text of the program and of each command."""
    parser = cli.whole_parser()
    yield "", parser.format_help()
    (sub,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for name, command in sub.choices.items():
        yield name, command.format_help()


def strings() -> Iterator[tuple[str, str]]:
    """The texts in the program: messages, hints and pages, but no docstrings."""
    for file in sorted((ROOT / "agent_trace_sidecar").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node.value


def test_phrases_are_found() -> None:
    """So the tests below look at what they should."""
    assert BANNED.search("That is no range: say what you mean.")
    assert not BANNED.search("Invalid range. Give A..B, e.g. HEAD~3..HEAD.")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_documentation_is_in_the_fields_terms(page: Path) -> None:
    """Without its code blocks."""
    assert BANNED.findall(" ".join(prose(page).split())) == []


def test_help_is_in_the_fields_terms() -> None:
    """Of every command and option."""
    assert [(name, found[0]) for name, text in helps() if (found := BANNED.search(" ".join(text.split())))] == []


def test_messages_are_in_the_fields_terms() -> None:
    """Errors, hints, status and pages."""
    assert [(where, found[0]) for where, text in strings() if (found := BANNED.search(" ".join(text.split())))] == []
