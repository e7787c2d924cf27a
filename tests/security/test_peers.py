"""What a peer writes into a shared log is an event, and never what the sidecar itself has seen."""

from uuid import UUID

import pytest

from agent_trace_sidecar.opencode import wire
from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.session import MAX_JUMP
from agent_trace_sidecar.redaction import Redactor

LINE = (
    b'{"v":1,"id":"00000000-0000-4000-8000-000000000001","seq":1,"at":1,'
    b'"instance":"00000000-0000-4000-8000-000000000002","hook":"event","input":{"a":"%b"}%b}'
)
SEEN = b'"observed":{"files":[{"path":"a.txt","kind":"add","ranges":[{"start":1,"end":9,"method":"snapshot"}]}]}'
TEXTS = {"text": b"x", "no UTF-8": b"\xff", "surrogate": b"\\ud800", "NUL": b"\\u0000", "both": b"\xff\\ud800"}
FIELDS = {
    "observed": SEEN,
    "escaped": SEEN.replace(b"observed", b"obs\\u0065rved"),
    "all escaped": b'"' + b"".join(b"\\u%04x" % letter for letter in b"observed") + SEEN[9:],
    "capital digits": SEEN.replace(b"observed", b"\\u006Fbserved"),
    "twice": SEEN + b"," + SEEN,
    "redacted": b'"redacted":{"rule":5}',
    "redacted, escaped": b'"\\u0072edacted":{"rule":5}',
    "repaired": b'"repaired":["nul"]',
}


@pytest.fixture(name="off", scope="module")
def _off() -> Redactor:
    """Also where nothing is masked."""
    return Redactor(enabled=False)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("blank", [b"", b" ", b"\t\r "], ids=["", "blank", "blanks"])
def test_own_fields_of_a_peer_are_not_believed(text: str, field: str, blank: bytes, off: Redactor) -> None:
    """However they are written, and whatever else in the line has to be mended."""
    line = LINE % (TEXTS[text], b"," + blank + FIELDS[field].replace(b":", blank + b":", 1)) + blank
    for made in (wire.with_own_fields(line, {}, None), off.line(line).line):
        found = wire.parse(made)
        assert isinstance(found, wire.Envelope)
        assert (found.observed, found.redacted) == (None, None)
        assert "nul" not in found.repaired or text == "NUL"
    ours = wire.parse(wire.with_own_fields(line, {"mine": 1}, b'{"late":true}'))
    assert isinstance(ours, wire.Envelope)
    assert (ours.observed, ours.redacted) == (wire.Observed(late=True), {"mine": 1})


@pytest.fixture(name="on", scope="module")
def _on() -> Redactor:
    """Masks."""
    return Redactor()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("beside", [b"plain", b"\\u001b[1m"], ids=["plain", "with an escape"])
def test_own_fields_of_a_peer_are_not_believed_beside_other_lines(
    text: str, field: str, beside: bytes, on: Redactor
) -> None:
    """Lines are looked over together, and what was seen before is not looked over again; only this line changes."""
    line, other = LINE % (TEXTS[text], b"," + FIELDS[field]), LINE % (beside, b"")
    for _ in range(2):
        before, made, after = on.lines([other, line, other])
        found = wire.parse(made.line)
        assert isinstance(found, wire.Envelope)
        assert (found.observed, found.redacted) == (None, None)
        assert before.line == after.line == other


@pytest.mark.parametrize("far", [MAX_JUMP + 2, 2**63 - 1])
def test_a_number_from_nowhere_makes_no_gap(far: int) -> None:
    """The event is stored with a note, and the run's own numbers go on; nearer ones are gaps as before."""
    builder = Builder(BuildSettings())
    for seq in (1, far, 2, 5):
        envelope = wire.parse(LINE.replace(b'"seq":1', b'"seq":%d' % seq) % (b"x", b""))
        assert isinstance(envelope, wire.Envelope)
        built = builder.feed(envelope)
        assert ("it was not counted" in built.event.payload) == (seq == far)
        assert built.event.seq == seq
    found = builder.summary(UUID("00000000-0000-4000-8000-000000000002"))
    assert (found.highest_seq, found.missing, found.gaps) == (5, 2, ((3, 4),))
