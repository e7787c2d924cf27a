"""Which lines are hidden, and what is kept of the others."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_trace_sidecar.records.content import MAX_VECTOR_LINES, Content, content_hash
from agent_trace_sidecar.records.fingerprints import NO_HASH, line_hashes, packed_tokens

SECRET = re.compile("KEY|BEGIN[^E]*END")


def is_secret(text: str) -> bool:
    """A rule for one line and a rule for several."""
    return SECRET.search(text) is not None


@given(st.lists(st.sampled_from(["a", "b", "KEY", "BEGIN", "x", "END"]), max_size=40))
def test_what_is_left_holds_no_secret_and_lines_far_from_one_are_kept(lines: list[str]) -> None:
    """Hiding is complete; only lines of a secret are hidden."""
    content = Content.judged([line.encode() for line in lines], is_secret)
    left = ["" if at in content.hidden else line for at, line in enumerate(lines)]
    assert not is_secret("\n".join(left))
    spans = [(m.start(), m.end()) for m in SECRET.finditer("\n".join(lines))]
    if not spans:
        assert not content.hidden


def test_a_secret_among_many_lines_hides_itself_alone() -> None:
    """Also one that lies across the edge of two blocks."""
    lines = [b"line %d" % at for at in range(1000)]
    lines[127:130] = [b"BEGIN", b"x", b"END"]
    lines[700] = b"a KEY b"
    content = Content.judged(lines, is_secret)
    assert content.hidden == {127, 128, 129, 700}
    vector = content.vector()
    assert vector is not None
    assert bytes.fromhex(vector)[127 * 8 : 130 * 8] == NO_HASH * 3
    assert bytes.fromhex(vector)[130 * 8 :][:8] == line_hashes([b"line 130"])


def test_where_nothing_can_be_asked_everything_is_hidden() -> None:
    """A secret file, or one for which the time was up."""
    content = Content.judged([b"a", b"b"], lambda _: True)
    assert content.hidden == {0, 1}
    span = content.span(1, 2, "diff")
    assert (span.content_hash, span.line_hashes) == (None, (NO_HASH * 2).hex())


@pytest.mark.parametrize("whole", [False, True])
def test_a_range_keeps_hash_hashes_and_tokens_of_its_lines(whole: bool) -> None:
    """Whether those of the whole file were asked before or not."""
    lines = [b"a = 1", b"b\r", b""]
    content = Content(lines)
    if whole:
        assert content.vector() == line_hashes(lines).hex()
    span = content.span(2, 3, "snapshot")
    assert span.content_hash == content_hash(lines[1:])
    assert span.line_hashes == line_hashes(lines[1:]).hex()
    assert span.line_tokens == packed_tokens(lines[1:]).hex()


def test_a_file_too_long_has_no_vector() -> None:
    """Its ranges have hashes all the same."""
    content = Content([b"x"] * (MAX_VECTOR_LINES + 1))
    assert content.vector() is None
    assert content.span(1, 1, "diff").line_hashes == line_hashes([b"x"]).hex()
