"""Whose lines a file's states have, change by change."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from agent_trace_sidecar.blame.authors import UNCOVERED, Author, Human, Origin, Unknown, Wrote, written
from agent_trace_sidecar.blame.evidence import Nothing
from agent_trace_sidecar.blame.history import Change, Doubt, History, Span
from agent_trace_sidecar.blame.moves import Moves, Removed
from agent_trace_sidecar.blame.versions import Version
from agent_trace_sidecar.blame.weight import Weights
from agent_trace_sidecar.opencode.wire import Wrapped
from agent_trace_sidecar.records.fingerprints import line_hashes, line_tokens

AT = datetime(2026, 1, 1, tzinfo=UTC)


def lines(text: str) -> list[bytes]:
    """A telling line for each letter; a blank is an empty one."""
    return [
        f"{letter}_value = compute_{letter}('{letter}', {ord(letter)})".encode() if letter != " " else b""
        for letter in text
    ]


def packed(text: str) -> bytes:
    """Their hashes."""
    return line_hashes(lines(text))


def change(
    before: str | None,
    after: str | None,
    number: int,
    *spans: tuple[int, int],
    path: str = "a",
    old_path: str | None = None,
) -> Change:
    """What a call did; the content after it is known unless it is None."""
    known = lines(after or "")
    own = tuple(
        Span(
            start,
            end,
            Origin(UUID(int=number), AT, "ai", "diff"),
            [line_tokens(line) for line in known[start - 1 : end]],
            line_hashes(known[start - 1 : end]) if after else packed("xyz"[: end - start + 1]),
        )
        for start, end in spans
    )
    old, new = (packed(text) if text is not None else None for text in (before, after))
    return Change("/w", path, old_path, old, new, own)


def letters(authors: list[Author]) -> str:
    """A sign for each line: the number of the call, `h` or `?`."""
    signs = []
    for author in authors:
        wrote = written(author)
        signs.append(str(wrote.origin.record_id.int) if wrote else "h" if isinstance(author, Human) else "?")
    return "".join(signs)


def explained(now: str, *changes: Change, path: str = "a") -> str:
    """Whose the lines of a content are after these changes."""
    history = History(Weights())
    history.add_all(changes)
    base = history.base_of("/w", path, packed(now), newest=True)
    return letters(list(history.explain("/w", path, packed(now), base).authors))


NEW = change("", "abcd", 1, (1, 4))
MOVED = change("abcd", "abcd", 2, path="b", old_path="a")


@pytest.mark.parametrize(
    ("now", "changes", "expected"),
    [
        ("abcd", [NEW], "1111"),
        ("abXcd", [NEW], "11h11"),
        ("abcdX", [NEW], "1111h"),
        ("Xd", [NEW], "h1"),
        ("abcdXab", [NEW], "1111hhh"),
        ("abcdXabc", [NEW], "1111h111"),
        ("wx", [change("wx", "wx", 1)], "hh"),
        ("wNx", [change("wx", "wNx", 1, (2, 2))], "h1h"),
        ("abCd", [NEW, change("abcd", "abCd", 2, (3, 3))], "1121"),
        ("abCd", [NEW, change("abXd", "abCd", 2, (3, 3))], "1121"),
        ("aPbcdQ", [NEW, change("aPbcd", "aPbcdQ", 2, (6, 6))], "1h1112"),
    ],
    ids=str,
)
def test_a_line_is_whose_call_wrote_it(now: str, changes: list[Change], expected: str) -> None:
    """And a person's where no call did, also between two calls."""
    assert explained(now, *changes) == expected


def test_parallel_edits_of_which_each_was_read_when_all_had_written_have_their_lines() -> None:
    """The first one's record holds the file as all of them left it; each one's diff shows its own line."""
    first = change("abc", "aXbYcZ", 1, (2, 2))
    others = [change("aXbYcZ", "aXbYcZ", number, (at, at)) for number, at in ((2, 4), (3, 6))]
    assert explained("aXbYcZ", first, *others) == "h1h2h3"


def moved_by_a_session(taken: str, put: Change, left: str) -> str:
    """Whose the lines of a file are into which one call puts lines that the next one takes out of another file."""
    moves = Moves()
    moves.add(Removed(UUID(int=3), "ses_1", AT, "b", 0, packed(taken)))
    history = History(Weights(), moves=moves)
    origin = Origin(UUID(int=2), AT, "ai", "diff", session_id="ses_1")
    spans = tuple(span._replace(origin=origin) for span in put.spans)
    gone = change(taken + left, left, 3, path="b")
    history.add_all([put._replace(spans=spans, record_id=UUID(int=2)), gone._replace(record_id=UUID(int=3))])
    return letters(list(history.latest["/w", "a"].authors))


def test_a_moved_block_stays_a_persons_where_a_diff_takes_one_of_its_lines_for_an_equal_one() -> None:
    """Then the equal line that stood there is in the ranges, and it is no more the call's than the block."""
    assert moved_by_a_session("ABCdE", change("Tdxy", "TnABCdEdxy", 2, (2, 5), (7, 8)), "q") == "h2hhhhhhhh"


@pytest.mark.parametrize(
    ("taken", "put", "expected"), [("AB ", "AB ", "hhh"), ("AB C", "AB ", "222"), ("AB", "AB", "22")]
)
def test_a_light_block_was_moved_if_it_is_all_that_was_taken_away(taken: str, put: str, expected: str) -> None:
    """Three lines, of which two say something; a part of a block, or less, may have been typed anew."""
    assert moved_by_a_session(taken, change("", put, 2, (1, len(put))), "q") == expected


def test_lines_stay_the_ais_after_a_recorded_move() -> None:
    """Under the new name; the person's lines stay the person's."""
    mixed = change("wx", "abwx", 1, (1, 2))
    moved = change("abwx", "abwx", 2, path="b", old_path="a")
    assert explained("abwx", mixed, moved, path="b") == "11hh"
    edited = change("abwx", "abwxy", 2, (5, 5), path="b", old_path="a")
    assert explained("abwxy", mixed, edited, path="b") == "11hh2"
    assert explained("abwxyP", mixed, edited, path="b") == "11hh2h"


def test_a_file_written_where_another_one_was_moved_from_is_a_new_one() -> None:
    """Its lines are not those of the old file."""
    assert explained("pq", NEW, MOVED, change("", "pq", 3, (1, 2))) == "33"


def test_a_range_that_was_excluded_is_unknown_and_no_persons() -> None:
    """A guess that was not requested claims nothing, for anybody."""
    guess = NEW._replace(spans=tuple(span._replace(excluded=True) for span in NEW.spans[:1]))
    history = History(Weights())
    history.add_all([guess])
    assert [type(one) for one in history.latest["/w", "a"].authors] == [Unknown] * 4


def test_what_appeared_while_nothing_was_seen_is_unknown_but_for_known_lines() -> None:
    """From the moment on that a command may have changed the file unseen."""
    blind = Change("/w", "a", None, None, None, (), doubt=Doubt(AT, UNCOVERED, "a"))
    assert explained("abcdX", NEW, blind) == "1111?"


def test_what_stood_beside_an_edit_whose_file_was_read_too_late_is_unknown_as_well() -> None:
    """The tool had written before the sidecar read the file: the state before is not known, nor who wrote the rest."""
    blind = Change("/w", "a", None, None, None, (), doubt=Doubt(AT, UNCOVERED, "a"))
    late = change(None, "abXc", 2, (3, 3))
    assert explained("abXc", blind, late) == "??2?"
    assert explained("abXc", change("ab", "ab", 1), blind, late) == "hh2?"
    assert explained("abXc", change("ab", "ab", 1), late) == "hh2h"


def test_a_doubt_about_a_file_stays_where_a_call_then_moves_it() -> None:
    """Under the name that it had when it may have been written."""
    blind = Change("", "a", None, None, None, (), doubt=Doubt(AT, UNCOVERED, "a"))
    assert explained("abcd", blind, MOVED, path="b") == "????"


def test_a_state_of_another_worktree_does_not_end_the_doubt_about_all() -> None:
    """A call that may have changed any file has one in each worktree."""
    blind = Change("", "a", None, None, None, (), doubt=Doubt(AT, UNCOVERED, "a"))
    other = change("abcd", "abcd", 2)._replace(worktree="/x")
    assert explained("abcdX", NEW, blind, other) == "1111?"


def test_only_lines_of_a_file_that_is_not_known_are_found_again() -> None:
    """Records of another tool, or of a file that was too long: the rest of the file is not known."""
    partial = change(None, None, 1, (1, 3))
    assert explained("xyz", partial) == "111"
    assert explained("wxyz", partial) == "?111"


class Stood(Nothing):
    """Every text was in the repository before the records."""

    def stood(self, wrote: Wrote) -> bool:
        """See `Evidence`."""
        del wrote
        return True


@pytest.mark.parametrize(("doubted", "expected"), [(True, "????"), (False, "hhhh")])
def test_that_a_line_is_not_the_other_files_shows_nothing_about_a_person(doubted: bool, expected: str) -> None:
    """Two files hold the same: one is recorded, the other may have been changed by a command unseen."""
    blind = Change("/w", "b", None, None, None, (), doubt=Doubt(AT, UNCOVERED, "b"))
    history = History(Weights(), evidence=Stood())
    history.add_all([NEW, *([blind] if doubted else [])])
    base = history.base_of("/w", "b", packed("abcd"), newest=True)
    assert base is not None
    assert letters(list(history.explain("/w", "b", packed("abcd"), base).authors)) == expected


@pytest.mark.parametrize(("worktree", "expected"), [("/w", "1111?"), ("/x", "1111h"), ("/new", "1111?")])
def test_a_record_of_another_worktree_does_not_end_a_doubt(worktree: str, expected: str) -> None:
    """The file of the same path there is another one; a worktree of which nothing is known may have its lines."""
    blind = Change("/w", "a", None, None, None, (), doubt=Doubt(AT, UNCOVERED, "a"))
    other = change("abcd", "abcd", 2)._replace(worktree="/x")
    history = History(Weights())
    history.add_all([NEW, blind, other])
    base = history.base_of(worktree, "a", packed("abcdX"), newest=True)
    assert letters(list(history.explain(worktree, "a", packed("abcdX"), base).authors)) == expected


@pytest.mark.parametrize("restored", ["before", "after"])
def test_a_line_that_a_person_restores_before_or_after_a_move_is_the_persons(restored: str) -> None:
    """Not a change of the AI's line that stood there meanwhile."""
    old, new = (
        line_hashes([first, *lines("bcd")]) for first in (b"first_value = get(1, 2)", b"first_other = get(1, 2)")
    )
    tokens = [line_tokens(b"first_other = get(1, 2)")]
    edited = Change("/w", "a", None, old, new, (Span(1, 1, Origin(UUID(int=1), AT, "ai", "diff"), tokens, new[:8]),))
    there = old if restored == "before" else new
    history = History(Weights())
    history.add_all([edited, Change("/w", "b", "a", there, there, ())])
    base = history.base_of("/w", "b", old, newest=True)
    assert list(history.explain("/w", "b", old, base).authors) == [Human()] * 4


PERSON, MODEL, OTHER = Human(), Wrote(Origin(UUID(int=7), AT, "ai", "diff"), "a", 1, 1), Unknown("uncovered")


@pytest.mark.parametrize(
    ("authors", "block", "expected"),
    [
        ([PERSON], Wrapped(1, 3, 1, 1), "hhh"),
        ([MODEL], Wrapped(1, 3, 1, 1), "777"),
        ([PERSON] * 3, Wrapped(1, 1, 1, 3), "h99"),
        ([MODEL, MODEL], Wrapped(2, 3, 1, 2), "977"),
        ([PERSON, MODEL], Wrapped(1, 1, 1, 2), "h99"),
        ([PERSON, OTHER], Wrapped(1, 2, 1, 2), "??9"),
        ([MODEL, OTHER], Wrapped(1, 3, 1, 2), "???"),
        ([PERSON], Wrapped(1, 4, 1, 1), "999"),
        ([PERSON], Wrapped(1, 3, 2, 2), "999"),
    ],
)
def test_lines_that_a_call_wraps_stay_whose_they_were(authors: list[Author], block: Wrapped, expected: str) -> None:
    """Of lines of several authors no one is certain; a block beyond either state of the file decides nothing."""
    old = packed("abc"[: len(authors)])
    wrapping = change("", "uvw", 9, (1, 3))._replace(before=old, wrapped=(block,))
    history = History(Weights())
    history.latest["/w", "a"] = Version("/w", "a", old, authors)
    history.add(wrapping)
    assert letters(list(history.latest["/w", "a"].authors)) == expected


def test_a_model_s_line_that_a_call_joins_with_a_persons_is_remembered() -> None:
    """So that the text of the line can decide."""
    wrapping = change("", "u", 9, (1, 1))._replace(before=packed("ab"), wrapped=(Wrapped(1, 1, 1, 2),))
    history = History(Weights())
    history.latest["/w", "a"] = Version("/w", "a", packed("ab"), [PERSON, MODEL])
    history.add(wrapping)
    assert history.latest["/w", "a"].authors == [Human((MODEL,))]
