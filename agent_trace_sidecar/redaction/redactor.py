"""The one redactor: no event reaches spool, database, dead letters or log except through it.

It fails closed. Whatever goes wrong, what comes out is a stub with the number of withheld bytes and the reason.
"""

import threading
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, Literal

import msgspec

from agent_trace_sidecar.opencode import wire
from agent_trace_sidecar.redaction import kingfisher, rules
from agent_trace_sidecar.redaction.json_line import MOST_ROUNDS, Found, masked_line
from agent_trace_sidecar.redaction.known_values import Memory
from agent_trace_sidecar.redaction.metadata import without_contents
from agent_trace_sidecar.redaction.redacted import EnvelopeError, Redacted, mint, unchanged
from agent_trace_sidecar.redaction.rules import Rule
from agent_trace_sidecar.redaction.scanner import Scanner
from agent_trace_sidecar.redaction.secret_files import is_secret_path, values_of_file
from agent_trace_sidecar.redaction.spans import Effort, Overdue, Overload, applied, blanked, by_line, merged
from agent_trace_sidecar.redaction.strings import Portion

_MOST_AT_ONCE: Final = 128
"""Lines that are scanned together; more gains little."""
_MOST_BYTES_AT_ONCE: Final = 96 * 1024
_EXPORT_S: Final = 3.0
"""The rules' export, once for each version, takes half a second."""


class Redactor:
    """Masks events. It remembers what a session has shown; any thread may use it, one after the other."""

    def __init__(
        self,
        *,
        enabled: bool = True,
        capture: Literal["full", "metadata"] = "full",
        rules_file: Path | None = None,
        cache_dir: Path | None = None,
        environ: Mapping[str, str] = {},
        on_problem: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_problem` is called, from a thread, when fewer rules are active than there should be.

        Raises:
            RuleError: a rule of `rules_file` is wrong.
        """
        self._enabled = enabled
        self._capture = capture
        self._on_problem = on_problem
        self._cache_dir = cache_dir
        self._user_rules = rules.read_rules(rules_file) if rules_file is not None else []
        self._lock = threading.RLock()
        self._scanner: Scanner | None = None
        self._loading: threading.Thread | None = None
        self._exported: list[Rule] | None = None
        if enabled:
            self._exported = kingfisher.load(cache_dir)
            if self._exported is None:
                self._loading = threading.Thread(target=self._export, name="redaction-rules", daemon=True)
                self._loading.start()
        self._memory = Memory(environ if enabled else {})

    @property
    def version(self) -> str:
        """The version of the rules: kingfisher's, the bundled ones', and the user's."""
        ours = f"kingfisher {kingfisher.kingfisher_version()} + {rules.version()}"
        return f"{ours} + {zlib.crc32(msgspec.json.encode(self._user_rules)):08x}" if self._user_rules else ours

    def line(self, raw: bytes, observed: bytes | None = None) -> Redacted:
        """One wire line without its secrets, with `observed` (trusted JSON) spliced in. Never raises."""
        return self.lines([raw], [observed])[0]

    def lines(self, raws: Sequence[bytes], observed: Sequence[bytes | None] | None = None) -> list[Redacted]:
        """As `line`, for lines that follow each other: scanned together they cost a fraction. Never raises."""
        if b"\n" in b"".join(raws):
            raws = [raw.replace(b"\n", b" ").replace(b"\r", b" ") for raw in raws]
        seen = observed or [None] * len(raws)
        done: list[Redacted] = []
        with self._lock:
            for begin, end in _portions(raws):
                done += self._portion(raws[begin:end], seen[begin:end])
        return done

    def _portion(self, raws: Sequence[bytes], observed: Sequence[bytes | None]) -> list[Redacted]:
        try:
            kept = raws if self._capture == "full" else list(map(without_contents, raws))
            portion = Portion(kept, self._ready(), self._memory) if self._enabled else None
        except Exception as error:  # noqa: BLE001 - fails closed: the one line is withheld, of several each is tried
            if len(raws) == 1:
                return [_withheld(raws[0], error)]
            return [self._portion([raw], [seen])[0] for raw, seen in zip(raws, observed, strict=True)]
        done, suspects = unchanged(raws), portion.suspects if portion is not None else range(len(raws))
        for index, raw in enumerate(raws):  # one by one: the suspects grow
            if index in suspects or observed[index] is not None or kept is not raws:
                done[index] = self._opened(raw, kept[index], observed[index], portion, index)
        return done

    def _opened(self, raw: bytes, line: bytes, observed: bytes | None, portion: Portion | None, index: int) -> Redacted:
        try:
            found: Found = set()
            if portion is not None and index in portion.suspects:  # which grow: a line may repeat what one has shown
                line = self._masked(line, found, portion, index)
            return mint(wire.with_own_fields(line, Counter(rule for rule, _ in found), observed), line, raw)
        except Exception as error:  # noqa: BLE001 - fails closed: whatever it was, the raw line must not pass
            return _withheld(raw, error)

    def stub(self, head: bytes, total_bytes: int, reason: str) -> Redacted:
        """The stub for a line that is not stored: its ids and nothing else; `head` is how it began."""
        return mint(wire.head_stub(head, total_bytes, reason), head, head)

    def text(self, text: str, path: str | None = None) -> str:
        """A log or error message without secrets; where redaction fails it is withheld as a whole. Never raises."""
        if not self._enabled:
            return text
        secret_file, raw = path is not None and is_secret_path(path), _utf8(text)
        try:
            with self._lock:
                masked = _mask(self._ready(), raw, set(), self._memory, secret_file=secret_file)
        except Exception as error:  # noqa: BLE001 - fails closed, as for an event
            return f"[WITHHELD:{len(raw)} bytes, {_reason(error)}]"
        return masked.decode("utf-8", "replace")

    def holds_secret(self, text: str) -> bool:
        """Whether a text holds a secret, by the rules or because a session has shown it before."""
        with self._lock:
            return self.text(text) != text or bool(self._memory.places(_utf8(text)))

    def document(self, raw: bytes) -> Redacted:
        """A record of another tool without its secrets. Never raises."""
        masked = self.stored(raw)
        return mint(masked, masked, masked)

    def stored(self, raw: bytes) -> bytes:
        """A stored payload, record or line, masked again; it comes back unchanged when there is nothing to mask."""
        if not self._enabled:
            return raw
        try:
            with self._lock:
                portion = Portion([raw], self._ready(), self._memory)
                return self._masked(raw, set(), portion) if portion.suspects else raw
        except Exception as error:  # noqa: BLE001 - as above
            return msgspec.json.encode({"withheld": {"bytes": len(raw), "reason": _reason(error)}})

    def _masked(self, line: bytes, found: Found, portion: Portion, index: int = 0) -> bytes:
        scanner = self._ready()
        if index in portion.unreadable:
            return _mask(scanner, line.decode("utf-8", "replace").encode(), found, self._memory)
        known = len(self._memory.learned)
        masked = masked_line(line, scanner, self._memory, found)
        portion.learn(self._memory.learned[known:])
        return masked

    def _ready(self) -> Scanner:
        """The scanner with all rules; waits for the export when this is the first start of this version."""
        if self._scanner is None:
            if self._loading is not None:
                self._loading.join()
            self._scanner = Scanner([*self._user_rules, *rules.known().rules, *(self._exported or ())])
        return self._scanner

    def is_loading(self) -> bool:
        """Whether whoever wants a text judged has to wait for the export of the rules, at the most EXPORT_SECONDS."""
        return self._loading is not None and self._loading.is_alive()

    def settle(self) -> None:
        """Wait until it is known, and reported, which rules there are: a short first start would end before."""
        if self._loading is not None:
            self._loading.join(_EXPORT_S)

    def _export(self) -> None:
        try:
            self._exported = kingfisher.export(self._cache_dir)
        except (OSError, ValueError, ImportError):
            self._exported = []
            self._on_problem("the kingfisher rules could not be exported; only the built-in rules are active")


def _mask(scanner: Scanner, text: bytes, found: Found, memory: Memory, *, secret_file: bool = False) -> bytes:
    """`text`, which is no JSON, without secrets; what was masked is added to `found`."""
    effort = Effort(len(text))
    for _ in range(MOST_ROUNDS):
        view = blanked(text)
        spans = [*scanner.find(view, effort), *memory.find(view), *(values_of_file(view) if secret_file else ())]
        if not (spans := merged(by_line(view, spans))):
            break
        found.update((span.rule, view[span.start : span.end]) for span in spans)
        text = applied(text, spans)
    return text


def _portions(raws: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Which lines are scanned together, as begin and end; a long one alone."""
    sizes, begin = list(accumulate(map(len, raws), initial=0)), 0
    while begin < len(raws):
        most = bisect_right(sizes, sizes[begin] + _MOST_BYTES_AT_ONCE) - 1
        end = min(max(most, begin + 1), begin + _MOST_AT_ONCE)
        yield begin, end
        begin = end


def _utf8(text: str) -> bytes:
    """`text` in UTF-8; a lone surrogate becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _withheld(raw: bytes, error: Exception) -> Redacted:
    return mint(wire.stub(raw, _reason(error)), raw, raw)


def _reason(error: Exception) -> str:
    """A word for the stub and for counting; never the error's text, which may hold what was masked."""
    return next((word for kind, word in _REASONS.items() if isinstance(error, kind)), f"failed_{type(error).__name__}")


_REASONS: Final = {Overdue: "deadline", Overload: "overload", EnvelopeError: "envelope"}
