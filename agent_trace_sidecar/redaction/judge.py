"""Whether a value is a secret: neither placeholder, reference, code nor plain words.

What a value is beside a name, by itself, and by a rule's check are lists of `decisions.toml`; here is what their rows
ask of a value and no pattern can say: above all whether it was drawn at random.
"""

import enum
import math
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from agent_trace_sidecar.redaction.decoders import is_readable_text
from agent_trace_sidecar.redaction.names import Kind
from agent_trace_sidecar.redaction.randomness import odds
from agent_trace_sidecar.redaction.rules import Decisions, Fields, Gates
from agent_trace_sidecar.redaction.spans import reach_back

G: Final = Gates("judge", text=True)
SECRET: Final = Decisions("secret", by=("kind", "place"), text=True)
CHOSEN: Final = Decisions("chosen", text=True)
LISTED: Final = Decisions("listed", text=True)
CHECK: Final = Decisions("check", by=("check",), text=True)
LOOKS: Final = Decisions("looks", text=True)


class Form(enum.Enum):
    """How a value stands beside its name."""

    CONFIG = enum.auto()
    """A setting on a line of its own, a JSON member, an XML element: the value is literal."""
    QUOTED = enum.auto()
    """A string literal in code: the value is literal, but tests, labels and messages have the same form."""
    CERTAIN = enum.auto()
    """What stands around leaves no doubt, as in `identified by 'value'`: only a placeholder is no secret."""
    BARE = enum.auto()
    """No quotes, in the middle of something: most likely an expression."""


LONGEST: Final = 4096
"""Bytes of a value; what is longer is data."""
_LONGEST_PLACEHOLDER: Final = 30
_RATHER: Final = -3.0
"""Log odds of randomness that suffice beside a name that promises a secret, and what is less is words ..."""
_SURE: Final = 1.0
"""... and where nothing but a word near it does."""
_NOISY: Final = 2.6
"""Bits per character of a value with marks in it."""
_LONG: Final = 16
_THING_REACH: Final = 40


def is_secret(name: bytes, kind: Kind, raw: bytes, form: Form) -> bool:
    """Whether the value `raw` beside `name`, a name of this `kind`, must be masked."""
    if kind is Kind.NONE or len(raw) > LONGEST or b"\x1f" in raw or b"[REDACTED:" in raw:
        return False
    value, called = raw.decode("utf-8", "replace").strip().removeprefix("{noop}"), name.decode("utf-8", "replace")
    return SECRET.says_yes(Fields(_FIELDS, name=called, value=value, kind=kind.name, place=form.name))


def is_chosen(value: str) -> bool:
    """Whether a value is no word, name, number or option: a chosen password, or a random one."""
    return CHOSEN.says_yes(Fields(_FIELDS, value=value))


def is_listed(owner: bytes, pair: bytes, raw: bytes) -> bool:
    """Whether a value of what `owner` begins, a map of accounts or a list of passwords, is a password."""
    owned, stands, value = (one.decode("utf-8", "replace") for one in (owner, pair, raw))
    return LISTED.says_yes(Fields(_FIELDS, owner=owned, pair=stands, value=value))


def passes(check: str, text: bytes, start: int, end: int) -> bool:
    """Whether the value that a rule matched is a secret by the rule's check, and no placeholder."""
    before = text[reach_back(text, start, _THING_REACH) : start].decode("utf-8", "replace")
    return CHECK.says_yes(Fields(_FIELDS, check=check, value=text[start:end].decode("utf-8", "replace"), before=before))


@lru_cache(maxsize=4096)
def looks(value: bytes) -> bytes:
    """What a run of characters looks like: `uuid`, `revision`, `token`, `drawn` (at random, and no key), or nothing."""
    row = LOOKS.of(Fields(_FIELDS, value=value.decode("ascii", "replace")))
    return row["form"].encode() if row else b""


def is_placeholder(raw: bytes) -> bool:
    """Whether a value is a placeholder for a secret."""
    return G.placeholder.match(raw.decode("utf-8", "replace")) is not None


def is_wordy(value: str) -> bool:
    """Words joined in the ways of code and prose, with at most a few numbers: nothing that was drawn at random."""
    value = G.tech.sub("", value)
    return G.noise.search(value) is None and odds(value) < _RATHER


def is_random(value: str, *, least: int) -> bool:
    """Whether the value was most likely drawn at random."""
    if len(value) < least or not value.isascii():
        return False
    if G.noise.search(value):
        bits = -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
        return bits >= _NOISY and (len(value) >= _LONG or any(map(str.isdigit, value)))
    return odds(value) > _RATHER


def _holds_random(value: str) -> bool:
    return any(is_random(part, least=12) for part in re.split(r"[^A-Za-z0-9%+/_-]+", value))


def _asked(aspect: Callable[[str], bool]) -> Callable[[Fields], str]:
    return lambda of: "yes" if aspect(of["value"]) else "no"


_FIELDS: Final[dict[str, Callable[[Fields], str]]] = {
    "bare": lambda of: G.keywords.sub("", of["value"]),
    "telling": lambda of: G.dummy.sub("", of["value"]),
    "rest": lambda of: G.term.sub("", of["value"]),
    "short": lambda of: of["value"] if len(of["value"]) <= _LONGEST_PLACEHOLDER else "",
    "last": lambda of: of["value"].strip("\"'").rpartition(":")[2].strip("\"'"),
    "pair": lambda of: re.sub(r"[^\w=]|_", "", f"{of['name'].replace('=', '')}={of['value'].replace('=', '')}").lower(),
    "chosen": _asked(is_chosen),
    "drawn": _asked(lambda value: is_random(value, least=8)),
    "random": _asked(lambda value: is_random(value, least=12)),
    "holds": _asked(_holds_random),
    "sure": _asked(lambda value: odds(value) > _SURE),
    "text": _asked(lambda value: is_readable_text(value.encode())),
    "wordy": _asked(is_wordy),
    "secret": _asked(lambda value: is_secret(b"", Kind.PASSWORD, value.encode(), Form.CERTAIN)),
    "literal": _asked(lambda value: is_secret(b"", Kind.PASSWORD, value.encode(), Form.QUOTED)),
}
"""What rows read beyond what they are given; see the top of each list."""
