"""The one place where text becomes HTML or data of a page; pure.

Everything that is shown comes from agents and repositories. `el` takes text for text unless its type marks it as
markup, so a caller who forgets to escape can't write one. What a browser would obey or hide (control characters, marks
that change the direction of writing) is written out, so that a line reads as it runs.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

_ODD: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_PICTURES: Final = 0x2400
"""Where Unicode has its pictures of the control characters."""
_DELETE: Final = 0x7F
_PICTURE_OF_DELETE: Final = "\u2421"
_LEAST: Final = 0.0001
"""US dollars that are still shown as a number."""
_ENTITIES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
_IN_SCRIPT: Final = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
_SCHEME: Final = re.compile(r"^[a-z+]+://")
_VOID: Final = frozenset({"meta", "link", "input", "br", "rect", "line", "path"})


class Html(str):
    """Markup. Only this file makes one."""

    __slots__ = ()


def visible(text: str) -> str:
    """The text with everything written out that a browser would obey or hide; its lines and tabs stay."""
    return _ODD.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < ord(" "):
        return chr(_PICTURES + code)
    if code == _DELETE:
        return _PICTURE_OF_DELETE
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"⟨U+{code:04X}⟩"  # noqa: PLR2004 - the surrogates


def escape(text: str) -> Html:
    """A text as markup that shows it."""
    return Html(visible(text).translate(_ENTITIES))


def clipped(text: str, most: int) -> str:
    """A text, or its beginning and how much more there is."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more characters)"


def first_line(text: str, most: int = 160) -> str:
    """The first line that is not empty."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= most else line[: most - 1] + "…"


def money(cost: float | None) -> str:
    """US dollars; sums below one with four digits, so that a request is not free."""
    if cost is None:
        return "unknown"
    cost = round(cost, 9)  # sums of floats in any order are shown alike
    if not cost:
        return "$0"
    return f"${cost:,.2f}" if cost >= 1 else f"${cost:.4f}" if cost >= _LEAST else f"<${_LEAST}"


def priced(cost: float | None, unpriced_steps: int) -> str:
    """US dollars of steps of which some may have no price; those are not free."""
    if cost is None:
        return "no price" if unpriced_steps else money(0)
    return f"{'> ' if unpriced_steps else ''}{money(cost)}"


def address(repository: str) -> str:
    """A remote's URL without what all have in common; a folder as it is."""
    short = _SCHEME.sub("", repository)
    return short if short == repository else short.removesuffix(".git")


def el(element: str, /, *children: str | None, **attributes: str | float | bool | None) -> Html:
    """An element; `class_` and `aria_label` are spelled as Python needs them."""
    given = "".join(_attribute(name, value) for name, value in attributes.items())
    if element in _VOID:
        return Html(f"<{element}{given}>" if element not in {"rect", "line", "path"} else f"<{element}{given}/>")
    return Html(f"<{element}{given}>{join(children)}</{element}>")


def join(parts: Iterable[str | None]) -> Html:
    """Parts one after the other."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts if part is not None))


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    spelled = name.rstrip("_").replace("_", "-")
    return f" {spelled}" if value is True else f' {spelled}="{escape(str(value))}"'


def data(name: str, value: object) -> Html:
    """What a page's script reads, as a block of JSON that ends where it should whatever is in it."""
    shown = msgspec.json.encode(_shown(msgspec.to_builtins(value))).decode()
    return Html(f'<script type="application/json" id="{escape(name)}">{shown.translate(_IN_SCRIPT)}</script>')


def trusted(source: str) -> Html:
    """A file of this package as it is."""
    return Html(source)


def _shown(value: object) -> object:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): _shown(one) for key, one in value.items()}
    return [_shown(one) for one in value] if isinstance(value, list | tuple) else value
