"""Values drawn at random in texts of tests: `<<hex 32>>` stands for 32 hex digits; no file holds what looks real."""

import random
import re
import string
from typing import Final

_ALPHABETS: Final = {
    "digits": string.digits,
    "hex": "0123456789abcdef",
    "HEX": "0123456789ABCDEF",
    "lower": string.ascii_lowercase + string.digits,
    "UPPER": string.ascii_uppercase + string.digits,
    "base32": string.ascii_uppercase + "234567",
    "alnum": string.ascii_letters + string.digits,
    "base64": string.ascii_letters + string.digits + "+/",
    "url": string.ascii_letters + string.digits + "-_",
}
_MARK: Final = re.compile(r"<<(\w+) (\d+)>>")


def drawn(text: str, seed: int = 5) -> str:
    """`text` with a value in the place of each mark; of letters and digits, where the alphabet has both."""
    rng = random.Random(seed)  # noqa: S311 - made-up secrets

    def value(match: re.Match[str]) -> str:
        alphabet, length = _ALPHABETS[match[1]], int(match[2])
        while True:
            found = "".join(rng.choices(alphabet, k=length))
            if found[0].isalnum() and found[-1].isalnum() and (alphabet.isdigit() or _mixes(found)):
                return found

    return _MARK.sub(value, text)


def _mixes(value: str) -> bool:
    return len(value) < 4 or (any(map(str.isdigit, value)) and any(map(str.isalpha, value)))
