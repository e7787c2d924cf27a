"""The values of libpq's `require_auth`.

Apart from `authentication`, since reading the settings must not load the driver: it takes most of the time of a
command that connects to nothing.
"""

from typing import Final

REQUESTS: Final = {3: "password", 5: "md5", 7: "gss", 9: "sspi", 10: "scram-sha-256"}
"""The methods of `require_auth` by the code of the server's request."""
METHODS: Final = frozenset({*REQUESTS.values(), "none"})


def methods(text: str) -> frozenset[str] | None:
    """The methods that a value of `require_auth` accepts; None for an empty value, which accepts all.

    Raises:
        ValueError: it is no such value; the text explains why.
    """
    named = [word.strip() for word in text.split(",") if word.strip()]
    excluded = [word.removeprefix("!") for word in named if word.startswith("!")]
    if excluded and len(excluded) < len(named):
        raise ValueError("either all of its methods have a `!`, or none has")
    unknown = sorted({word.removeprefix("!") for word in named} - METHODS)
    if unknown:
        raise ValueError(f"{unknown[0][:20]!r} is none of {', '.join(sorted(METHODS))}")
    return METHODS - frozenset(excluded) if excluded else frozenset(named) or None
