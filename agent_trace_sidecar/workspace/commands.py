"""The files that a command's text names, without running a shell, and whether it can write at all.

A command is never parsed fully, only searched: a word that names a file is observed before and after the call,
and a word too many costs one read. What no word names, only OpenCode's snapshots can show.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

MAX_NAMES: Final = 32
"""Files of one command that are observed."""
_MAX_WORDS: Final = 400
_MAX_FOLDERS: Final = 32
"""Folders of one command that its words may be relative to."""

_WORDS: Final = re.compile(r"""[^\s'"`;&|<>()=,{}]+""")
_CD: Final = re.compile(r"""(?:^|[;&|(\n])[^\S\n]*(?:cd|pushd)\s+(?:'([^']+)'|"([^"]+)"|([^\s;&|)]+))""")
_QUOTED: Final = re.compile(r"""'([^'\n]{1,200})'|"([^"\n]{1,200})\"""")
_BACKGROUND: Final = re.compile(r"(?<![&>|\d])&(?![&>])|\b(?:nohup|setsid|disown|daemonize|at\s+now|tmux|screen)\b")
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


def looks_like_a_path(word: str) -> bool:
    """Whether a word that names nothing yet may be the name of a file to come."""
    return "/" in word or ("." in word.strip(".") and not word.replace(".", "").isdigit())


def only_reads(command: str) -> bool:
    """Whether a command certainly writes no file."""
    if not command.strip() or _WRITES.search(command):
        return False
    return all(_reads(part.split()) for part in _PARTS.split(command) if part.strip())


def lingers(command: str) -> bool:
    """Whether a part of a command may continue in the background."""
    return _BACKGROUND.search(command) is not None


def _reads(words: list[str]) -> bool:
    if words[0] == "git":
        return len(words) > 1 and words[1] in _GIT_READERS and not any(word.startswith("--output") for word in words)
    return words[0] in _READERS
