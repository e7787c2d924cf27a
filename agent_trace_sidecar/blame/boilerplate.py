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
    if len(text) > _MAX_CHARS:
        return False
    at_start, anywhere = _patterns()
    return at_start.match(text) is not None or anywhere.search(text) is not None


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The expressions for the start of a line, which are tried once, and the others."""
    text = files(__package__).joinpath(_FILE).read_text()
    known = [line for line in text.splitlines() if is_expression(line)]
    at_start = "|".join(line for line in known if line.startswith("^"))
    return re.compile(at_start), re.compile("|".join(line for line in known if not line.startswith("^")))


def is_expression(line: str) -> bool:
    """Whether a line of the file is none of its comments."""
    return bool(line.strip()) and not line.startswith(("# ", "#?", "#!"))
