"""Boilerplate lines, matched by the expressions of `boilerplate.txt`; pure but for reading that file once."""

import re
from functools import lru_cache
from importlib.resources import files
from typing import Final

_FILE: Final = "boilerplate.txt"
_MAX_CHARS: Final = 200
"""A longer line is not what everybody types."""


def is_boilerplate(line: bytes) -> bool:
    """Whether a line is no evidence of where it comes from."""
    text = line.decode(errors="replace").strip()
    return len(text) <= _MAX_CHARS and _pattern().search(text) is not None


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    text = files(__package__).joinpath(_FILE).read_text()
    return re.compile("|".join(line for line in text.splitlines() if is_expression(line)))


def is_expression(line: str) -> bool:
    """Whether a line of the file is none of its comments."""
    return bool(line.strip()) and not line.startswith(("# ", "#?", "#!"))
