"""Undoing: which messages' ranges become void, and which come back; pure.

OpenCode undoes in two steps. A revert takes the files back and marks the session (`session.updated` with `revert`);
an unrevert takes that back. The user's next prompt removes the undone messages for good (`message.removed`; in
OpenCode 2 by one event). So a revert voids everything from a message on, an unrevert restores what was voided at
that very time, and a removal makes it stay: nothing restores it later. A revert that another run of OpenCode takes back
stays void: its time is not known there, and void is the careful answer. Files that a revert has left as they were keep
their ranges, also when the messages are removed.
"""

from datetime import datetime

import msgspec

from agent_trace_sidecar.opencode.events import MessageRemoved, SessionSeen
from agent_trace_sidecar.records.rows import Void
from agent_trace_sidecar.records.session import Session, Undo
from agent_trace_sidecar.records.times import moment


def session_voids(session: Session, seen: SessionSeen, at_ms: float) -> tuple[Void, ...]:
    """What a session's new state undoes or gives back."""
    known, now = session.undone.get(seen.session_id), seen.undone
    if now and known and (now.message_id, now.part_id) == (known.message_id, known.part_id):
        return ()
    voids: tuple[Void, ...] = ()
    if known:
        session.undone.drop(seen.session_id)
        if not known.removed:
            voids = (_onward(seen.session_id, known.message_id, known.part_id, moment(known.at_ms), restore=True),)
    if now:
        session.undone.put(seen.session_id, Undo(now.message_id, now.part_id, at_ms, paths=now.paths))
        void = _onward(seen.session_id, now.message_id, now.part_id, moment(at_ms), restore=False)
        voids += (void._replace(paths=now.paths),)
    return voids


def removal_voids(session: Session, gone: MessageRemoved, at_ms: float) -> tuple[Void, ...]:
    """What the removal of a message, or a part of it, makes void for good."""
    keep_undone(session, gone.session_id)
    known = session.undone.get(gone.session_id)
    paths = known.paths if known and gone.message_id >= known.message_id else None
    return (
        Void(
            gone.session_id, gone.message_id, gone.part_id, onward=False, at=moment(at_ms), restore=False, paths=paths
        ),
    )


def keep_undone(session: Session, session_id: str) -> None:
    """Nothing restores later what is undone now."""
    known = session.undone.get(session_id)
    if known and not known.removed:
        session.undone.put(session_id, msgspec.structs.replace(known, removed=True))


def _onward(session_id: str, message_id: str, part_id: str | None, at: datetime, *, restore: bool) -> Void:
    return Void(session_id, message_id, part_id, onward=True, at=at, restore=restore)
