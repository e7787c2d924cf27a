"""Whether a value next to a secret-like name is a secret: neither placeholder, reference, code nor plain word."""

import enum
import re
from typing import Final


class Context(enum.Enum):
    """Where a value stands; the weaker the surroundings, the more the value must look like a secret."""

    QUOTED = enum.auto()
    BARE = enum.auto()
    JSON = enum.auto()


_PLACEHOLDER: Final = re.compile(
    rb"(?i)^(?:x{3,}|\*{3,}|\.{3,}|<[^>]*>|\$\{?[A-Za-z_][\w.:-]*\}?|\{\{.*|%\(?\w+\)?s?|%\w+%|none|null|nil|undefined|true|false|"
    rb"(?:your|my|the|some|insert|enter|change|example|dummy|placeholder|todo)[_ -].*|password|passwd|secret|token|changeme)$"
)
_CODE: Final = re.compile(rb"[(){}\[\]]|^[A-Za-z_]\w*(?:\.\w+)+$|->")
_RANDOMISH: Final = re.compile(rb"\d|[^\w\s.-]")
_COUNTER: Final = re.compile(
    rb"(?i)(?:tokens|count|length|len|size|limit|max|min|ttl|type|name|id|policy|attempts|used)$"
)


def is_secret(name: bytes, value: bytes, context: Context) -> bool:
    """Whether `value`, found beside `name`, must be masked."""
    value = value.strip()
    if (
        len(value) < 4
        or _PLACEHOLDER.match(value)
        or _COUNTER.search(name)
        or b"\x1f" in value
        or b"[REDACTED:" in value
    ):  # noqa: PLR2004
        return False
    if context is Context.BARE and (_CODE.search(value) or not _RANDOMISH.search(value)):
        return False
    return context is not Context.QUOTED or bool(_RANDOMISH.search(value))
