"""Finds and masks the secrets of one text: every layer once over the text and once over its unescaped view."""

import string
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from agent_trace_sidecar.redaction.assignments import assignments
from agent_trace_sidecar.redaction.deadline import check_deadline
from agent_trace_sidecar.redaction.encoded import encoded
from agent_trace_sidecar.redaction.files import values_of_file
from agent_trace_sidecar.redaction.memory import Known
from agent_trace_sidecar.redaction.names import Kind, kind_of
from agent_trace_sidecar.redaction.nearby import near_words
from agent_trace_sidecar.redaction.rulebook import Places, Rulebook
from agent_trace_sidecar.redaction.samples import without_samples
from agent_trace_sidecar.redaction.spans import BREAK, Span, applied, blanked, by_line, merged
from agent_trace_sidecar.redaction.structures import key_blocks
from agent_trace_sidecar.redaction.tables import tables
from agent_trace_sidecar.redaction.views import Place, unescaped, unquoted, without_entities

MOST_ROUNDS: Final = 4
MOST_DEPTH: Final = 3
_NAME: Final = (string.ascii_letters + string.digits + "_.$-").encode()
_LONGEST_NAME: Final = 60
_NAME_REACH: Final = 100
_VALUE_REACH: Final = 300
_NEXT_LINE: Final = 40


class Masker:
    """The stateless part of the redactor: a text in, spans or a masked text out."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook

    def mask(
        self, text: bytes, counts: Counter[str], known: Sequence[Known] = (), *, secret_file: bool = False
    ) -> bytes:
        """`text` without secrets; what was masked is added to `counts`. Repeats until nothing is left to be found."""
        for _ in range(MOST_ROUNDS):
            check_deadline()
            view = blanked(text)
            extra = [span for k in known for span in k.find(view)]
            if secret_file:
                extra += values_of_file(view)
            spans = merged(by_line(view, [*self._all(view, 0, Places.none()), *extra]))
            if not spans:
                break
            counts.update(span.rule for span in spans)
            text = applied(text, spans)
        return text

    def find(self, text: bytes, depth: int = 0) -> list[Span]:
        """The secrets of `text`, in order, none across a line end."""
        view = blanked(text)
        return merged(by_line(view, self._all(view, depth, Places.none())))

    def find_apart(self, texts: bytes, cores: list[int]) -> tuple[list[Span], bool]:
        """The same for texts with a `BORDER` between them, and whether something was found across a border.

        Then it must be asked what each says by itself, if they don't belong together. `cores` gets the places of
        secret-like words.
        """
        view = blanked(texts)
        found = list(self._all(view, 0, Places.none()._replace(cores=cores)))
        across = any(BREAK in view[span.start : span.end] for span in found)
        return merged(by_line(view, found)), across

    def _all(self, view: bytes, depth: int, places: Places) -> Iterator[Span]:
        return without_samples(view, self._layers(view, depth, places))

    def _layers(self, view: bytes, depth: int, places: Places) -> Iterator[Span]:
        yield from self._rulebook.spans(view, places)
        yield from key_blocks(view)
        yield from tables(view, statements=bool(places.statements), owners=places.owners)
        if promising := [core for core in places.cores if _promises(view, core)]:
            yield from assignments(view, _around(view, promising))
        yield from near_words(view, places.providers, words=bool(places.strong))
        if depth < MOST_DEPTH and b"\\" in view:
            yield from self._through(unescaped(view), depth + 1)
        if depth == 0:
            if b"%" in view:
                yield from self._through(unquoted(view), MOST_DEPTH)
            if b"&quot;" in view or b"&#34;" in view:
                yield from self._through(without_entities(view), MOST_DEPTH)
            yield from encoded(view, lambda plain: self.find(plain, MOST_DEPTH))

    def _through(self, inner: tuple[bytes, Place] | None, depth: int) -> Iterator[Span]:
        """The secrets of another reading of the text, where they stand in the text itself."""
        if inner is None:
            return
        view, place = inner
        for span in self.find(view, depth):
            yield span._replace(start=place(span.start), end=place(span.end), quote=b"")


def _promises(text: bytes, core: int) -> bool:
    """Whether the name around a core may have a secret beside it; in code most are keywords, tokens and authors."""
    if text[core] > 127:  # noqa: PLR2004 - a name that is not ASCII
        return True
    before, after = text[max(0, core - _LONGEST_NAME) : core], text[core : core + _LONGEST_NAME]
    start = core - len(before) + len(before.rstrip(_NAME))
    return kind_of(text[start : core + len(after) - len(after.lstrip(_NAME))]) is not Kind.NONE


def _around(text: bytes, cores: list[int]) -> Iterator[tuple[int, int]]:
    """The stretches of lines around the cores, where a name, its separator and the start of a value can stand."""
    low = high = -1
    for core in cores:
        if core < high - _NAME_REACH:
            continue
        start = max(text.rfind(b"\n", max(0, core - _NAME_REACH), core) + 1, core - _NAME_REACH)
        end = text.find(b"\n", core, core + _VALUE_REACH)
        end = min(len(text), core + _VALUE_REACH) if end < 0 else end
        if text.find(b"value", end, end + _NEXT_LINE) >= 0 or text.find(b"<string>", end, end + _NEXT_LINE) >= 0:
            end = min(len(text), end + 3 * _NEXT_LINE)  # name and value are members of one object, on two lines
            border = text.find(BREAK, core, end)
            end = border if border >= 0 else end
        if high >= 0 and start <= high + _NAME_REACH and BREAK not in text[high:start]:
            high = max(high, end)
            continue
        if high >= 0:
            yield low, high
        low, high = start, end
    if high >= 0:
        yield low, high
