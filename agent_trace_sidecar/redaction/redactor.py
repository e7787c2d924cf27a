"""The one redactor: no line reaches spool, database, dead letters or log except through it.

It fails closed. Whatever goes wrong, what comes out is a stub that says how many bytes were withheld and why.
"""

import json
import re
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar
from uuid import UUID

import msgspec

from agent_trace_sidecar.redaction import export
from agent_trace_sidecar.redaction.calls import CALL_RULES
from agent_trace_sidecar.redaction.commands import COMMAND_RULES
from agent_trace_sidecar.redaction.deadline import Overdue, deadline
from agent_trace_sidecar.redaction.filelines import LINE_RULES
from agent_trace_sidecar.redaction.files import is_secret_path
from agent_trace_sidecar.redaction.firstlook import Look
from agent_trace_sidecar.redaction.jsonline import JsonLine
from agent_trace_sidecar.redaction.masker import Masker
from agent_trace_sidecar.redaction.memory import Memory
from agent_trace_sidecar.redaction.metadata import without_contents
from agent_trace_sidecar.redaction.redacted import Redacted, mint
from agent_trace_sidecar.redaction.rulebook import Rulebook
from agent_trace_sidecar.redaction.rules import Overload, Rule
from agent_trace_sidecar.redaction.structures import STRUCTURE_RULES
from agent_trace_sidecar.redaction.tokens import OWN_RULES
from agent_trace_sidecar.redaction.userrules import read_rules

_T = TypeVar("_T")

_MOST_AT_ONCE: Final = 128
"""Lines that are looked at together; more gains little."""
_MOST_BYTES_AT_ONCE: Final = 96 * 1024
_EXPORT_S: Final = 3.0
"""The rules' export, once for each version, takes half a second."""
_OWN_FIELDS: Final = (b'"observed"', b'"redacted"')
_HEAD_FIELD: Final = re.compile(
    rb'"(v|seq|at)":\s*(\d{1,16})\s*[,}]|"(id|instance)":\s*"([0-9a-fA-F-]{36})"|"(hook)":\s*"([a-z.]{1,40})"'
)


class Redactor:
    """Masks lines. Not to be shared between threads: it remembers the session's secrets."""

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
        """`on_problem` is told, from a thread, when fewer rules are active than there should be."""
        self._enabled = enabled
        self._capture = capture
        self._on_problem = on_problem
        self._cache_dir = cache_dir
        self._user_rules = read_rules(rules_file) if rules_file is not None else []
        self._memory = Memory(environ if enabled else {})
        self._masker: Masker | None = None
        self._loading: threading.Thread | None = None
        self._exported: list[Rule] | None = None
        if enabled:
            self._exported = export.load(cache_dir)
            if self._exported is None:
                self._loading = threading.Thread(target=self._export, name="redaction-rules", daemon=True)
                self._loading.start()

    @property
    def version(self) -> str:
        """The version of the rules: kingfisher's, our own, and the user's."""
        ours = f"kingfisher {export.kingfisher_version()} + {export.OWN_VERSION}"
        if not self._user_rules:
            return ours
        rules = repr([(rule.id, rule.pattern, rule.literals, rule.group) for rule in self._user_rules])
        return f"{ours} + {zlib.crc32(rules.encode()):08x}"

    def line(self, raw: bytes, observed: bytes | None = None) -> Redacted:
        """One wire line without its secrets, with `observed` (trusted JSON) spliced in. Never raises."""
        return self.lines([raw], [observed])[0]

    def lines(self, raws: Sequence[bytes], observed: Sequence[bytes | None] | None = None) -> list[Redacted]:
        """As `line`, for lines that follow each other: looked at together they cost a fraction. Never raises."""
        raws = [raw.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in raw else raw for raw in raws]
        seen = observed or [None] * len(raws)
        done: list[Redacted] = []
        while len(done) < len(raws):
            begin = len(done)
            end = begin + _fitting(raws, begin)
            if end - begin == 1:
                with deadline(len(raws[begin])):  # for all that is done with it
                    done += self._portion(raws[begin:end], seen[begin:end])
            else:
                done += self._portion(raws[begin:end], seen[begin:end])
        return done

    def _portion(self, raws: Sequence[bytes], observed: Sequence[bytes | None]) -> list[Redacted]:
        look = Look(raws)
        try:
            with deadline(sum(map(len, raws))):
                self._take(look)
        except Exception as error:  # noqa: BLE001 - fails closed: the one line is withheld, of several each is opened
            if len(raws) == 1:
                return [mint(_stub(raws[0], _reason(error)))]
        done: list[Redacted] = []
        for index, (raw, seen) in enumerate(zip(raws, observed, strict=True)):
            if index in look.suspects:
                done.append(self._opened(raw, seen, look))
            else:
                done.append(_minted(raw, raw if seen is None else _spliced(raw, Counter(), seen)))
        return done

    def _take(self, look: Look) -> None:
        """Look at the lines, where that may spare opening them."""
        if self._capture == "metadata":
            return
        if self._enabled:
            look.take(self._ready(), self._memory)
        else:
            look.suspects.clear()

    def _opened(self, raw: bytes, observed: bytes | None, look: Look) -> Redacted:
        try:
            counts: Counter[str] = Counter()
            masked = _without_contents(raw) if self._capture == "metadata" else raw
            if self._enabled:
                with deadline(len(raw)):
                    masked = self._masked(masked, counts, look)
            return _minted(raw, _spliced(masked, counts, observed))
        except Exception as error:  # noqa: BLE001 - fails closed: whatever it was, the raw line must not go on
            return mint(_stub(raw, _reason(error)))

    def oversize(self, head: bytes, total_bytes: int) -> Redacted:
        """The stub for a line that was too long to be kept; `head` is how it began."""
        fields = _head_fields(head)
        return mint(msgspec.json.encode({**fields, "withheld": {"bytes": total_bytes, "reason": "too_long"}}))

    def text(self, text: str, path: str | None = None) -> str:
        """A log or error message without secrets; one that can't be worked through is withheld as a whole."""
        if not self._enabled:
            return text
        secret_file = path is not None and is_secret_path(path)
        masker, raw = self._ready(), _utf8(text)
        try:
            with deadline(len(raw)):
                masked = masker.mask(raw, Counter(), (self._memory.environment,), secret_file=secret_file)
        except Overload as error:
            return f"[WITHHELD:{len(raw)} bytes, {_reason(error)}]"
        return masked.decode("utf-8", "replace")

    def holds_secret(self, text: str) -> bool:
        """Whether a text holds a secret, by the rules or because a session has shown it before."""
        return self.text(text) != text or bool(self._memory.places(_utf8(text)))

    def document(self, raw: bytes) -> Redacted:
        """A record of another tool without its secrets. Never raises."""
        return mint(self.stored(raw))

    def stored(self, raw: bytes) -> bytes:
        """A stored payload, record or line, masked again; it comes back unchanged when there is nothing to mask."""
        if not self._enabled:
            return raw
        try:
            look = Look([raw])
            with deadline(len(raw)):
                self._take(look)
                return self._masked(raw, Counter(), look) if look.suspects else raw
        except Exception as error:  # noqa: BLE001 - as above
            return msgspec.json.encode({"withheld": {"bytes": len(raw), "reason": _reason(error)}})

    def _masked(self, raw: bytes, counts: Counter[str], look: Look) -> bytes:
        masker = self._ready()
        line = JsonLine.parse(raw)
        if line is None:
            text = raw.decode("utf-8", "replace").encode()
            return masker.mask(text, counts, (self._memory.environment,))
        self._memory.learned.clear()
        masked = line.masked(masker, counts, self._memory, look.spans)
        look.learn(self._memory.learned)
        return masked

    def _ready(self) -> Masker:
        """The masker with all rules; waits for the export when this is the first start of this version."""
        if self._masker is None:
            if self._loading is not None:
                self._loading.join()
            own = (*self._user_rules, *OWN_RULES, *STRUCTURE_RULES, *COMMAND_RULES, *CALL_RULES, *LINE_RULES)
            self._masker = Masker(Rulebook([*own, *(self._exported or ())]))
        return self._masker

    def settle(self) -> None:
        """Wait until it is known, and said, which rules there are: a short first start would end before."""
        if self._loading is not None:
            self._loading.join(_EXPORT_S)

    def _export(self) -> None:
        try:
            self._exported = export.export(self._cache_dir)
        except (OSError, ValueError, ImportError):
            self._exported = []
            self._on_problem("the kingfisher rules could not be exported; only the built-in rules are active")


def _fitting(raws: Sequence[bytes], begin: int) -> int:
    """How many of these lines, one at least, are looked at together."""
    size = 0
    for number, raw in enumerate(raws[begin : begin + _MOST_AT_ONCE]):
        size += len(raw)
        if number and size > _MOST_BYTES_AT_ONCE:
            return number
    return min(_MOST_AT_ONCE, len(raws) - begin)


def _utf8(text: str) -> bytes:
    """`text` in UTF-8; a lone surrogate becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _without_contents(raw: bytes) -> bytes:
    """The line without contents; one that can't be decoded is content as a whole."""
    return msgspec.json.encode(without_contents(msgspec.json.decode(raw)))


def _spliced(line: bytes, counts: Counter[str], observed: bytes | None) -> bytes:
    """`line` with our own top-level fields at its end, when it is a JSON object."""
    extra = []
    if counts:
        extra.append(b'"redacted":' + msgspec.json.encode(dict(sorted(counts.items()))))
    if observed is not None:
        extra.append(b'"observed":' + observed)
    stripped = line.rstrip()
    if not extra or not stripped.endswith(b"}") or not stripped.lstrip().startswith(b"{"):
        return line
    if any(field in line for field in _OWN_FIELDS):
        stripped = _without_own_fields(stripped)
    body = stripped[:-1]
    comma = b"" if body.strip() == b"{" else b","
    return body + comma + b",".join(extra) + b"}"


def _without_own_fields(line: bytes) -> bytes:
    try:
        fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return line
    if "observed" not in fields and "redacted" not in fields:
        return line
    return msgspec.json.encode({k: v for k, v in fields.items() if k not in {"observed", "redacted"}})


class _Envelope(msgspec.Struct):
    """What must be the same before and after: by it an event is stored, and its neighbours in a batch are."""

    v: int
    id: UUID
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    at: int | float
    instance: UUID
    hook: str
    api: int = 1


def _minted(raw: bytes, line: bytes) -> Redacted:
    """The proof for what has become of `raw`: its stub, should its envelope not have come through."""
    if line is raw or (before := _envelope(raw)) is None or before == _envelope(line):
        return mint(line)
    return mint(_stub(raw, "envelope"))


def _envelope(line: bytes) -> _Envelope | None:
    """The envelope of a line, or None where it is no event."""
    try:
        return _decoded(line, _Envelope)
    except (ValueError, RecursionError):
        return None


def _decoded(line: bytes, kind: type[_T]) -> _T:
    """The fields of a line, as the wire reads them. Raises ValueError or RecursionError."""
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError:
        raise
    except ValueError:  # bytes that are no UTF-8, or half an emoji: the wire mends them
        return msgspec.convert(json.loads(line.decode("utf-8", "replace")), kind)


class _Kept(msgspec.Struct, omit_defaults=True):
    """What a stub may say of a line that is withheld: fields whose types leave no room for a secret."""

    v: int | None = None
    id: UUID | None = None
    seq: int | None = None
    at: int | float | None = None
    instance: UUID | None = None
    api: int | None = None
    hook: Annotated[str, msgspec.Meta(pattern=r"^[a-z.]{1,40}$")] | None = None


def _head_fields(head: bytes) -> dict[str, object]:
    """The same out of the beginning of a line that is not whole, up to where its contents begin."""
    fields: dict[str, object] = {}
    for match in _HEAD_FIELD.finditer(head[: head.find(b'"input"')]):
        number, value, name, text, hook, word = match.groups()
        if number is not None:
            fields.setdefault(number.decode(), int(value))
        elif name is not None:
            fields.setdefault(name.decode(), text.decode())
        else:
            fields.setdefault(hook.decode(), word.decode())
    return fields


def _stub(raw: bytes, reason: str) -> bytes:
    fields: dict[str, object]
    try:
        fields = msgspec.to_builtins(_decoded(raw, _Kept))
    except (ValueError, RecursionError):
        fields = _head_fields(raw[:8192])
    return msgspec.json.encode({**fields, "input": {"withheld": {"bytes": len(raw), "reason": reason}}})


def _reason(error: Exception) -> str:
    """A word for the stub and for counting; never the error's text, which may hold what was masked."""
    if isinstance(error, Overdue):
        return "deadline"
    return "overload" if isinstance(error, Overload) else f"failed_{type(error).__name__}"
