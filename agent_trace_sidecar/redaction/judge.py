"""Whether a value beside a secret-like name is a secret: neither placeholder, reference, code nor plain words."""

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
from agent_trace_sidecar.redaction.rules import Decisions, Gates, Words
from agent_trace_sidecar.redaction.spans import reach_back

G: Final = Gates("judge", text=True)
B: Final = Gates("runs")
W: Final = Words("judge")
SECRET: Final = Decisions("secret", by=("kind", "place"), text=True)


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
_SHORTEST: Final = {Kind.PASSWORD: 4, Kind.TOKEN: 6, Kind.KEY: 16}
_SHORTEST_CHOSEN: Final = 5
_LONGEST_PIN: Final = 40
_LONGEST_PLACEHOLDER: Final = 30
_FEWEST_LETTERS: Final = 4
"""Of a word, without those about passwords."""
_RATHER: Final = -3.0
"""Log odds of randomness that suffice beside a name that promises a secret ..."""
_SURE: Final = 1.0
"""... and where nothing but a word near it does."""
_NOISY: Final = 2.6
"""Bits per character of a value with marks in it."""
_LONG: Final = 16
_SURELY: Final = 20
"""Characters; a run of one case that is shorter may be a serial number."""
_THING_REACH: Final = 40
_LONG_PART: Final = 10
_LONGER_PART: Final = 20
"""No name in a path is so long and so mixed."""
_FEW_CHANGES: Final = 2


def is_secret(name: bytes, kind: Kind, raw: bytes, form: Form) -> bool:
    """Whether the value `raw` beside `name`, a name of this `kind`, must be masked."""
    value, called = raw.decode("utf-8", "replace").strip().removeprefix("{noop}"), name.decode("utf-8", "replace")
    if kind is Kind.NONE or len(raw) > LONGEST or _is_masked(raw) or is_place(called, value):
        return False
    if len(value) < _SHORTEST[kind] or G.placeholder.match(value) or G.reference.match(value):
        literal = form in {Form.CONFIG, Form.CERTAIN}
        return literal and _is_pin(value, least=4 if kind is Kind.PASSWORD else 6)
    if G.regex.search(value) or (_bare(value) and _bare(called).endswith(_bare(value))):
        return False
    if form is Form.CERTAIN:
        return not G.keywords.fullmatch(value)
    row = SECRET.of(_Fields(name=called, value=value, kind=kind.name, place=form.name))
    return row is not None and row["form"] == "yes"


class _Fields(dict[str, str]):
    """The fields of a decision; what the judge says of the value is found out when a row asks for it."""

    def __missing__(self, name: str) -> str:
        self[name] = answer = "yes" if _ASPECTS[name](self["value"]) else "no"
        return answer


def _is_masked(raw: bytes) -> bool:
    return b"\x1f" in raw or b"[REDACTED:" in raw


def _bare(text: str) -> str:
    """The letters and digits, as a name and its own spelling as a value share them."""
    return re.sub(r"[\W_]", "", text).lower()


def _is_pin(value: str, least: int) -> bool:
    return bool(G.number.match(value)) and least <= len(value) <= _LONGEST_PIN and len(set(value)) > 1


def _is_dated(value: str) -> bool:
    """Whether words have numbers that belong to them as little as to a version."""
    bare = G.keywords.sub("", value)
    digits = sum(map(str.isdigit, bare))
    return not G.term.search(value) and (
        (digits > 1 and value[0].isalpha()) or (digits > 0 and any(map(str.isalpha, bare)))
    )


def holds_random(value: str) -> bool:
    """Whether some part of the value was drawn at random."""
    return any(is_random(part, least=12) for part in re.split(r"[^A-Za-z0-9%+/_-]+", value))


def is_chosen(value: str) -> bool:
    """Whether a value is no word, name, number or option: a chosen password, or a random one."""
    if len(value) < _SHORTEST_CHOSEN or " " in value or value.isdigit():
        return False
    if any(pattern.match(value) for pattern in (G.placeholder, G.reference, G.dotted)) or G.regex.search(value):
        return False
    rest = G.term.sub("", value)
    if any(row in value.lower() for row in W.alphabets) or G.class_name.match(value) or G.numbered.match(rest):
        return False
    mixed = any(c.isdigit() for c in rest) and any(c.isalpha() for c in rest) and len(rest) >= _SHORTEST_CHOSEN
    return mixed or is_random(value, least=12)


def is_placeholder(raw: bytes) -> bool:
    """Whether a value is a placeholder for a secret."""
    return G.placeholder.match(raw.decode("utf-8", "replace")) is not None


def is_plain(raw: bytes) -> bool:
    """Whether a value that an imported rule found is nothing but words."""
    return not any(48 <= c <= 57 for c in raw) and is_wordy(raw.decode("utf-8", "replace"))  # noqa: PLR2004 - "0" to "9"


def is_wordy(value: str) -> bool:
    """Words joined in the ways of code and prose, with at most a few numbers: nothing that was drawn at random."""
    value = G.tech.sub("", value)
    if re.search(r"[^\w\s./:\\,'-]", value):
        return False
    runs = G.alpha.findall(value)
    digits = re.findall(r"\d+", value)
    if len(digits) > 2 or sum(map(len, digits)) > max(4, len(value) // 4):  # noqa: PLR2004
        return False
    if not runs:
        return True
    shouted = value.upper() == value
    odd = sum(1 for run in runs if _is_odd(run, shouted=shouted))
    return odd <= max(len(runs) // 3, 1 if len(runs) > 1 else 0) and sum(map(len, runs)) / len(runs) >= 3  # noqa: PLR2004


def _is_odd(run: str, *, shouted: bool) -> bool:
    """Whether a run of letters is no word: too short, without a vowel, or capitals in the middle of small letters."""
    if run.lower() in W.short_words:
        return False
    if len(run) <= 2 or not G.vowel.search(run) or G.hard.search(run):  # noqa: PLR2004
        return True
    return not shouted and run.isupper()


def entropy(value: str) -> float:
    """Bits per character."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values())


def is_random(value: str, *, least: int) -> bool:
    """Whether the value was most likely drawn at random."""
    if len(value) < least or not value.isascii():
        return False
    if G.noise.search(value):
        return entropy(value) >= _NOISY and (len(value) >= _LONG or any(map(str.isdigit, value)))
    return odds(value) > _RATHER


_ASPECTS: Final[dict[str, Callable[[str], bool]]] = {
    "chosen": is_chosen,
    "dated": _is_dated,
    "drawn": lambda value: is_random(value, least=8),
    "label": lambda value: value.lower() in W.labels,
    "sure": lambda value: odds(value) > _SURE,
    "telling": lambda value: len(G.dummy.sub("", value)) >= _FEWEST_LETTERS,
    "translated": lambda value: value.lower() in W.translated,
    "wordy": is_wordy,
}


def numbers_thing(text: bytes, start: int, reach: int = _THING_REACH) -> bool:
    """Whether what begins at `start` is the number of something that is named right before it."""
    return B.thing.search(text, reach_back(text, start, reach), start) is not None


@lru_cache(maxsize=4096)
def is_token(value: bytes) -> bool:
    """Whether a random value has the form of a key: its longest part is long and mixed, and it counts nothing up."""
    longest = max(re.split(rb"[^A-Za-z0-9]", value), key=len)
    if B.fingerprint.match(value) or B.resource.match(value):
        return False
    lowered = value.lower()
    return (
        (len(longest) >= _LONG_PART and len(B.changes.findall(longest)) >= _FEW_CHANGES and b"." not in value)
        and not any(row in lowered for row in (b"0123456789abcdef", b"abcdefghijkl", b"example", b"xxxx"))
        and (value.count(b"/") < 1 + len(value) // 30 or len(longest) >= _LONGER_PART)
        and not is_readable_text(value)
    ) or is_uuid(value)


def is_uuid(value: bytes) -> bool:
    """Whether a value is a UUID."""
    return B.uuid.match(value) is not None


def is_revision(value: bytes) -> bool:
    """Whether a value has the form of a git revision or a checksum: only a word for keys makes a key of it."""
    return B.revision.match(value) is not None


def is_drawn(value: bytes) -> bool:
    """Whether a run of characters was drawn at random, and is no name with numbers in it."""
    if not B.shape.match(value):
        return False
    if is_uuid(value) or (len(value) < _SURELY and (value.islower() or value.isupper())):
        return is_uuid(value)
    return not (b"/" in value and b"." in value) and odds(value.decode()) > _SURE


def passes(check: str, text: bytes, start: int, end: int) -> bool:
    """Whether the value that a rule matched is a secret by the rule's check, and no placeholder."""
    value = text[start:end]
    if len(value) <= _LONGEST_PLACEHOLDER and is_placeholder(value):
        return False
    return _CHECKS[check](value) and not (check == "token" and numbers_thing(text, start))


def _is_reference(value: bytes) -> bool:
    """Whether a command's argument is a variable or a placeholder: $USER:$PASS, user:password."""
    bare = value.strip(b"\"'")
    last = bare.rpartition(b":")[2].strip(b"\"'")
    said = G.keywords.fullmatch(last.decode("utf-8", "replace")) or is_placeholder(last)
    return G.variable.match(bare.decode("utf-8", "replace")) is not None or (len(last) > 1 and bool(said))


def _mixed(value: bytes) -> bool:
    return any(48 <= c <= 57 for c in value) and not value.isdigit()  # noqa: PLR2004 - "0" to "9"


_CHECKS: Final[dict[str, Callable[[bytes], bool]]] = {
    "any": lambda _: True,
    "token": lambda value: not is_plain(value) and not _is_reference(value),
    "unplain": lambda value: not is_plain(value),
    "mixed": _mixed,
    "chosen": lambda value: is_chosen(value.decode("utf-8", "replace")),
    "random": lambda value: holds_random(value.decode("utf-8", "replace")),
    "password": lambda value: is_secret(b"", Kind.PASSWORD, value, Form.CERTAIN),
}
"""The form that a value must have where the form around it proves too little."""


def is_place(name: str, value: str) -> bool:
    """Whether a name that sounds like a password's holds a place: PWD, OLDPWD, or whatever is a path without doubt."""
    return G.place_name.search(name) is not None and G.place.match(value) is not None
