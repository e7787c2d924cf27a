"""What undoing, and undoing that, does to the ranges of a session."""

from collections.abc import Iterator

import pytest

from agent_trace_sidecar.opencode.events import MessageRemoved, SessionSeen, Undone
from agent_trace_sidecar.records.rows import Void
from agent_trace_sidecar.records.session import Session
from agent_trace_sidecar.records.times import moment
from agent_trace_sidecar.records.undo import keep_undone, removal_voids, session_voids


def void(message: str, at: int, part: str | None = None, *, restore: bool = False, onward: bool = True) -> Void:
    """Of the session "s"; times are small numbers."""
    return Void("s", message, part, onward=onward, at=moment(at), restore=restore)


def after(*states: str | None) -> Iterator[tuple[Void, ...]]:
    """What each state of the session does: a message from which on it is undone ("m", "m/part"), or None."""
    session = Session()
    for at, state in enumerate(states, 1):
        if state == "removed":
            yield removal_voids(session, MessageRemoved("s", "m", None), at)
        elif state == "kept":
            keep_undone(session, "s")
            yield ()
        else:
            message, _, part = (state or "").partition("/")
            yield session_voids(
                session, SessionSeen("s", None, None, None, Undone(message, part or None) if message else None), at
            )


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([None], [[]]),
        (["m"], [[void("m", 1)]]),
        (["m", "m"], [[void("m", 1)], []]),
        (["m", None], [[void("m", 1)], [void("m", 1, restore=True)]]),
        (["m", None, None], [[void("m", 1)], [void("m", 1, restore=True)], []]),
        (["m", None, "m"], [[void("m", 1)], [void("m", 1, restore=True)], [void("m", 3)]]),
        (
            ["m", None, "m", None],
            [[void("m", 1)], [void("m", 1, restore=True)], [void("m", 3)], [void("m", 3, restore=True)]],
        ),
        (["m", "l"], [[void("m", 1)], [void("m", 1, restore=True), void("l", 2)]]),
        (["m", "m/p"], [[void("m", 1)], [void("m", 1, restore=True), void("m", 2, "p")]]),
        (["kept", "removed", None], [[], [void("m", 2, onward=False)], []]),
        (["m", "kept", None], [[void("m", 1)], [], []]),
        (["m", "removed", None], [[void("m", 1)], [void("m", 2, onward=False)], []]),
        (["m", "removed", "m"], [[void("m", 1)], [void("m", 2, onward=False)], []]),
        (["m", "removed", None, "m"], [[void("m", 1)], [void("m", 2, onward=False)], [], [void("m", 4)]]),
    ],
    ids=str,
)
def test_undone_once_is_void_until_it_is_taken_back(states: list[str | None], expected: list[list[Void]]) -> None:
    """And at the same message again: void again, from then on. What was removed stays void."""
    assert list(map(list, after(*states))) == expected


def test_files_that_a_revert_has_left_are_not_void_when_its_messages_are_removed() -> None:
    """An earlier message has nothing to do with the revert; once that is over, all of a removed message is void."""
    session = Session()
    undone = SessionSeen("s", None, None, None, Undone("m2", None, ("a",)))
    assert [one.paths for one in session_voids(session, undone, 1)] == [("a",)]
    for message, paths in (("m2", ("a",)), ("m3", ("a",)), ("m1", None)):
        assert [one.paths for one in removal_voids(session, MessageRemoved("s", message, None), 2)] == [paths]
    session_voids(session, SessionSeen("s", None, None), 3)
    assert [one.paths for one in removal_voids(session, MessageRemoved("s", "m2", None), 4)] == [None]


def test_sessions_are_undone_apart() -> None:
    """One that is taken back leaves another one as it is."""
    session = Session()
    for name in ("a", "b"):
        assert len(session_voids(session, SessionSeen(name, None, None, None, Undone("m", None)), 1)) == 1
    assert [one.session_id for one in session_voids(session, SessionSeen("a", None, None), 2)] == ["a"]
    assert session_voids(session, SessionSeen("b", None, None, None, Undone("m", None)), 3) == ()
