"""Every rule of the data files finds its examples and leaves its counter-examples, and nothing in them is unused."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent_trace_sidecar.redaction import rules
from agent_trace_sidecar.redaction.scanner import Scanner
from tests.support.drawn import drawn

DATA = Path(rules.__file__).parent / "data"
ROWS: list[dict[str, Any]] = [
    row for path in sorted(DATA.glob("*.toml")) for row in tomllib.loads(path.read_text("utf-8")).get("rule", [])
]
FEWEST_EXPORTED = 400


def _numbered(row: dict[str, Any], number: int) -> str:
    return f"{row['id']}-{number}"


@pytest.mark.parametrize("number", range(len(ROWS)), ids=[_numbered(row, n) for n, row in enumerate(ROWS)])
def test_a_rule_finds_its_examples_and_leaves_the_others(number: int) -> None:
    """Alone, without detectors: what another rule finds proves nothing. `<<hex 32>>` is a value drawn at random."""
    row, rule = ROWS[number], rules.known().rules[number]
    assert row["id"] == rule.id
    assert row.get("examples"), "a rule needs examples"
    assert row.get("not_examples"), "a rule needs counter-examples"
    scanner = Scanner([rule], {})
    for text in row["examples"]:
        assert [span.rule for span in scanner.find(drawn(text).encode())], text
    for text in row["not_examples"]:
        assert not scanner.find(drawn(text).encode()), text


def test_the_version_is_a_hash_of_the_data_files() -> None:
    """A changed rule is another rule set: stored rows are masked again, and a cache of the old ones is none."""
    assert re.fullmatch(r"[0-9a-f]{12}", rules.version())


def test_no_part_of_the_engine_knows_a_rule_by_its_id() -> None:
    """What a rule needs stands in its row."""
    own = {"assignment", "near-secret-word", "near-provider", "surroundings", "private-key", "secret-file"}
    detectors = own | {"table-column", "known-value", "manifest"}
    sources = "\n".join(path.read_text("utf-8") for path in Path(rules.__file__).parent.rglob("*.py"))
    assert [row["id"] for row in ROWS if row["id"] not in detectors and f'"{row["id"]}"' in sources] == []
