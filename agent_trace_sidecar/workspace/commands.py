"""The files that a command's text names, without running a shell, and whether it can write at all, or others.

A command is never parsed fully, only searched: a word that names a file is observed before and after the call,
and a word too many costs one read. What no word names, only OpenCode's snapshots can show.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

import msgspec

_MAX_CHARS: Final = 64 * 1024
MAX_NAMES: Final = 32
"""Files of one command that are observed."""
_MAX_WORDS: Final = 400
_MAX_FOLDERS: Final = 32
"""Folders of one command that its words may be relative to."""
MAX_FOLDERS: Final = 8
"""Folders of one command whose files are read."""

_WORDS: Final = re.compile(r"""[^\s'"`;&|<>()=,{}]+""")
_CD: Final = re.compile(r"""(?:^|[;&|(\n])[^\S\n]*(?:cd|pushd)\s+(?:'([^']+)'|"([^"]+)"|([^\s;&|)]+))""")
_QUOTED: Final = re.compile(r"""'([^'\n]{1,200})'|"([^"\n]{1,200})\"""")
_BACKGROUND: Final = re.compile(r"(?<![&>|\d])&(?![&>])|\b(?:nohup|setsid|disown|daemonize|at\s+now|tmux|screen)\b")
_INNER: Final = re.compile(r"\s-\w*c\s|\beval\b")
"""A text in quotes may be a command of its own."""
_WRITES: Final = re.compile(r"(?<![0-9&])>(?!&)|[0-9]>(?!&|\s*/dev/null)|`|\$\(|\btee\b")
_PARTS: Final = re.compile(r"&&|\|\||[;|\n]")
_READERS: Final = frozenset(
    [
        "cat",
        "cd",
        "cut",
        "date",
        "df",
        "diff",
        "dirname",
        "basename",
        "du",
        "echo",
        "expr",
        "false",
        "file",
        "grep",
        "egrep",
        "fgrep",
        "head",
        "hostname",
        "id",
        "ls",
        "md5sum",
        "nl",
        "od",
        "printenv",
        "printf",
        "ps",
        "pwd",
        "readlink",
        "realpath",
        "rg",
        "seq",
        "sha256sum",
        "sleep",
        "stat",
        "tail",
        "test",
        "tr",
        "tree",
        "true",
        "type",
        "uname",
        "wc",
        "which",
        "whoami",
    ]
)
_CHECKERS: Final = {
    "bun": ["test"],
    "cargo": ["check", "clippy", "nextest", "test"],
    "ctest": [],
    "deno": ["check", "lint", "test"],
    "dotnet": ["test"],
    "eslint": [],
    "flake8": [],
    "go": ["test", "vet"],
    "mvn": ["test", "verify"],
    "mypy": [],
    "npm": ["run lint", "run test", "run typecheck", "t", "test"],
    "phpunit": [],
    "pnpm": ["lint", "test", "typecheck"],
    "pylint": [],
    "pyright": [],
    "pytest": [],
    "rspec": [],
    "ruff": ["check"],
    "shellcheck": [],
    "tsc": ["--noEmit", "-p . --noEmit"],
    "unittest": [],
    "yarn": ["lint", "test", "typecheck"],
}
"""Tests, type checkers and linters: they change no source, so what changes while they run is a person's. With their
subcommands, where others may write."""
_RUN_BY: Final = re.compile(
    r"(?:[A-Z_]+=\S*\s+|timeout\s+\S+\s+|npx\s+|bunx\s+|(?:uv|poetry|pdm|hatch)\s+run\s+|bundle\s+exec\s+"
    r"|(?:\S*/)?python[\d.]*\s+-m\s+)*"
)
_FIXES: Final = re.compile(r"-u|-w|--(?:fix|write|update|snapshot|inline|out|bless|force|regen|save|apply|accept)")
"""Options by which they write."""
_NAMING_WRITERS: Final = frozenset(["mkdir", "sed", "tee", "touch"])
"""They write to files that stand in the command, and to no others."""
_FILE_HANDLERS: Final = frozenset(["chmod", "cp", "ln", "rm"])
"""So do these, but for what is in the folders that they name."""
_RECURSIVE: Final = re.compile(r"-\S*[rRa]")
_KEYWORDS: Final = frozenset(["do", "done", "elif", "else", "fi", "if", "then", "until", "while"])
_HEREDOC: Final = re.compile(r"<<-?[^\S\n]*(['\"]?)(\w+)\1")
_LITERALS: Final = re.compile(r"""'[^']*'|"[^"$`\\]*\"""")
_PATTERN: Final = re.compile(r"[*?\[$]")
_EXPANDED: Final = re.compile(r"[`$*?\[{}()\\]|(?<![&>])&(?![&>\d])")
_GIT_READERS: Final = frozenset(
    [
        "blame",
        "branch",
        "cat-file",
        "describe",
        "diff",
        "grep",
        "log",
        "ls-files",
        "ls-tree",
        "reflog",
        "remote",
        "rev-list",
        "rev-parse",
        "shortlog",
        "show",
        "status",
        "version",
    ]
)


class Read(NamedTuple):
    """What the arguments of a call say of its work."""

    text: str
    """All texts in them."""
    writes: bool
    """False for a command that only reads."""
    confined: bool
    """It writes to files that it names, and to no others."""
    lingers: bool
    """A part of it may continue in the background."""
    command: str
    """The command line alone, where the call has one; else as `text`."""


def read(args: msgspec.Raw) -> Read:
    """Read the arguments of a call of any tool.

    Raises:
        ValueError: they are no JSON.
        RecursionError: they are nested beyond what can be decoded.
    """
    text, command = _texts_of(args), _command(args)
    if command is None:
        return Read(text, not only_reads(text), confined=False, lingers=lingers(text), command=text)
    return Read(text, not only_reads(command), writes_only_named(command), lingers(command), command)


def names(command: str) -> Iterator[tuple[str | None, str]]:
    """Words that may be files, each once: the folder that a `cd` before it names, if there is one, and the word."""
    folders = [next(filter(None, found.groups())) for found in islice(_CD.finditer(command), _MAX_FOLDERS)]
    seen: dict[tuple[str | None, str], None] = {}
    quoted = (next(filter(None, found.groups())) for found in _QUOTED.finditer(command))
    words = (found[0].strip("\\") for found in _WORDS.finditer(command))
    for word in [*islice(words, _MAX_WORDS), *islice(quoted, _MAX_WORDS)]:
        name = word.partition(":")[2] or word if word.count(":") == 1 else word
        if not name or name.startswith("-") or name in {".", "..", "/"}:
            continue
        for folder in (None, *folders):
            seen[folder, name] = None
    yield from seen


def folders(command: str) -> Iterator[tuple[str | None, str]]:
    """As `names`, for words that may be folders or patterns of files in them; not of the documents in a command."""
    yield from ((inner, _folder_of(word)) for inner, word in names(_without_documents(command)))


def _folder_of(word: str) -> str:
    """The folder that a word names, if it is one or a pattern of files; `.` for a pattern alone."""
    found = _PATTERN.search(word)
    if not found:
        return word
    folder, slash, _ = word[: found.start()].rpartition("/")
    return folder or slash or "."


def looks_like_a_path(word: str) -> bool:
    """Whether a word that names nothing yet may be the name of a file to come."""
    return word[-1] not in ".:" and ("/" in word or ("." in word.strip(".") and not word.replace(".", "").isdigit()))


def only_reads(command: str) -> bool:
    """Whether a command certainly writes no file, but for reports and caches of tests and checks."""
    if not command.strip() or _WRITES.search(command):
        return False
    return all(_reads(part.split()) for part in _PARTS.split(command) if part.strip())


def writes_only_named(command: str) -> bool:
    """Whether a command certainly writes to no files but those that its text names, as `tee`, `sed` and `cp` do."""
    code = _LITERALS.sub("_", _without_documents(command))
    if _EXPANDED.search(code) or lingers(command):
        return False
    parts = ([word for word in part.split() if word not in _KEYWORDS] for part in _PARTS.split(code))
    return all(words[0] in _NAMING_WRITERS or _handles_files(words) or _reads(words) for words in parts if words)


def sends_output_to(command: str, name: str) -> bool:
    """Whether a command sends the output of a program into a file of this name, by `>` or `tee`."""
    target = rf"(?:>\|?|\btee(?:\s+-\w+)?\s)\s*['\"]?(?:[^\s'\"]*/)?{re.escape(name)}(?=$|[\s;&|)'\"])"
    return re.search(target, command) is not None


def _without_documents(command: str) -> str:
    """The same without the lines of here-documents; of one that a shell expands they may be commands, and stay."""
    kept: list[str] = []
    end: str | None = None
    for line in command.split("\n"):
        if end is not None:
            end = None if line.strip() == end else end
            continue
        found = _HEREDOC.search(line)
        kept.append(line)
        end = found[2] if found and found[1] else None
    return "\n".join(kept)


def lingers(command: str) -> bool:
    """Whether a part of a command may continue in the background."""
    code = _without_documents(command)
    return _BACKGROUND.search(code if _INNER.search(code) else _LITERALS.sub("_", code)) is not None


def _reads(words: list[str]) -> bool:
    if words[0] == "git":
        return len(words) > 1 and words[1] in _GIT_READERS and not any(word.startswith("--output") for word in words)
    return words[0] in _READERS or _checks(words)


def _handles_files(words: list[str]) -> bool:
    return words[0] in _FILE_HANDLERS and not any(map(_RECURSIVE.match, words))


def _checks(words: list[str]) -> bool:
    """Whether a program runs tests or checks, by its own name or that of what runs it."""
    command = " ".join(words)
    name, _, rest = command[_RUN_BY.match(command).end() :].partition(" ")  # type: ignore[union-attr] # it may be empty
    known = _CHECKERS.get(name.rpartition("/")[2])
    if known is None or any(_FIXES.match(word) for word in words):
        return False
    return not known or any(f"{rest} ".startswith(f"{one} ") for one in known)


def _texts_of(args: msgspec.Raw) -> str:
    """All texts in a call's arguments, whatever the tool."""
    found: list[str] = []
    left = [msgspec.json.decode(args)] if len(args) else []
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, str):
            found.append(value[:_MAX_CHARS])
    return "\n".join(found)[:_MAX_CHARS]


def _command(args: msgspec.Raw) -> str | None:
    """The command line, where the call has one."""
    value = msgspec.json.decode(args) if len(args) else None
    command = value.get("command") if isinstance(value, dict) else None
    return command if isinstance(command, str) else None
