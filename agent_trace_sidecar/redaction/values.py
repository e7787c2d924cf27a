"""Whether a value beside a secret-like name is a secret: neither placeholder, reference, code nor plain words."""

# ruff: noqa: E501, SIM905 - a pattern is read as one line

import enum
import json
import math
import re
from collections import Counter
from typing import Final

from agent_trace_sidecar.redaction.names import Kind


class Form(enum.Enum):
    """How a value stands beside its name."""

    CONFIG = enum.auto()
    """A setting on a line of its own, a JSON member, an XML element: the value is literal."""
    QUOTED = enum.auto()
    """A string literal in code: the value is literal, but tests, labels and messages look the same."""
    CERTAIN = enum.auto()
    """What stands around leaves no doubt, as in `identified by 'value'`: only a placeholder is no secret."""
    BARE = enum.auto()
    """No quotes, in the middle of something: most likely an expression."""


LONGEST: Final = 4096
_SHORT_ENTROPY: Final = 2.6

_PLACEHOLDER: Final = re.compile(
    r"""(?ix)^(?:
      (.)\1* | 0{8,}\d                                              # one character again and again
    | \W+ | [.*x_-]+
    | <[^<>]*> | \[[\w .-]*\][!.]? | \{[\w.: -]*\} | %\w+% | %[a-z_]{1,30} | %[#+.\d-]*[a-z],? | %[wiq][\[({<].* | %\(\w+\)s | \$\(.* | @[{(].* | \$[A-Za-z_]\w*(?:[.\[>:-].*)? | @[\w.]+@ | __\w+__
    | \{\{\s.*\s\}\} | [{\[]\\* | [)\]}],?.*[(=].* | .*&nbsp;.* | &lt;.*&gt;[;,.]? | S-1-\d[\d-]* | [a-z]+[.?] | example[-_]\w+ | example(?:password|secret|token|key)
    | .*\{%[-\s].* | \$\{[A-Za-z_]\w*.* | \w+\(\)? | [\w.:-]*-\$[a-z_]+ | <\w*$ | [*&][A-Za-z_-]+ | [A-Z]<.* | realm= | ["']\s?[+.]\s?.* | ["']\s.* | ,\s.* | .*\$[a-z_]\w*->.* | \w+\] | \([\w *:.-]*\) | \+[a-z_$][\w$.()]*\+ | [\w-]*-field | \*+[\w ]+\*+[.!,]? | <-\w+ | \{\\*"\w+\\*"\s?:.* | \[[a-z][\w.]*\](?:::|\$|\().* | -?anonymous@? | .*[+.]\s?["'] | [+.]\s[\w$(].*
    | .*(?:\$\{[^{}$]*\} | \{\{[^{}]*\}\} | \#\{[^{}]*\} | %\(\w+\)s | <%.*%> | %s | \.\.\. | \u2026).*
    | [\w\s:./@-]*(?:\{[\w .'"()\[\]-]*\}[\w\s:./@-]*)+
    | (?:your|my|the|some|any|insert|enter|change|replace|put|add|use|set|fill|same|new|old|this|get|todo|fixme)[\s_-].*
    | .*(?:placeholder|redacted|changeme|change_me|change-me|_here|-here|\bhere)\b.*
    | (?:n/?a|none|null|nil|undefined|true|false|yes|no|on|off|empty|default|auto|required|optional|prompt|ask|str|string|
       bytes|text|int|any|bool|object|char|varchar|password_hash|self|this)[!.);,]*
    )$"""
)
_REFERENCE: Final = re.compile(
    r"""(?x)^(?:
      0x[0-9a-fA-F]{1,8}[,;]? | projects/.* | [A-Z]{2,6}/\d\.\d | sha\d{3}[-:].* | (?:[\w.-]+/){2,}[\w.-]+\.[a-z]\w{0,4} | \w+\[-?\d+\]\..*
    | \d+\.(?:second|minute|hour|day|week|month|year)s?
    | (?:process\.env|os\.environ|env|ENV|secrets|vars|var|local|data|module|inputs|params|config|settings|self|this|ssm|vault|
         ref|Ref|arn:aws|rule|role|file|projects/|op://|kms:)[.:\[(/].*
    | (?:https?|file|urn|git|ssh|data|s3|gs|tel|mailto):.*
    | (?:\.{0,2}/|~/|[A-Za-z]:\\)[\w.@~%$-]*(?:[/\\][\w.@ ~%$-]+)*[/\\]? | \d{4}_[a-z]\w*
    | [\w.]+\.html?(?:\#.*)? | localhost:\d+ | [\w-]+(?:\.[\w-]+)+:\d{2,5} | [\w-]+\.(?:py|js|ts|json|ya?ml|txt|pem|key|crt|cfg|ini|conf|html?|md|go|java|rb|php|cs|sh|csv|xml|toml|env|c|h|cc|cpp|hpp|o|so|rs|kt|swift|pl|pm|lua|tsx|jsx|lock|log)
    | (?:[\^~<>=v]|npm:)*\d+(?:\.(?:\d+|x|\*))+(?:[-+.]\w+)*(?:\s?\|\|.*)? | \d{4}-\d\d-\d\d.* | [\d.,:\s%-]+(?:[smhd]|ms|[kmg]b)?
    | \#[0-9a-fA-F]{3,8} | [a-z]+/[a-z][a-z0-9.+-]*(?:;.*)? | [\w.+-]+@[\w-]+\.\w[\w.]*
    )$"""
)
_REGEX: Final = re.compile(
    r"\(\?[:P=!<]|\\[(|)<>]|\[\^|\[[a-zA-Z0-9]-[a-zA-Z0-9]|\\[wdsbSWD]|\.[*+]|\{\d+,|\\x[0-9a-f]{2}"
)
"""A pattern or bytes in code."""
_CHANGES: Final = re.compile(r"(?<=[A-Za-z])\d|(?<=\d)[A-Za-z]")
_KEY_ID: Final = re.compile(r"(?:0x)?(?:[0-9A-Fa-f]{8}|[0-9A-F]{16})$")
"""How a public key is called, where keys are signed with."""
_NUMBER: Final = re.compile(r"^\d+$")
_CALL: Final = re.compile(
    r"^[\w.$:>&*!\\-]*\w[\w.]*[?!]?\s*[(\[]|[)\]}]\s*$|^\(|^\[|^\{|^(?:new|await|lambda|func|function|not|if)\s|=>|->|::|&&|\|\|"
)
_DOTTED: Final = re.compile(r"^[A-Za-z_$][\w$]*(?:(?:\.|::|->|/|\\)[A-Za-z_$][\w$]*)+$")
_TECH: Final = re.compile(
    r"(?i)sha-?\d+|md[45]|utf-?\d+|base-?\d+|oauth-?\d|http-?\d|x-?509|aes-?\d+|hs\d{3}|rs\d{3}|es\d{3}|ps\d{3}|rsa-?\d+|"
    r"ed25519|ecdsa|curve25519|pbkdf2|bcrypt|scrypt|argon2\w*|v\d+|ipv[46]|p\d{3}|cl100k|o200k|r50k|int\d+|uint\d+|float\d+|"
    r"\bi18n|l10n|k8s|s3|ec2|win32|x86|amd64|arm64|[0-9]+(?=st|nd|rd|th)"
)
_TERM: Final = re.compile(rf"(?i)(?<![a-z])(?:{_TECH.pattern.removeprefix('(?i)')})(?![a-z0-9])|md5|sha-?\d+|utf-?\d+")
"""The same as a word of its own: v3 is none in s1lv3r, and 96th is none in winter96thunder."""
_TOKEN_TEXT: Final = re.compile(r"[A-Za-z0-9+/=_.:~-]+$")
_ONE_WORD: Final = re.compile(r"[A-Z]?[a-z]{5,}$")
_LABELS: Final = frozenset(
    "string number boolean object required optional username passwort kennwort heslo senha parola salasana losenord "
    "wachtwoord contrasena digest bearer hidden default prompt always never reset forgot change update create delete "
    "confirm current enabled disabled visible invalid missing incorrect expired unknown value values field fields label "
    "input output secure private public hashed encrypted encoded binary nullable string_ email domain server client "
    "global local remote session cookie header query params method request response plaintext sha256 sha512 bcrypt "
    "files first second start after before simple complex strong medium wrong random placeholder keyring prefix suffix "
    "abcdef certificate literal constant variable identifier keyword operator comment python javascript".split()
)
"""What stands beside `password` in code and translations without being one."""
_WORDS_FOR_IT: Final = (
    "passwort kennwort contraseña contrasena clave senha heslo parola salasana lösenord losenord wachtwoord hasło haslo "
    "adgangskode passord jelszó geslo lozinka şifre mật пароль".split()
)
_TRANSLATED: Final = frozenset((*_WORDS_FOR_IT, *(json.dumps(word).strip('"') for word in _WORDS_FOR_IT)))
"""The word itself, in files of translations, also as JSON escapes it."""
_CAMEL: Final = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)+(?:[A-Z]{2,4}s?)?$")
_CLASS: Final = re.compile(r"(?:[A-Z]\d)?(?:[A-Z][a-z]+){2,}\d?$")
_SIGNS: Final = re.compile(rb"(?i)secret|salt|token|api_?key|auth_?key|access_?key")
_FEWEST_LETTERS: Final = 4
"""Of a word, without those that speak of passwords."""
_MNEMONIC: Final = re.compile(rb"(?i)mnemonic|seed|recovery|otp\b|[2m]fa")
_RECOVERS: Final = re.compile(r"[a-z]{3,8}(?: [a-z]{3,8}){10,23}$|[A-Z2-7]{16,64}$")
"""The words of a wallet, or what an authenticator is given."""
_OPENS_SESSIONS: Final = re.compile(
    rb"(?i)(?:secret_?key|(?:jwt|session|cookie|app|signing|hmac|auth|webhook|client|api|shared|consumer)_?secret)$"
)
"""What sessions are signed with, and where people write a word."""
_NAMED: Final = re.compile(r"[a-z]+(?:[-_.][a-z]+)*[-_.]v?\d{1,4}$|[A-Z0-9]+$")
"""What names of resources and of constants look like: my-secret-2, GTE0."""
_SHORTEST_CHOSEN: Final = 5
_NUMBERED: Final = re.compile(r"[A-Za-z_.-]*\d?$")
_ALPHABETS: Final = ("0123456789", "abcdefgh", "qrstuvwx")
_MARKS: Final = re.compile(r"[!#$%&*+<=>?@^`{|}~]")
_HYPHENED: Final = re.compile(r"[A-Za-z]{3,}(?:-[A-Za-z]{3,})+$")
_KEYWORDS: Final = re.compile(
    r"(?i)pass(?:word|wd|phrase|code)?|pwd|secret|token|key|auth|credential|user|login|api|test|example|sample|dummy|fake|foo|bar"
)
_WORDS_ONLY: Final = re.compile(r"[A-Za-z][A-Za-z0-9'-]*(?: [A-Za-z0-9][A-Za-z0-9'-]*)+$")
_SPEAKS: Final = re.compile(
    r"(?i)(?:.*pass(?:word|wd|phrase|code)?s?|.*secret.*|.*token.*|key|user(?:name)?|login|log|auth.*|your?|my|the|an?|this|that|is|are|was|be|"
    r"must|can|may|should|will|not|no|for|from|to|of|in|on|at|by|or|if|enter|please|type|set|get|use|using|change|reset|"
    r"new|old|current|confirm|repeat|again|invalid|wrong|missing|required|optional|empty|none|null|min|max|length|"
    r"characters?|field|more|less|than|least|most|it|we|do|does|has|have)$"
)
_DUMMY: Final = re.compile(
    r"(?i)(?<!com)(?<!sur)(?<!by)pass(?:word|wd|phrase|code)?|pwd|secret|token|user|login|test|example|sample|dummy|fake|foo|bar$"
)
_ALPHA: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SHORT_WORDS: Final = frozenset(
    "by of to in on is id ok ui at as or no my up db ip js ts go io if do an it we be us vm os tv pc de la en eu".split()
)
_KEBAB: Final = re.compile(r"[a-z]{2,}(?:[-_.][a-z]{2,})+$")
_VOWEL: Final = re.compile(r"[aeiouyAEIOU]")
_HARD: Final = re.compile(r"(?i)[bcdfghjklmnpqrstvwxz]{5,}")


def is_secret(name: bytes, kind: Kind, raw: bytes, form: Form) -> bool:  # noqa: PLR0911 - one return per reason
    """Whether the value `raw` beside `name`, a name of this `kind`, must be masked."""
    if kind is Kind.NONE or len(raw) > LONGEST or b"\x1f" in raw or b"[REDACTED:" in raw:
        return False
    value = raw.decode("utf-8", "replace").strip().removeprefix("{noop}")
    if len(value) < _SHORTEST[kind] or _PLACEHOLDER.match(value) or _REFERENCE.match(value):
        literal = form in {Form.CONFIG, Form.CERTAIN}
        return literal and _is_pin(value, least=4 if kind is Kind.PASSWORD else 6)
    if _REGEX.search(value) or (_bare(value) and _bare(name.decode("utf-8", "replace")).endswith(_bare(value))):
        return False
    if form is Form.CERTAIN:
        return not _KEYWORDS.fullmatch(value)
    if kind is Kind.PASSWORD:
        return _is_password(value, form)
    if form is Form.BARE and (_CALL.search(value) or _DOTTED.match(value)):
        return False
    if _MNEMONIC.search(name) and _RECOVERS.match(value):
        return True
    if " " in value or "\t" in value:
        return form is not Form.BARE and len(_MARKS.findall(value)) >= 4 and not value.isalpha()  # noqa: PLR2004 - noise
    if kind is Kind.KEY:
        return (
            _TOKEN_TEXT.match(value) is not None
            and not _CAMEL.match(value)
            and is_random(value, least=16)
            and not is_segmented(value)
        )
    return _is_secret_token(name, value, form)


def _is_secret_token(name: bytes, value: str, form: Form) -> bool:
    """Anything that is no words, nor the short name of a public key."""
    if form is Form.QUOTED and _DOTTED.match(value) and not any(c.isdigit() for c in value):
        return False
    if _KEY_ID.match(value) and name.lower().endswith(b"key") and b"api" not in name.lower():
        return False
    if form is not Form.BARE and _SIGNS.search(name) and is_chosen(value) and not _NAMED.match(value):
        return True
    if form is not Form.BARE and _OPENS_SESSIONS.search(name) and _ONE_WORD.match(value):
        return value.lower() not in _LABELS and len(_DUMMY.sub("", value)) >= _FEWEST_LETTERS
    if is_random(value, least=8) or (form is Form.QUOTED and _is_interleaved(value)):
        return True
    return form is Form.CONFIG and (_mixes(value) or _is_env(name))


def _bare(text: str) -> str:
    """The letters and digits, as a name and its own spelling as a value share them."""
    return re.sub(r"[\W_]", "", text).lower()


def _is_interleaved(value: str) -> bool:
    """Letters, digits, and letters again, in a value that is no technical term: abc123def."""
    return not value.isupper() and len(_CHANGES.findall(_TECH.sub("", value))) >= 2 and _mixes(value)  # noqa: PLR2004 - there and back


def _is_env(name: bytes) -> bool:
    """Whether a name is written as an environment variable: its value in a file of settings is literal."""
    return name.isupper() and len(name) > 5  # noqa: PLR2004 - API_KEY and longer


_SHORTEST: Final = {Kind.PASSWORD: 4, Kind.TOKEN: 6, Kind.KEY: 16}


def _is_pin(value: str, least: int) -> bool:
    return bool(_NUMBER.match(value)) and least <= len(value) <= 12 and len(set(value)) > 1  # noqa: PLR2004


def _is_password(value: str, form: Form) -> bool:  # noqa: PLR0911 - one return per reason
    """People choose words, so only the surroundings tell; in code a plain word is a label, a name or a test."""
    if form is Form.BARE and (_CALL.search(value) or _DOTTED.match(value)):
        return False
    if " " in value:
        return _is_words(value) or (form is Form.CONFIG and _is_phrase(value))
    if value.lower() in _TRANSLATED:
        return False
    if form is Form.CONFIG:
        named = re.fullmatch(r"[a-z]+[_-][a-z_-]+", value) and _KEYWORDS.search(value)
        return not named and not _KEYWORDS.fullmatch(value)
    if is_wordy(value):
        if _ONE_WORD.match(value):
            return (
                form is Form.QUOTED and value.lower() not in _LABELS and len(_DUMMY.sub("", value)) >= _FEWEST_LETTERS
            )
        if _HYPHENED.match(value):
            return form is Form.QUOTED and not _KEYWORDS.search(value)
        bare = _KEYWORDS.sub("", value)
        if sum(map(str.isdigit, bare)) > 1 and not _TERM.search(value) and value[0].isalpha():
            return True
        return any(c.isdigit() for c in bare) and any(c.isalpha() for c in bare) and not _TERM.search(value)
    return True


def _is_phrase(value: str) -> bool:
    """A passphrase of words with a number or a mark inside; a sentence is a label or a message."""
    return not value[0].isupper() and value.count(" ") <= 6 and any(c.isdigit() for c in value)  # noqa: PLR2004


def _is_words(value: str) -> bool:
    """Words and nothing else, none of which speaks of passwords or addresses somebody."""
    words = value.split()
    if not 2 <= len(words) <= 6 or re.match(r"[A-Z][a-z]", value) or not _WORDS_ONLY.match(value):  # noqa: PLR2004
        return False
    return all(len(word) > 1 for word in words) and not any(_SPEAKS.match(word) for word in words)


def is_segmented(value: str) -> bool:
    """Names and short numbers joined by separators: a module, a file, a version."""
    parts = [part for part in re.split(r"[._/~=+:-]+", value) if part]
    return all((part.isdigit() and len(part) <= 4) or is_wordy(part) for part in parts)  # noqa: PLR2004 - years are numbers


def holds_random(value: str) -> bool:
    """Whether some part of the value was drawn at random."""
    return any(is_random(part, least=12) for part in re.split(r"[^A-Za-z0-9%+/_-]+", value))


def is_chosen(value: str) -> bool:
    """Whether a value is no word, name, number or option: somebody chose it to be a password, or drew it."""
    if len(value) < _SHORTEST_CHOSEN or " " in value or value.isdigit():
        return False
    if any(pattern.match(value) for pattern in (_PLACEHOLDER, _REFERENCE, _DOTTED)) or _REGEX.search(value):
        return False
    rest = _TERM.sub("", value)
    if any(row in value.lower() for row in _ALPHABETS) or _CLASS.match(value) or _NUMBERED.match(rest):
        return False
    mixed = any(c.isdigit() for c in rest) and any(c.isalpha() for c in rest) and len(rest) >= _SHORTEST_CHOSEN
    return mixed or is_random(value, least=12)


def is_placeholder(raw: bytes) -> bool:
    """Whether a value only says where a secret would stand."""
    return _PLACEHOLDER.match(raw.decode("utf-8", "replace")) is not None


def is_plain(raw: bytes) -> bool:
    """Whether a value that an imported rule found is nothing but words."""
    return not any(48 <= c <= 57 for c in raw) and is_wordy(raw.decode("utf-8", "replace"))  # noqa: PLR2004 - "0" to "9"


def _mixes(value: str) -> bool:
    """Letters and digits that are no technical term and no numbered keyword."""
    rest = _KEYWORDS.sub("", _TERM.sub("", value))
    return any(c.isdigit() for c in rest) and any(c.isalpha() for c in rest) and len(rest) >= 6  # noqa: PLR2004


def is_wordy(value: str) -> bool:
    """Words joined in the ways of code and prose, with at most a few numbers: nothing that was drawn at random."""
    value = _TECH.sub("", value)
    if re.search(r"[^\w\s./:\\,'-]", value):
        return False
    runs = _ALPHA.findall(value)
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
    if run.lower() in _SHORT_WORDS:
        return False
    if len(run) <= 2 or not _VOWEL.search(run) or _HARD.search(run):  # noqa: PLR2004
        return True
    return not shouted and run.isupper()


def entropy(value: str) -> float:
    """Bits per character."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values())


def is_random(value: str, *, least: int) -> bool:
    """Whether the value was most likely drawn at random: long enough, no words, mixed, and no pattern."""
    if len(value) < least or is_wordy(value) or not value.isascii() or _KEBAB.match(value):
        return False
    if not any(c.isdigit() for c in value) and len(value) < 16 and not re.search(r"[a-z][A-Z].*[a-z][A-Z]", value):  # noqa: PLR2004
        return False
    return entropy(value) >= (3.0 if len(value) >= 16 else _SHORT_ENTROPY)  # noqa: PLR2004
