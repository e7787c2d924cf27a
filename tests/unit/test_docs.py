"""What the documentation claims, held against the code."""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain, dropwhile, groupby, takewhile
from pathlib import Path

import pytest

from agent_trace_sidecar import cli
from agent_trace_sidecar.config import PREFIX, Config, load
from agent_trace_sidecar.telemetry.metrics import Metrics
from tests.support.envelopes import DATA, RECORDINGS
from tests.support.markdown import ROOT, anchors, blocks, links, pages, prose, section, table
from tests.support.postgres import PostgresServers, execute, fetch

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PROGRAM = "agent-trace-sidecar"
PAGES = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The commands of the program, each with its parser."""
    parser = cli.whole_parser()
    (sub,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(sub.choices)


PARSERS = parsers()
OPTIONS = {name: {o for a in parser._actions for o in a.option_strings} for name, parser in PARSERS.items()}


# -- README ----------------------------------------------------------------------------------------------------


def test_the_readme_is_one_page() -> None:
    """It leads to the documentation, and does not replace it."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_leads_to_every_page() -> None:
    """A page that is not linked is not found; decisions have an index of their own."""
    linked = {(README.parent / link.partition("#")[0]).resolve() for link in links(README)}
    assert {page for page in pages() if page.parent in (ROOT, DOCS)} <= linked | {README}


def test_the_pictures_are_there_and_small() -> None:
    """As `make screenshots` writes them."""
    pictures = {
        page.parent / name for page in pages() for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text())
    }
    assert len({picture.resolve() for picture in pictures}) == 4
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size < 300_000


# -- links and commands ----------------------------------------------------------------------------------------


@PAGES
def test_links_between_pages_resolve(page: Path) -> None:
    """Files and anchors; addresses outside are not opened."""
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@PAGES
def test_named_files_exist(page: Path) -> None:
    """Files of the project that a sentence names from its root."""
    named = re.findall(r"`((?:agent_trace_sidecar|deploy|docs|migrations|opencode-shim|tests)/[\w./-]*)`", prose(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def calls(script: str) -> Iterator[list[str]]:
    """The calls of the program in a shell script, also in a container: command and arguments."""
    for line in script.replace("\\\n", " ").splitlines():
        for _, words in groupby(shlex.split(line, comments=True), key=lambda word: word in ("&&", "|", ";")):
            simple = list(dropwhile(lambda word: re.match(r"\w+=", word), words))
            simple = simple[4:] if simple[:3] == ["docker", "compose", "exec"] else simple
            if simple[:1] == [PROGRAM]:
                yield list(takewhile(lambda word: word[0] not in "<>", simple[1:]))


def scripts(page: Path) -> Iterator[str]:
    """What a page's blocks of code let a shell do: whole blocks, and lines after a prompt."""
    for block in blocks(page):
        if block.language == "sh":
            yield block.text
        elif not block.language:
            yield "\n".join(re.findall(r"^\$ (.*)$", block.text, re.MULTILINE))


def test_calls_are_found_in_scripts() -> None:
    """So the test below looks at what it should."""
    script = "cd x && X=1 agent-trace-sidecar prune --older-than \\\n 9d > log # agent-trace-sidecar run\n"
    script += "pip uninstall agent-trace-sidecar\ndocker compose exec sidecar agent-trace-sidecar status\n"
    assert list(calls(script)) == [["prune", "--older-than", "9d"], ["status"]]


@PAGES
def test_commands_in_code_blocks_work_as_they_are_printed(page: Path) -> None:
    """Each is accepted by the parser."""
    for words in chain.from_iterable(map(calls, scripts(page))):
        try:
            cli.whole_parser().parse_args(words[:1] if words[0] == "psql" else words)
        except SystemExit:
            pytest.fail(f"{page.name}: {' '.join(words)}")


@PAGES
def test_commands_in_sentences_exist(page: Path) -> None:
    """With the options that are named: `agent-trace-sidecar stats --by`, `export --range A..B`."""
    for code in re.findall(r"`([^`]+)`", prose(page)):
        words = code.split()
        own = words[0] == PROGRAM
        words = words[1:] if own else words
        if not words or (not own and (words[0] not in PARSERS or words[0] == "psql")):
            continue
        if words[0] not in ("COMMAND", "--version"):
            assert words[0] in PARSERS, code
            assert {w.strip("[]") for w in words if w.startswith(("--", "[--"))} <= OPTIONS[words[0]], code


# -- reference -------------------------------------------------------------------------------------------------


def test_every_command_is_documented_and_no_other() -> None:
    """A command that is not documented is not there for a user."""
    assert set(table(section(DOCS / "reference.md", "Commands"))) == set(PARSERS)


def test_every_setting_is_documented_with_its_default() -> None:
    """And no other."""
    documented = table(section(DOCS / "reference.md", "Settings"))
    assert set(documented) == {PREFIX + name.upper() for name in Config.__struct_fields__} | {"DATABASE_URL"}
    defaults = load({"HOME": "/h"})
    for name in ("batch_size", "flush_ms", "retry_max", "capture", "spec_version", "tool_name", "tool_version"):
        assert documented[PREFIX + name.upper()][0] == f"`{getattr(defaults, name)}`"


def test_every_metric_is_documented_and_no_other() -> None:
    """Operators' alerts are made of them."""
    documented = section(DOCS / "operations.md", "Metrics").split("\n\n")[1]
    named = {re.sub(r"\{.*", "", name) for name in re.findall(r"`(\w+(?:\{\w+\})?)`", documented)}
    full = {f"agent_trace_sidecar{name}" if name.startswith("_") else name for name in named}
    assert full == set(re.findall(r"^# TYPE (\w+)", Metrics().render("0").decode(), re.MULTILINE))


def test_the_layers_are_documented_as_the_import_contract_has_them() -> None:
    """The table of the tree is the contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    documented: dict[str, set[str]] = {}
    tree = section(DOCS / "architecture.md", "The tree")
    for layer, package in re.findall(r"^\| (\d+) \| `(\w+)` \|", tree, re.MULTILINE):
        documented.setdefault(layer, set()).add(package)
    assert list(documented.values()) == [set(re.split(" [|:] ", layer)) for layer in contracts[0]["layers"]]


# -- tables ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recordings_url(postgres_servers: PostgresServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with all recordings in it."""
    with postgres_servers.database(migrated=True) as url:
        files = [str(DATA / "recordings" / f"{name}.jsonl") for name in RECORDINGS]
        state = str(tmp_path_factory.mktemp("state"))
        subprocess.run(
            [sys.executable, "-m", "agent_trace_sidecar", "replay", *files],
            env={**os.environ, "DATABASE_URL": url, "AGENT_TRACE_STATE_DIR": state},
            check=True,
            capture_output=True,
        )
        yield url


COLUMNS = """
SELECT c.relname AS name, c.relkind = 'v' AS is_view, a.attname AS col,
       replace(format_type(a.atttypid, NULL), 'timestamp with time zone', 'timestamptz') AS type
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relname LIKE 'agent\\_trace\\_%' AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
  AND pg_table_is_visible(c.oid)
ORDER BY c.relname, a.attnum
"""


def test_the_data_dictionary_has_every_column_of_every_table(recordings_url: str) -> None:
    """With its type, in the order of the table."""
    tables: dict[str, list[tuple[str, str]]] = {}
    for row in fetch(recordings_url, COLUMNS):
        if not row["is_view"]:
            tables.setdefault(row["name"], []).append((row["col"], row["type"]))
    assert set(table(section(DOCS / "tables.md", "Tables"))) == set(tables)
    for name, columns in tables.items():
        documented = table(section(DOCS / "tables.md", f"`{name}`"))
        assert sorted((col, cells[0]) for col, cells in documented.items()) == sorted(columns), name


def test_every_view_is_documented_with_its_columns(recordings_url: str) -> None:
    """And no other."""
    views: dict[str, list[str]] = {}
    for row in fetch(recordings_url, COLUMNS):
        if row["is_view"]:
            views.setdefault(row["name"], []).append(row["col"])
    documented = table(section(DOCS / "tables.md", "Views"))
    assert {name: re.findall(r"`(\w+)`", cells[1]) for name, cells in documented.items()} == views


def test_the_statements_for_uninstalling_leave_nothing(migrated_url: str) -> None:
    """As they are printed, by whoever owns the tables."""
    (script,) = [block.text for block in blocks(DOCS / "upgrade-and-uninstall.md") if block.language == "sql"]
    execute(migrated_url, *script.split(";\n")[:-1])
    left = "SELECT relname FROM pg_class WHERE relname LIKE 'agent\\_trace%' UNION ALL "
    left += "SELECT proname FROM pg_proc WHERE proname LIKE 'agent\\_trace%'"
    assert fetch(migrated_url, left) == []


COOKBOOK = DOCS / "sql-cookbook.md"
QUERIES = [block.text for block in blocks(COOKBOOK) if block.language == "sql"]


def test_the_cookbook_has_ten_queries() -> None:
    """Each with a heading of its own."""
    assert len(QUERIES) == len(re.findall(r"^## \d+\. ", COOKBOOK.read_text(), re.MULTILINE)) == 10


@pytest.mark.parametrize("query", QUERIES, ids=range(1, len(QUERIES) + 1))
def test_a_query_of_the_cookbook_answers(recordings_url: str, query: str) -> None:
    """Over recorded sessions each has rows, as it is printed."""
    assert fetch(recordings_url, query)
