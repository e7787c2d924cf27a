"""Rules of the user's own: a TOML file of `[[rule]]` tables or JSON lines, named by AGENT_TRACE_REDACTION_RULES.

Each has `id` and `pattern` (RE2 syntax), and may have `keywords` (a list of words of which one must occur for the rule
to look at a text) and `secret_group` (the number of the group that is the secret; 0 is the whole match).
"""

import json
import re
from pathlib import Path
from typing import Final, cast

import re2

from agent_trace_sidecar.limits.files import read_whole
from agent_trace_sidecar.redaction.literals import required_literals
from agent_trace_sidecar.redaction.rules import Rule

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,59}")
_MAX_BYTES: Final = 16 * 1024 * 1024
_KNOWN: Final = {"id", "pattern", "keywords", "secret_group"}


class RuleError(ValueError):
    """A rule of the user's file is wrong; the message names the file, the rule and what to do."""


def read_rules(path: Path) -> list[Rule]:
    """The rules of a file. Raises RuleError."""
    try:
        text = read_whole(path, _MAX_BYTES).data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
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
            raise RuleError(f"{path}: rules stand in tables that begin with [[rule]], and nothing else does")
        return rows
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise RuleError(f"{path}, line {number}: not a JSON object: {error}") from error
    return rows


def _rule(path: Path, number: int, row: object) -> Rule:
    if not isinstance(row, dict):
        raise RuleError(f"{path}, rule {number}: must be an object with id and pattern")
    fields = cast("dict[str, object]", row)
    rule_id, pattern = fields.get("id"), fields.get("pattern")
    if not isinstance(rule_id, str) or not _ID.fullmatch(rule_id):
        raise RuleError(f"{path}, rule {number}: id must be lower-case letters, digits, '-', '_' or '.', at most 60")
    where = f"{path}, rule {rule_id!r}"
    if unknown := sorted(set(fields) - _KNOWN):
        raise RuleError(f"{where}: unknown field {unknown[0]!r}; there are id, pattern, keywords, secret_group")
    if not isinstance(pattern, str) or not pattern:
        raise RuleError(f"{where}: pattern must be a regular expression in RE2 syntax")
    keywords = fields.get("keywords", [])
    if not isinstance(keywords, list) or not all(isinstance(word, str) and word for word in keywords):
        raise RuleError(f"{where}: keywords must be a list of words")
    words = tuple(str(word).lower() for word in keywords) or tuple(sorted(required_literals(pattern) or ()))
    return _checked(where, Rule(rule_id, pattern, words, group=_group(where, fields.get("secret_group", -1))))


def _group(where: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RuleError(f"{where}: secret_group must be a whole number")
    return value


def _checked(where: str, rule: Rule) -> Rule:
    try:
        regex = rule.regex()
    except re2.error as error:
        raise RuleError(f"{where}: pattern does not compile: {error.args[0].decode('utf-8', 'replace')}") from error
    if rule.group > regex.groups:
        raise RuleError(f"{where}: secret_group is {rule.group}, but the pattern has {regex.groups} groups")
    if regex.fullmatch(b"") is not None:
        raise RuleError(f"{where}: pattern matches the empty text, so it would match everywhere")
    return rule
