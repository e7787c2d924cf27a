"""The kind of value that a name announces: a password, a secret, a token, merely a key, or nothing."""

import enum
import functools
from typing import Final

from agent_trace_sidecar.redaction.rules import Gates, Words


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
W: Final = Words("names")


def words_of(name: str) -> list[str]:
    """The lower-case words of an identifier: `dbUserPass_2` is db, user, pass, 2."""
    return [word.lower() for word in G.word.findall(name)]


@functools.lru_cache(maxsize=8192)
def kind_of(raw: bytes) -> Kind:
    """What the name promises."""
    name = raw.decode("utf-8", "replace")[-120:]
    lowered = name.lower()
    if any(word in lowered for word in W.foreign):
        return Kind.PASSWORD
    words = words_of(G.property.sub("", name))
    if any(word.startswith(tuple(W.foreign_words)) for word in words) or words[-3:] == ["mot", "de", "passe"]:
        return Kind.PASSWORD
    while words and (words[-1].isdigit() or (len(words) > 1 and len(words[-1]) == 1)):
        words.pop()
    if (
        not words
        or words[0] in {"err", "error"}
        or words[-1] in W.harmless_last
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
        word.endswith("key")
        and not word.endswith(("pubkey", "publickey", "monkey", "turkey", "donkey", "hotkey", "jockey"))
    ):
        return _kind_of_key(words, at)
    if word == "pat" and last:
        return Kind.KEY
    if last and (word in W.gives or (at and word in {"auth", "cred", "creds"})):
        return Kind.TOKEN
    return Kind.KEY if word in W.strict and last else Kind.NONE


def _is_other(word: str, words: list[str], at: int) -> bool:
    """Whether a word only sounds like a password or a token."""
    if word == "pass":
        return (at > 0 and words[at - 1] in W.passes) or not W.passed.isdisjoint(words[at + 1 : at + 2])
    return (
        word in W.not_pass or word in W.not_token or (word == "token" and at > 0 and words[at - 1] in W.harmless_token)
    )


def _kind_of_key(words: list[str], at: int) -> Kind:
    if any(word in W.harmless_key for word in words[:at]) or any(word in W.of_key for word in words[at + 1 :]):
        return Kind.NONE
    if at and words[at - 1] in {"wep", "wpa"}:
        return Kind.PASSWORD
    if words[at + 1 : at + 2] == ["material"]:
        return Kind.TOKEN
    if at and words[at - 1] in W.qualifies_key:
        return Kind.TOKEN
    return Kind.KEY if at == len(words) - 1 else Kind.NONE
