"""Every rule of the data files finds its examples and leaves its counter-examples, and nothing in them is unused."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent_trace_sidecar.redaction import Redactor, kingfisher, rules
from agent_trace_sidecar.redaction.prefilter import required_literals
from agent_trace_sidecar.redaction.scanner import Scanner
from tests.support.drawn import drawn

DATA = Path(rules.__file__).parent / "data"
ROWS: list[dict[str, Any]] = [
    row for path in sorted(DATA.glob("*.toml")) for row in tomllib.loads(path.read_text("utf-8")).get("rule", [])
]
FEWEST_EXPORTED = 400
SOURCE = re.compile(r"own|RFC \d{4}|[a-z][\w.-]*\(\d\)|(?:[a-z0-9-]+\.)+[a-z]{2,6}(?:/[\w.~-]+)*")


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


@pytest.mark.parametrize("prefix", ["+", "-", "12:", "src/app.conf:12:", "    12\t", "00012| "])
def test_a_rule_of_lines_knows_them_in_diffs_and_listings(prefix: str) -> None:
    """A diff, `grep -n`, `cat -n` and the agent's own read tool put something before each line."""
    of_lines = [(row, rules.known().rules[n]) for n, row in enumerate(ROWS) if "{{line}}" in row["pattern"]]
    assert of_lines
    for row, rule in of_lines:
        scanner = Scanner([rule], {})
        for text in (drawn(text) for text in row["examples"]):
            assert "\n" in text.rstrip("\n") or scanner.find((prefix + text).encode()), text


@pytest.mark.parametrize("prefix", ["+", "-", "12:", "a.conf-12-", "    12\t", "00012| "])
def test_a_rule_of_several_lines_knows_them_in_diffs_and_listings(prefix: str) -> None:
    """Before each of its lines."""
    of_lines = [(row, rules.known().rules[n]) for n, row in enumerate(ROWS) if "{{next}}" in row["pattern"]]
    assert of_lines
    for row, rule in of_lines:
        for text in (drawn(text) for text in row["examples"]):
            listed = "\n".join(prefix + line for line in text.splitlines())
            assert Scanner([rule], {}).find(listed.encode()), listed


@pytest.mark.parametrize("row", ROWS, ids=[_numbered(row, n) for n, row in enumerate(ROWS)])
def test_a_rule_names_the_source_of_its_form(row: dict[str, Any]) -> None:
    """A site with the vendor's documentation, an RFC or a manual page; "own" where nobody documents it."""
    assert SOURCE.fullmatch(row.get("source", "")), row


def test_the_version_is_a_hash_of_the_data_files() -> None:
    """A changed rule is another rule set: stored rows are masked again, and a cache of the old ones is none."""
    assert re.fullmatch(r"[0-9a-f]{12}", rules.version())


def test_no_part_of_the_engine_knows_a_rule_by_its_id() -> None:
    """What a rule needs stands in its row."""
    own = {"assignment", "near-secret-word", "near-provider", "surroundings", "private-key", "secret-file"}
    detectors = own | {"table-column", "known-value", "manifest"}
    sources = "\n".join(path.read_text("utf-8") for path in Path(rules.__file__).parent.rglob("*.py"))
    assert [row["id"] for row in ROWS if row["id"] not in detectors and f'"{row["id"]}"' in sources] == []


def test_no_gate_and_no_list_of_words_is_unused() -> None:
    """What the engine does not read is dead knowledge, and a name that is not there fails at the first text only."""
    engine = Path(rules.__file__).parent
    sources = [path.read_text("utf-8") for path in engine.rglob("*.py")]
    read: set[tuple[str, str, str]] = set()
    for source in sources:
        for name, kind, part in re.findall(r"^(\w+): Final = (Gates|Words)\(\"([\w.]+)\"", source, re.MULTILINE):
            read |= {(kind.lower(), part, used) for used in re.findall(rf"(?<![\w.]){name}\.(\w+)", source)}
    fragments = re.findall(r"\{\{(\w+)\.(\w+)\}\}", "\n".join(path.read_text("utf-8") for path in DATA.glob("*.toml")))
    read |= {("words", part, used) for part, used in fragments}
    known = rules.known()
    there = {("gates", part, name) for part, gates in known.gates.items() for name in gates if name != "linear"}
    there |= {("gates", part, name) for part, gates in known.gates.items() for name in gates.get("linear", ())}
    there |= {("words", part, name) for part, lists in known.words.items() for name in lists}
    taken = {row["take"] for row in known.decisions["bare"] if "take" in row}
    read |= {("gates", "values", name) for name in taken - {"core"}}
    by_name = {("gates", "secret_files", "path")} | {one for one in there if one[1] in {"marks", "kingfisher.keywords"}}
    assert read - there == set()
    assert there - read - by_name == set()


def test_every_mark_starts_a_detector() -> None:
    """The words of `marks` are looked for in every text; a detector takes them by name."""
    engine = Path(rules.__file__).parent
    sources = "\n".join(path.read_text("utf-8") for path in engine.rglob("*.py"))
    assert [name for name in rules.known().words["marks"] if f'marks.get("{name}"' not in sources] == []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"(?i)\bghp_[A-Za-z0-9]{36}\b", ["ghp_"]),
        (r"(?:api|auth)[_-]?key\s*=", ["api-key", "api_key", "apikey", "auth-key", "auth_key", "authkey"]),
        (r"x?secret(?P<n>[0-9]+)", ["secret", "xsecret"]),
        (r"(?:ab)+c", ["ab"]),
        (r"[a-z]{8}|token", []),
        (r"[a-z]*", []),
        (r"(unclosed", []),
    ],
)
def test_keywords_are_read_off_a_pattern(pattern: str, words: list[str]) -> None:
    """One of them is in every match; none where a match may do without."""
    assert required_literals(pattern) == words


def test_the_cache_is_private_and_whole(tmp_path: Path) -> None:
    """Readable for its owner alone; one that others may write, a link, and one without rules are none."""
    exported = kingfisher.export(tmp_path)
    assert len(exported) > FEWEST_EXPORTED
    (file,) = tmp_path.glob("redaction-rules-*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert kingfisher.load(tmp_path) == exported
    whole = file.read_bytes()
    file.chmod(0o666)
    assert kingfisher.load(tmp_path) is None
    file.chmod(0o600)
    for wrong in (b"[]", b"{}", b'{"known":{"rules":[],"gates":{},"words":{},"model":{}},"exported":[]}', whole[:-9]):
        file.write_bytes(wrong)
        assert kingfisher.load(tmp_path) is None
    other = tmp_path / "other.json"
    other.write_bytes(whole)
    file.unlink()
    file.symlink_to(other)
    assert kingfisher.load(tmp_path) is None


def test_rules_work_where_no_cache_can_be_written(tmp_path: Path) -> None:
    """A folder that is a file: each start exports anew."""
    blocked = tmp_path / "state"
    blocked.write_text("")
    redactor = Redactor(cache_dir=blocked / "below")
    value = drawn("p8e-<<lower 32>>")
    assert redactor.text(f"see {value} now") == "see [REDACTED:adobe-client-secret] now"
