"""The kind of value that a name announces: a password, a secret, a token, merely a key, or nothing."""

import enum
import functools
from typing import Final

from agent_trace_sidecar.redaction.rules import Decisions, Gates


class Kind(enum.IntEnum):
    """How much a name promises a secret; the less it does, the more random the value must be."""

    NONE = 0
    KEY = 1
    """`key`, `auth`, `salt`: only a long random value."""
    TOKEN = 2
    """`api_key`, `token`, `secret`: anything that is no words."""
    PASSWORD = 3
    """`password`: anything that is no placeholder; people choose words."""


G: Final = Gates("names", text=True)
NAMES: Final = Decisions("names", text=True)
_LONGEST: Final = 120


@functools.lru_cache(maxsize=8192)
def kind_of(raw: bytes) -> Kind:
    """What the name promises, by its words: `dbUserPass_2` is db, user, pass."""
    name = raw.decode("utf-8", "replace")[-_LONGEST:]
    words = " ".join(G.word.findall(G.property.sub("", name))).lower()
    row = NAMES.of({"name": name.lower(), "words": G.number.sub("", words)})
    return Kind[row["form"]] if row else Kind.NONE
