"""What a rule with a pattern is."""

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import re2


class Overload(Exception):  # noqa: N818 - not an error of ours: the text is hostile
    """A text has so many candidates that masking it would take seconds; it is withheld instead."""


def compiled(pattern: bytes) -> Any:  # noqa: ANN401 - google-re2 is untyped
    """A pattern of RE2, for bytes: linear in the text whatever the text is. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


class Late:
    """`compiled` at first use: together the patterns of all layers take 20 ms, and most runs need few of them."""

    def __init__(self, pattern: bytes) -> None:
        self._pattern = pattern
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as above
        """A method of the pattern, kept so that the next use finds it at once."""
        self._made = self._made or compiled(self._pattern)
        found = self.__dict__[name] = getattr(self._made, name)
        return found


_FAR: Final = 4096


@dataclass(slots=True)
class Rule:
    """A pattern and what of its match is the secret."""

    id: str
    pattern: str
    literals: tuple[str, ...]
    """Lower-case words of which one is in every match; empty when there is none."""
    group: int = -1
    """The group that is the secret, 0 for the whole match, -1 for the longest group that took part."""
    spread: bool = True
    """Whether the value is unmistakable enough to be masked wherever else it occurs."""
    judged: Literal["", "form", "password", "chosen", "random", "mixed", "unplain"] = ""
    """What the value must also look like, because the form around it proves too little; "form": it proves enough."""
    reach: int = _FAR
    """How far behind its literal a match may end."""
    regex_: Any = field(default=None, repr=False)

    def regex(self) -> Any:  # noqa: ANN401 - google-re2 is untyped
        """The pattern, compiled at first use."""
        if self.regex_ is None:
            self.regex_ = compiled(self.pattern.encode())
        return self.regex_


_NEAR: Final = 1000


def near(rule: Rule) -> Rule:
    """The rule, which looks only as far as a line of a program or two go, unless it says how far."""
    return replace(rule, reach=_NEAR) if rule.reach == _FAR else rule
