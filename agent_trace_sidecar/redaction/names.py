"""What a name says about the value beside it: a password, a secret, a token, merely a key, or nothing."""

# ruff: noqa: SIM905, E501 - long lists of words are read and sorted as text

import enum
import functools
import re
from typing import Final


class Kind(enum.IntEnum):
    """How much a name promises a secret; the less it does, the more random the value must be."""

    NONE = 0
    KEY = 1
    """`key`, `auth`, `salt`: only a long random value."""
    TOKEN = 2
    """`api_key`, `token`, `secret`: anything that is no words."""
    PASSWORD = 3
    """`password`: anything that is no placeholder; people choose words."""


CORES: Final = (
    "pass",
    "pwd",
    "psw",
    "psk",
    "pw",
    "secret",
    "token",
    "cred",
    "key",
    "auth",
    "salt",
    "nonce",
    "pin",
    "jwt",
    "bearer",
    "hmac",
    "_pat",
    "otp",
    "sas",
    "mnemonic",
    "dsn",
    "kennwort",
    "contrase",
    "senha",
    "haslo",
    "wachtwoord",
    "clave",
    "密码",
    "密碼",
    "口令",
    "パスワード",
    "비밀번호",
    "암호",
    "пароль",
    "Пароль",
)
"""What a secret-like name contains, lower-case; the gate looks for these."""

STRONG_CORES: Final = frozenset(("pass", "pwd", "secret", "token", "cred", "key", "bearer"))
"""Those behind which a long random value is looked for even without a separator."""

_FOREIGN: Final = tuple(core for core in CORES if not core.isascii())
_FOREIGN_WORDS: Final = ("kennwort", "contrase", "senha", "haslo", "wachtwoord", "clave", "motdepasse")

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_PROPERTY: Final = re.compile(r"(?<=[a-z])(?:\.(?:[Tt]ext|[Vv]alue|equals(?:IgnoreCase)?|compareTo)|\[\d*\]?|\(\))$")
"""A field of a form: what is given to `txtPassword.Text` is the password."""
_NOT_PASS: Final = frozenset(
    "compass bypass encompass surpass trespass multipass lowpass highpass bandpass passes passed passing passive "
    "passport passenger passage passthrough passthru passwordless overpass underpass compassion minipass subpass ".split()
)
_PASSED: Final = frozenset("thru through threshold fds fd rate count args kwargs context data by on to if all".split())
"""What is passed: pass_fds."""
_PASSES: Final = frozenset(
    "should must can will tests all first second third last next one two single multi render shader compiler".split()
)
"""What passes: should_pass, or how often: second_pass."""
_NOT_TOKEN: Final = frozenset(
    "tokenizer tokenize tokenized tokenization tokenizers tokens untokenize secretsmanager secretmanager".split()
)
_QUALIFIES_KEY: Final = frozenset(
    "api access secret private auth signing encryption encrypt master shared account license session subscription "
    "storage app application client consumer service admin user web ssh aes hmac cipher crypto security server host "
    "deploy deployment write read rest developer dev project org integration merchant publishable site live prod "
    "test production sandbox secure enc sign jwt rsa gpg pgp tls ssl http".split()
)
_HARMLESS_KEY: Final = frozenset(
    "result public pub pubkey publickey idempotency idempotence deduplication shard routing request correlation primary foreign sort partition cache keyword keywords hot unique index object row column dict map lookup "
    "registry translation i18n message sorting group hash range routing translate natural composite compound".split()
)
_OF_KEY: Final = frozenset("thumbprint fingerprint hash digest checksum pub public verifier".split())
"""What is told of a key, and is none."""
_HARMLESS_LAST: Final = frozenset(
    "length len count size limit max min ttl type types kind name names policy attempts used url uri urls path file "
    "filename files dir folder field fields label prefix suffix regex regexp pattern header headers expiry expires "
    "expiration expire timeout enabled disabled required optional valid validity index algorithm algorithms alg algo "
    "class hint placeholder manager provider providers store version format list reset form callback handler func fn "
    "function method methods mode scope scopes endpoint host port usage total budget counter status state strength "
    "validator validators error errors message msg text title desc description prompt input output info link icon "
    "event id ids idx pos position start end offset column row table schema alias env var variable schemes scheme "
    "encode decode strip split join format replace startswith endswith lower upper find match search test compare equals append "
    "update pattern patterns lexer char chars rotation age days hours minutes seconds ms time timestamp at date created updated cost rate price per each "
    "visible visibility parser stream buffer loader factory builder service services middleware backend module "
    "package spec unspecified type_ level bits rounds iterations iter protocol encoding separator sep delimiter".split()
)
_HARMLESS_TOKEN: Final = frozenset(
    "next output input page continuation pagination change sync request action injection idempotency resume lifecycle cursor "
    "verification cancellation first last current prev previous lookahead async".split()
)
"""A token of this kind says where to go on, and opens nothing."""
_GIVES: Final = frozenset("credential credentials jwt bearer authorization salt nonce".split())
_STRICT: Final = frozenset("salt nonce hmac otp totp sas mnemonic dsn cred creds auth".split())


def words_of(name: str) -> list[str]:
    """The lower-case words of an identifier: `dbUserPass_2` is db, user, pass, 2."""
    return [word.lower() for word in _WORD.findall(name)]


@functools.lru_cache(maxsize=8192)
def kind_of(raw: bytes) -> Kind:
    """What the name promises."""
    name = raw.decode("utf-8", "replace")[-120:]
    lowered = name.lower()
    if any(word in lowered for word in _FOREIGN):
        return Kind.PASSWORD
    words = words_of(_PROPERTY.sub("", name))
    if any(word.startswith(_FOREIGN_WORDS) for word in words) or words[-3:] == ["mot", "de", "passe"]:
        return Kind.PASSWORD
    while words and words[-1].isdigit():
        words.pop()
    if (
        not words
        or words[0] in {"err", "error"}
        or words[-1] in _HARMLESS_LAST
        or (words[-1] in {"tokens", "keys"} and len(words) > 1)
    ):
        return Kind.NONE
    return max((_kind_of_word(word, words, i) for i, word in enumerate(words)), default=Kind.NONE)


def _kind_of_word(word: str, words: list[str], at: int) -> Kind:  # noqa: PLR0911 - a table in the form of returns
    if _is_other(word, words, at):
        return Kind.NONE
    last = at == len(words) - 1
    if "passw" in word or "passphrase" in word or "passcode" in word or word in {"pwd", "psw", "pswd", "passe"}:
        return Kind.PASSWORD
    if (
        words[at - 1 : at + 1] == ["security", "credentials"]
        or word.endswith(("pass", "pwd"))
        or (word.endswith("pw") and last)
        or (word in {"pw", "pin", "psk"} and last)
    ):
        return Kind.PASSWORD
    if word.startswith("secret") and word not in {"secretary", "secretly"}:
        return Kind.TOKEN
    if word.endswith(("token", "secret", "apikey", "accesskey", "secretkey", "privatekey", "authkey")):
        return Kind.TOKEN
    if word == "key" or (
        word.endswith("key") and word not in {"pubkey", "publickey", "monkey", "turkey", "donkey", "hotkey", "jockey"}
    ):
        return _kind_of_key(words, at)
    if word == "pat" and last:
        return Kind.KEY
    if last and (word in _GIVES or (at and word in {"auth", "cred", "creds"})):
        return Kind.TOKEN
    return Kind.KEY if word in _STRICT and last else Kind.NONE


def _is_other(word: str, words: list[str], at: int) -> bool:
    """Whether a word only sounds like a password or a token."""
    if word == "pass":
        return (at > 0 and words[at - 1] in _PASSES) or not _PASSED.isdisjoint(words[at + 1 : at + 2])
    return word in _NOT_PASS or word in _NOT_TOKEN or (word == "token" and at > 0 and words[at - 1] in _HARMLESS_TOKEN)


def _kind_of_key(words: list[str], at: int) -> Kind:
    if any(word in _HARMLESS_KEY for word in words[:at]) or any(word in _OF_KEY for word in words[at + 1 :]):
        return Kind.NONE
    if at and words[at - 1] in {"wep", "wpa"}:
        return Kind.PASSWORD
    if words[at + 1 : at + 2] == ["material"]:
        return Kind.TOKEN
    if at and words[at - 1] in _QUALIFIES_KEY:
        return Kind.TOKEN
    return Kind.KEY if at == len(words) - 1 else Kind.NONE
