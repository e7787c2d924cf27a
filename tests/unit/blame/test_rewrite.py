"""Whether a line is another one partly rewritten, told by the little that is kept of it."""

import pytest

from agent_trace_sidecar.blame.rewrite import Kind, compare
from agent_trace_sidecar.blame.weight import Weights
from agent_trace_sidecar.records.fingerprints import (
    MAX_TOKENS,
    NO_HASH,
    hashes_of,
    line_hash,
    line_hashes,
    line_keys,
    line_tokens,
    loose_of,
    packed_tokens,
    tokens_of,
)

SAME, PARTLY, OTHER = Kind.SAME, Kind.PARTLY, Kind.OTHER


def kinds(old: list[bytes], new: list[bytes]) -> list[Kind]:
    """What the new lines are."""
    tokens = [[line_tokens(line) for line in lines] for lines in (old, new)]
    return [one.kind for one in compare(*tokens)]


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ([b"x = compute(a, b)"], [b"x = compute(a, c)"], [PARTLY]),
        ([b"x = compute(a, b)"], [b"x = compute(a, b)  # checked"], [PARTLY]),
        ([b"x = compute(a, b)"], [b"x = compute(a,b);"], [SAME]),
        ([b"print('a')"], [b'print("a")'], [SAME]),
        ([b"x = compute(a, b)"], [b"raise ValueError"], [OTHER]),
        ([b"else:"], [b"try:"], [OTHER]),
        ([b"f(alpha, beta, gamma)"], [b"f(", b"    alpha,", b"    beta,", b"    gamma,", b")"], [SAME] * 5),
        ([b"return (alpha + beta)"], [b"(", b"    return alpha", b"    + beta", b")"], [SAME] * 4),
        ([b"f(", b"    alpha,", b"    beta,", b")"], [b"f(alpha, beta)"], [SAME]),
        ([b"total = a + b"], [b"total = a - b"], [PARTLY]),
        ([b"one two three", b"four five six"], [b"four five six seven", b"nothing alike"], [PARTLY, OTHER]),
        ([], [b"new"], [OTHER]),
        ([b"}"], [b"a = 1"], [OTHER]),
    ],
)
def test_a_new_line_is_the_same_partly_or_another(old: list[bytes], new: list[bytes], wanted: list[Kind]) -> None:
    """Formatters change punctuation, people change words."""
    assert kinds(old, new) == wanted


def test_a_hash_ignores_the_line_ending_and_half_of_it_white_space() -> None:
    """So that a line is known again after a formatter, and told apart from all others in a large store."""
    assert line_hash(b"  a = 1\r") == line_hash(b"  a = 1")
    assert line_hash(b"  a = 1")[:4] == line_hash(b"\ta  =1")[:4]
    assert line_hash(b"  a = 1")[4:] != line_hash(b"\ta  =1")[4:]
    assert hashes_of(line_hashes([b"a", b"b"]) + NO_HASH)[2] == 0


def test_tokens_come_back_line_by_line() -> None:
    """Long lines are cut, and a secret line has none."""
    packed = packed_tokens([b"a + b", None, b"", b" ".join(b"w%d" % at for at in range(2000))])
    found = list(tokens_of(packed))
    assert [None if one is None else len(one) for one in found] == [3, None, 0, MAX_TOKENS]
    assert list(tokens_of(b"")) == []


def test_keys_are_of_a_project_and_leave_out_what_says_nothing() -> None:
    """Another repository's line is another key, and a brace is none."""
    lines = [b"result = compute(prices)", b"}", b"result = compute(prices)"]
    keys = line_keys("p", line_hashes(lines), packed_tokens(lines))
    assert len(keys) == 1
    assert keys != line_keys("q", line_hashes(lines), packed_tokens(lines))
    assert loose_of(keys[0]) == hashes_of(line_hash(lines[0]))[0] >> 32
    assert line_keys("p", NO_HASH, None) == []


def test_a_line_of_many_files_weighs_little() -> None:
    """And one that stands in every file nothing."""
    weights = Weights()
    one, brace = hashes_of(line_hashes([b"value = compute(first, second)", b"  }"]))
    assert weights.of(brace) == 0
    assert weights.is_weak(brace)
    before = weights.of(one)
    weights.learn(one, line_tokens(b"value = compute(first, second)")[1:])
    assert weights.of(one) > before
    weights.common([one >> 32])
    assert weights.of(one) < before
