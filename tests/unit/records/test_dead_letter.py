"""Which deliveries of a line that is no event are the same dead letter."""

from datetime import UTC, datetime
from uuid import UUID

from agent_trace_sidecar.records.dead_letter import dead_letter_key
from agent_trace_sidecar.records.rows import DeadLetter

_ID = "01a201d0-1733-73ef-82e3-d6f8e7cb2ff4"
_RUN = "6beba06b-5354-42e2-9ea2-f5f74523829b"
_LINE = f'{{"v":9,"id":"{_ID}","seq":1,"at":1,"instance":"{_RUN}","hook":"event","input":{{}}}}'.encode()


def letter(line: bytes, *, log: int = 1, position: int = 0) -> DeadLetter:
    """From a log of this number."""
    return DeadLetter(UUID(int=log), position, "unsupported_version", "", line, datetime.now(UTC))


def test_a_line_that_two_sidecars_deliver_is_dead_once() -> None:
    """Whatever each of them has observed, and wherever it stands in their logs."""
    seen = _LINE[:-1] + b',"observed":{"notes":["unobserved"]}}'
    assert dead_letter_key(letter(_LINE)) == dead_letter_key(letter(seen, log=2, position=7))


def test_another_line_of_the_same_id_is_another_dead_letter() -> None:
    """Also one that was cut off."""
    assert len({dead_letter_key(letter(line)) for line in (_LINE, _LINE.replace(b"{}", b"[]"), _LINE[:-3])}) == 3


def test_a_line_without_an_id_is_known_by_its_place() -> None:
    """Of two equal ones in a log each is one."""
    keys = {dead_letter_key(letter(b"{}", position=at)) for at in (0, 3)}
    assert len(keys) == 2
    assert dead_letter_key(letter(b"{}")) in keys
