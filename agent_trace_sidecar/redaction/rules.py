"""The one loader of what is known: rules, gates of context, words and weights, bundled or the user's.

All of it is TOML in `data/`. A rule is a table `[[rule]]` with `id` and `pattern` (RE2 syntax), and if need be
`keywords` (words of which one is in every match; read off the pattern where they are not given), `secret_group` (the
group that is the secret, 0 for the whole match; otherwise the longest group), `check` (what form the value must also
have like, see `judge.CHECKS`), `unless` (a pattern that no match may have), `reach` (bytes behind a keyword that a
match may span), and for tests and readers `examples`, `not_examples` and `source`. `{{name}}` in a pattern stands for a
fragment, `{{part.name}}` for any word of a list.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache, cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import re2

from agent_trace_sidecar.limits.files import read_whole
from agent_trace_sidecar.redaction.prefilter import required_literals

_MAX_FILE_BYTES: Final = 16 * 1024 * 1024
_DATA: Final = Path(__file__).parent / "data"
_ID: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,59}")
_FRAGMENT: Final = re.compile(r"\{\{([\w.]+)\}\}")
_VERDICT: Final = ("form", "take")
"""What a row of a decision list says; its other members are patterns."""
CHECKS: Final = ("any", "password", "chosen", "random", "mixed", "unplain", "token")
"""The form that a value must have where the form around it proves too little; see `judge`."""


_Row = tuple[dict[str, Callable[[Any], object]], dict[str, str]]
"""The tests of a row by their field, and the row."""
_MOST_LEFT: Final = 1000
_FROM_BEGINNING: Final = re.compile(r"(?:\(\?[a-z]+\))?\\A")


class RuleError(ValueError):
    """A rule of the user's file is wrong; the message names the file, the rule and what to do."""


def compiled(pattern: str | bytes) -> Any:  # noqa: ANN401 - google-re2 is untyped
    """A pattern of RE2 for bytes: linear in the text, whatever the text is. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern.encode() if isinstance(pattern, str) else pattern, options)


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A pattern and what of its match is the secret; the fields are those of the file."""

    id: str
    pattern: str
    keywords: tuple[str, ...] = ()
    secret_group: int = -1
    check: str = "any"
    unless: str = ""
    reach: int = 1000
    examples: tuple[str, ...] = ()
    not_examples: tuple[str, ...] = ()
    source: str = ""


class Knowledge(msgspec.Struct):
    """The bundled data, ready for use: fragments are filled in, lists of words are sets."""

    rules: list[Rule]
    gates: dict[str, dict[str, Any]]
    words: dict[str, dict[str, list[str]]]
    decisions: dict[str, list[dict[str, str]]]
    model: dict[str, Any]


@cache
def version() -> str:
    """The version of the bundled rules: a hash of the data files."""
    return sha256(b"\0".join(path.read_bytes() for path in sorted(_DATA.glob("*.toml")))).hexdigest()[:12]


_KNOWN: list[Knowledge] = []


def known(compiled_before: Knowledge | None = None) -> Knowledge:
    """The bundled data; from a cache if that was read first, because to parse it takes 25 ms."""
    if not _KNOWN:
        _KNOWN.append(compiled_before or _parsed())
    return _KNOWN[0]


def _parsed() -> Knowledge:
    import tomllib  # noqa: PLC0415 - 14 ms, and only where the cache is missing

    found: dict[str, Any] = {"rule": [], "fragments": {}, "gates": {}, "words": {}, "decisions": {}, "model": {}}
    for path in sorted(_DATA.glob("*.toml")):
        for part, content in tomllib.loads(path.read_text("utf-8")).items():
            if part == "rule":
                found[part] += content
            else:
                found[part].update(content)
    words = {part: {n: _words(v) for n, v in lists.items()} for part, lists in found["words"].items()}
    lists = {f"{part}.{name}": _either(one) for part, named in words.items() for name, one in named.items()}
    fragments = {**found["fragments"], **lists}
    gates = {part: _filled(patterns, fragments) for part, patterns in found["gates"].items()}
    rules = [_made(msgspec.convert(_filled(row, fragments), Rule)) for row in found["rule"]]
    decisions = {part: [_filled(row, fragments) for row in rows] for part, rows in found["decisions"].items()}
    return Knowledge(rules, gates, words, decisions, found["model"])


def _words(value: str | list[str]) -> list[str]:
    return value.split() if isinstance(value, str) else value


def _either(words: list[str]) -> str:
    """A pattern of RE2 and of re for any of these words."""
    return "|".join(re.escape(word).replace("\\-", "-") for word in sorted(words, key=len, reverse=True))


def _filled(row: dict[str, Any], fragments: dict[str, str]) -> dict[str, Any]:
    """A table with the fragments of its patterns filled in, fragments within fragments too."""

    def fill(value: object) -> object:
        if isinstance(value, dict):
            return {name: fill(inner) for name, inner in value.items()}
        while isinstance(value, str) and _FRAGMENT.search(value):
            value = _FRAGMENT.sub(lambda m: fragments[m[1]], value)
        return value

    return {name: value if name.endswith("examples") else fill(value) for name, value in row.items()}


class Gates:
    """The patterns of one part of `gates.toml`, each compiled at first use: most texts need few of them."""

    def __init__(self, part: str, *, text: bool = False) -> None:
        """`text` are those for str instead of bytes."""
        self._part, self._text = part, text

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a pattern of re or of RE2
        """A compiled pattern, kept so that the next use finds it at once; of RE2 if it is one of the linear."""
        part = known().gates[self._part]
        if linear := part.get("linear", {}).get(name):
            made = compiled(linear)
        else:
            made = re.compile(part[name] if self._text else part[name].encode())
        setattr(self, name, made)
        return made


class Fields(dict[str, Any]):
    """What a decision reads: fields that are known, and those that are made when a row reads one."""

    def __init__(self, made: Mapping[str, Callable[[Any], Any]], **known: object) -> None:
        """`made` makes a field of the others."""
        super().__init__(known)
        self._made = made

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 - text, bytes, or what others are made of
        self[name] = value = self._made[name](self)
        return value


class Decisions:
    """One list of `decisions.toml`: the first row whose patterns all match decides."""

    def __init__(self, part: str, by: tuple[str, ...] = (), *, text: bool = False) -> None:
        """`by` are fields of which a few values are frequent: which rows these leave is remembered.

        `text`: the fields are str instead of bytes.
        """
        self._part, self._by, self._text = part, by, text
        self._left = lru_cache(maxsize=_MOST_LEFT)(self._left_by)

    @cached_property
    def _rows(self) -> list[_Row]:
        rows = known().decisions[self._part]
        return [({name: self._test(one) for name, one in row.items() if name not in _VERDICT}, row) for row in rows]

    def _test(self, pattern: str) -> Callable[[Any], object]:
        """`re` searches for what can only be at the beginning at every place of a long value."""
        made = re.compile(pattern if self._text else pattern.encode())
        return made.match if _FROM_BEGINNING.match(pattern) else made.search

    def _left_by(self, *values: object) -> list[_Row]:
        """The rows that these values of the fields `by` leave, with the tests of the other fields."""
        given = dict(zip(self._by, values, strict=True))
        return [
            ({name: test for name, test in tests.items() if name not in given}, row)
            for tests, row in self._rows
            if all(tests[name](value) for name, value in given.items() if name in tests)
        ]

    def of(self, fields: Mapping[str, Any]) -> dict[str, str] | None:
        """The row that decides about these fields, or None."""
        for tests, row in self._left(*[fields[name] for name in self._by]):
            for name, search in tests.items():
                if not search(fields[name]):
                    break
            else:
                return row
        return None

    def says_yes(self, fields: Mapping[str, Any]) -> bool:
        """Whether the row that decides about these fields says yes."""
        row = self.of(fields)
        return row is not None and row["form"] == "yes"


class Words:
    """The lists of words of one part of `words.toml`, as sets."""

    def __init__(self, part: str) -> None:
        self._part = part

    def __getattr__(self, name: str) -> frozenset[str]:
        """One list, kept."""
        found = frozenset(known().words[self._part][name])
        setattr(self, name, found)
        return found


def read_rules(path: Path) -> list[Rule]:
    """The rules of a user's file: TOML, or JSON lines with the same fields. Raises RuleError."""
    try:
        text = read_whole(path, _MAX_FILE_BYTES).data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RuleError(f"{path}: the redaction rules can't be read: {reason}") from error
    return [_rule(path, number, row) for number, row in enumerate(_rows(path, text), 1)]


def _rows(path: Path, text: str) -> list[object]:
    if path.suffix == ".toml":
        import tomllib  # noqa: PLC0415 - most users have no rules of their own

        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RuleError(f"{path}: not valid TOML: {error}") from error
        rows = tables.pop("rule", [])
        if tables or not isinstance(rows, list):  # a misspelt name would leave a secret unmasked without a word
            raise RuleError(f"{path}: only [[rule]] tables are allowed")
        return rows
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            rows += [msgspec.json.decode(line)] if line.strip() else []
        except msgspec.DecodeError as error:
            raise RuleError(f"{path}, line {number}: not a JSON object: {error}") from error
    return rows


def _rule(path: Path, number: int, row: object) -> Rule:
    """One rule of a file, checked. Raises RuleError."""
    name = row.get("id") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(name, str) or not _ID.fullmatch(name):
        raise RuleError(f"{path}, rule {number}: id must be lower-case letters, digits, '-', '_' or '.', at most 60")
    where = f"{path}, rule {name!r}"
    if unknown := sorted(set(row) - set(Rule.__struct_fields__)):
        raise RuleError(f"{where}: unknown field {unknown[0]!r}; there are {', '.join(Rule.__struct_fields__)}")
    try:
        fields = msgspec.convert(row, Rule)
        pattern = compiled(fields.pattern)
        compiled(fields.unless)
    except msgspec.ValidationError as error:
        raise RuleError(f"{where}: {error}") from error
    except re2.error as error:
        raise RuleError(f"{where}: pattern does not compile: {error.args[0].decode('utf-8', 'replace')}") from error
    if fields.secret_group > pattern.groups:
        raise RuleError(f"{where}: secret_group is {fields.secret_group}, but the pattern has {pattern.groups} groups")
    if pattern.fullmatch(b"") is not None:
        raise RuleError(f"{where}: pattern matches the empty text, so it would match everywhere")
    if fields.check not in CHECKS:
        raise RuleError(f"{where}: check must be one of {', '.join(CHECKS)}")
    return _made(fields)


def _made(rule: Rule) -> Rule:
    """As the engine reads it: with keywords, and without what is there for tests and readers."""
    keywords = tuple(word.lower() for word in rule.keywords) or tuple(sorted(required_literals(rule.pattern) or ()))
    return msgspec.structs.replace(rule, keywords=keywords, examples=(), not_examples=(), source="")
