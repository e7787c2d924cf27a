"""What the README claims, held against the code."""

import argparse
import re
from pathlib import Path

from agent_trace_sidecar import cli
from agent_trace_sidecar.config import PREFIX, Config, load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """The table under a heading: its first column without back-ticks, and the other cells."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = [
        [c.strip() for c in line.strip("|").split(" | ")] for line in section.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("`| "): row[1:] for row in cells}


def commands() -> set[str]:
    """The commands of the program."""
    parser = cli.whole_parser()
    (sub,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return set(sub.choices)


def test_the_readme_names_every_command_and_no_other() -> None:
    """A command that is not documented is not there for a user."""
    assert set(rows("Commands")) == commands()


def test_the_readme_names_every_setting_with_its_default() -> None:
    """And no other."""
    table = rows("Settings")
    assert set(table) == {PREFIX + name.upper() for name in Config.__struct_fields__} | {"DATABASE_URL"}
    defaults = load({"HOME": "/h"})
    for name in ("batch_size", "flush_ms", "retry_max", "capture", "spec_version", "tool_name", "tool_version"):
        assert table[PREFIX + name.upper()][0] == f"`{getattr(defaults, name)}`"


def test_the_readme_names_every_table() -> None:
    """As the migrations create them."""
    sql = "".join(path.read_text() for path in (ROOT / "migrations").glob("*.sql"))
    tables = set(re.findall(r"CREATE TABLE IF NOT EXISTS (agent_trace_\w+)", sql))
    partitions = {name for name in tables if re.search(rf"{name}\s+PARTITION OF", sql)}
    assert set(rows("Tables")) == tables - partitions


def test_the_readmes_pictures_are_there_and_small() -> None:
    """As `make screenshots` writes them."""
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(pictures) == 3
    for picture in pictures:
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")
        assert (ROOT / picture).stat().st_size < 300_000
