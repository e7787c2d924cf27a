"""Where the simulator's text comes from: the modules of the running Python's standard library, half of them in braces.

The files that are edited, what the model writes and what a person types are taken from different modules, so that
nobody writes a line that another wrote, but for those that all code has: blank ones, `else:`, `return None`.
"""

import random
import re
import sysconfig
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from tests.simulator.formatter import format_line

PARTS: Final = 5
_LINES: Final = (60, 400)
"""How long a module is that is taken."""
_NOT_CODE: Final = frozenset({"encodings", "idlelib"})
_WORD: Final = re.compile(r"[A-Za-z_]{4,}")
_ACCENTS: Final = 0.03
_NEW_WORDS: Final = ("amber", "basalt", "cobalt", "damask", "ember", "fathom", "garnet", "harbor", "indigo", "jasper")


@lru_cache(maxsize=1)
def _modules() -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: list[tuple[str, tuple[str, ...]]] = []
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted([*root.glob("*.py"), *root.glob("[a-k]*/*.py")]):
        if path.parent.name in _NOT_CODE:
            continue
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        lines = formatted(text.removesuffix("\n").split("\n"))
        if _LINES[0] <= len(lines) <= _LINES[1] and "\r" not in text:
            braces = len(found) // PARTS % 2 == 1
            found.append((path.name, tuple(_braced(lines) if braces else lines)))
    return tuple(found)


def _braced(lines: list[str]) -> list[str]:
    """The same code in a language of braces: many lines are alike there."""
    result: list[str] = []
    open_at: list[int] = []
    for line in lines:
        depth = len(line) - len(line.lstrip(" "))
        while line.strip() and open_at and depth <= open_at[-1]:
            result.append(" " * open_at.pop() + "}")
        opens = line.endswith(":")
        result.append(line[:-1] + " {" if opens else line)
        open_at += [depth] if opens else []
    return result + [" " * depth + "}" for depth in reversed(open_at)]


def modules(part: int) -> list[tuple[str, tuple[str, ...]]]:
    """A part of the modules by name and lines: 0 for the files, 1 for the person, one from 2 on for each model."""
    return list(_modules()[part::PARTS])


def block(rng: random.Random, part: int, least: int, most: int) -> list[str]:
    """Some consecutive lines of a module; the first and last are not blank."""
    while True:
        _, lines = rng.choice(modules(part))
        size = rng.randint(least, most)
        start = rng.randrange(max(1, len(lines) - size))
        chosen = list(lines[start : start + size])
        if chosen and chosen[0].strip() and chosen[-1].strip():
            return accented(rng, chosen)


def accented(rng: random.Random, lines: Sequence[str]) -> list[str]:
    """The lines, some of them with a remark that is not of ASCII."""
    return [f"{line}  # größe, 日本" if line.strip() and rng.random() < _ACCENTS else line for line in lines]


def altered(rng: random.Random, text: str) -> str:
    """The line with one of its words replaced, or a remark at its end: still recognisably that line."""
    words = list(_WORD.finditer(text))
    if len(words) > 2 and rng.random() < 0.7:
        word = rng.choice(words)
        return text[: word.start()] + rng.choice(_NEW_WORDS) + str(rng.randrange(100)) + text[word.end() :]
    return f"{text}  # {rng.choice(_NEW_WORDS)} {rng.randrange(100)}"


def new_word(rng: random.Random) -> str:
    """A word that is in no module."""
    return f"{rng.choice(_NEW_WORDS)}_{rng.randrange(10_000)}"


def formatted(lines: list[str]) -> list[str]:
    """What the simulator's formatter makes of these lines."""
    return [part for line in lines for part in format_line(line)]


def untidy(rng: random.Random, lines: list[str]) -> list[str]:
    """The same lines as a careless writer types them: with tabs and blanks at the end, for a formatter to mend."""
    return [_untidy(rng, line) if line.strip() and rng.random() < 0.4 else line for line in lines]


def _untidy(rng: random.Random, line: str) -> str:
    if rng.random() < 0.3:
        return f"{line};; {new_word(rng)} = {rng.randrange(100)}"
    body = line.lstrip(" ")
    indent = len(line) - len(body)
    return "\t" * (indent // 4) + " " * (indent % 4) + body + "  "
