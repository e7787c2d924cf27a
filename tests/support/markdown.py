"""The documentation as data: pages, tables, code, links and anchors."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]

_FENCE: Final = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ +(.+?)$", re.MULTILINE)


class Code(NamedTuple):
    """A fenced block of code."""

    language: str
    text: str


def pages() -> list[Path]:
    """Every page that users and contributors read."""
    tops = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    return [*filter(Path.exists, tops), ROOT / "opencode-shim" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next heading of its level or above."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found, f"{page.name} has no heading {heading!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def table(text: str) -> dict[str, list[str]]:
    """The rows of the tables in a text whose first cell is code, by that code; the other cells."""
    cells = [[c.strip() for c in line.strip("| ").split(" | ")] for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`| "): row[1:] for row in cells}


def blocks(page: Path) -> Iterator[Code]:
    """The fenced blocks of a page."""
    for _, language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        yield Code(language, text)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[str]:
    """Where a page's links and pictures point."""
    yield from _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    found = set()
    for heading in _HEADING.findall(prose(page)):
        words = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found
