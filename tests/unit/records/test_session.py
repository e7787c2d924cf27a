"""The bounded state of one run of the shim."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_trace_sidecar.records.session import MAX_GAPS, Bounded, Ended, Message, Sequence, Session, Undo
from tests.support.envelopes import Shim, envelope


@given(st.lists(st.integers(0, 40), max_size=60))
def test_the_sequence_knows_which_numbers_are_missing(seqs: list[int]) -> None:
    """Whatever the order and however often a number comes."""
    sequence = Sequence()
    for seq in seqs:
        sequence.see(seq)
    missing = set(range(1, max(seqs, default=0) + 1)) - set(seqs)
    assert {seq for first, last in sequence.gaps for seq in range(first, last + 1)} == missing
    assert sequence.missing == len(missing)
    assert sequence.highest == max(seqs, default=0)


def test_old_gaps_are_counted_when_they_are_no_longer_listed() -> None:
    """The list is bounded, the count is not."""
    sequence = Sequence()
    for seq in range(2, 2002, 2):
        sequence.see(seq)
    assert sequence.missing == 1000
    assert len(sequence.gaps) == MAX_GAPS
    assert sequence.gaps[-1] == (1999, 1999)


def test_the_oldest_entries_give_way_by_their_size() -> None:
    """Setting an entry again makes it the youngest; one that is too big alone is not kept."""
    entries: Bounded[str] = Bounded(40)
    for key in "abc":
        entries.put(key, "12345678")
    assert [key for key, _ in entries] == ["b", "c"]
    entries.put("b", "12345678")
    entries.put("d", "x" * 99)
    entries.put("e", "12345678")
    assert [key for key, _ in entries] == ["b", "e"]


@pytest.mark.parametrize("text", ["\x01" * 400, "\U0001f600" * 400, "a" * 400])
def test_a_dump_is_never_over_80_kib(text: str) -> None:
    """Whatever the ids are made of."""
    session = Session()
    session.see(envelope(Shim("/" + text * 20).line("bye")))
    session.set_version(text * 9)
    session.sequence.highest = 2**62 - 2
    for at in range(MAX_GAPS + 100):
        session.sequence.see(2**62 + at * 2)
        session.messages.put(f"{text}{at}", Message(text, text))
        session.parents.put(f"{text}{at}", text)
        session.open_call(text, text, f"{text}{at}")
        session.finish_call(text, text, f"{text}{at}")
        session.set_project(f"{text}{at}", text)
        session.set_parent(f"{text}{at}", text)
        session.end_call((text, text, f"{text}{at}"), Ended(text, at, text, recorded=True))
        session.undone.put(f"{text}{at}", Undo(text, text, at))
    assert len(session.dump()) <= 80 * 1024


def test_a_dump_gives_back_the_same_state() -> None:
    """The next dump is the same bytes."""
    session = Session()
    session.set_version("1.18.33")
    for at in range(300):
        session.sequence.see(at * 3)
        session.messages.put(f"msg_{at}", Message("a/b", "build", at % 2 == 0))
        session.parents.put(f"ses_{at}", "ses_0")
        session.open_call("ses_1", f"msg_{at}", f"call_{at}")
        session.finish_call("ses_1", f"msg_{at}", f"call_{at}")
        session.set_project(f"/w{at}", "p")
        session.end_call(("ses_1", f"msg_{at}", f"call_{at}"), Ended("e", at, "bash", recorded=False))
        session.undone.put(f"ses_{at}", Undo(f"msg_{at}", None, at, removed=True))
    assert Session.load(session.dump()).dump() == session.dump()


@pytest.mark.parametrize("state", [b"", b"null", b"{}", b'{"v":99,"sequence":{}}', b'{"v":1}', b"[" * 9999, b"\xff"])
def test_a_state_that_cant_be_read_starts_empty(state: bytes) -> None:
    """Also one of a version to come."""
    assert Session.load(state).dump() == Session().dump()


def test_a_subagent_belongs_to_the_message_its_parent_was_at_when_it_was_first_seen() -> None:
    """Later messages of the parent change nothing; a parent whose calls are not known leaves it open."""
    session = Session()
    session.open_call("ses_1", "msg_1", "call_1", "prt_1")
    session.set_parent("ses_2", "ses_1")
    session.open_call("ses_1", "msg_2", "call_2", "prt_2")
    session.set_parent("ses_2", "ses_1")
    session.set_parent("ses_3", "ses_9")
    assert session.parent_of("ses_2") == ("ses_1", "msg_1")
    assert session.parent_of("ses_3") == ("ses_9", None)
    assert session.parent_of("ses_1") == (None, None)
    assert (session.message_of("ses_1", "call_2"), session.part_of("ses_1", "call_2")) == ("msg_2", "prt_2")


def test_the_calls_of_a_step_are_forgotten_with_it_and_no_others() -> None:
    """Also those whose message was not known."""
    session = Session()
    for ids in (("s", "m1", "a"), ("s", "m2", "b"), ("s", None, "c"), ("t", "m1", "d")):
        session.end_call(ids, Ended("e", 1, "bash", recorded=False))
    assert session.ended_call("s", "m1", "c") is not None
    session.end_step("s", "m1")
    left = [("s", "m1", "a"), ("s", "m2", "b"), ("s", "m1", "c"), ("t", "m1", "d")]
    assert [session.ended_call(*ids) is not None for ids in left] == [False, True, False, True]
