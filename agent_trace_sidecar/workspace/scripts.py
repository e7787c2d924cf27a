"""Scripts that a command in the background runs: the text in which they name the files that they may write; pure.

A file counts as a script only if it begins like one, is called like one, or is run by the command: any other file that
the command names is data, whose words are evidence of nothing.
"""

import re
from typing import Final

MAX_BYTES: Final = 64 * 1024
"""What is read of a script."""

_SHELLS: Final = frozenset(["sh", "bash", "zsh", "dash", "ksh", "fish"])
_PROGRAMS: Final = frozenset(
    ["python", "python3", "node", "deno", "bun", "tsx", "ruby", "perl", "php", "lua", "Rscript", "osascript", "pwsh"]
)
_SUFFIXES: Final = frozenset(["py", "js", "mjs", "cjs", "ts", "rb", "pl", "php", "lua", "r", "ps1"])
_BEFORE: Final = "|".join(sorted(_SHELLS | _PROGRAMS | {"source", "nohup", "setsid", "exec", "time", "env", "sudo"}))
_WHERE_PROGRAMS_STAND: Final = (
    rf"(?:(?:^|[;&|(\n]|\s-\w*c\s|\beval\s)\s*['\"]?|(?:(?<![\w.-])(?:{_BEFORE})|(?<![^\s;&|(])\.)\s+(?:-\S+\s+)*['\"]?)"
    r"(?:[^\s'\"]*/)?"
)
_COMMENT: Final = re.compile(r"(?m)^\s*(?:#|//).*$|\s#\s.*$")
_QUOTED: Final = re.compile(r"""'([^'\n]{1,200})'|"([^"\n]{1,200})\"""")
_FILE_NAME: Final = re.compile(r"(?:[^\s:]*/)?[^\s:/]*\.[A-Za-z]\w{0,9}")


def is_script(name: str, text: str, command: str) -> bool:
    """Whether a file that a command names is a program of its own.

    Args:
        name: of the file, without folders.
        text: what it holds.
        command: the command.
    """
    if text.startswith("#!") or _suffix(name) in _SHELLS | _SUFFIXES:
        return True
    return _runs(name, command) > 0


def is_only_run(name: str, command: str) -> bool:
    """Whether a command names a file, by its name without folders, nowhere but where it runs it."""
    return 0 < _runs(name, command) == command.count(name)


def _runs(name: str, command: str) -> int:
    return len(re.findall(rf"{_WHERE_PROGRAMS_STAND}{re.escape(name)}(?=$|[\s;&|)'\"])", command))


def naming_text(name: str, text: str) -> str:
    """The parts of a script that may name files: a shell's words, what other programs have in quotes, no comments."""
    first, _, _ = text.partition("\n")
    shebang = first.rpartition("/")[2].split() if first.startswith("#!") else []
    code = _COMMENT.sub("", text)
    if not _SHELLS.isdisjoint(shebang) or (not shebang and _suffix(name) not in _SUFFIXES):
        return code
    return "\n".join(found[1] or found[2] for found in _QUOTED.finditer(code))


def is_file_name(word: str) -> bool:
    """Whether a word is written like the name of a file: with a suffix that begins with a letter."""
    return _FILE_NAME.fullmatch(word) is not None


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""
