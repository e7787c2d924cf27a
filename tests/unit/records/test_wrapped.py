"""Which lines of a change are old ones wrapped anew."""

import pytest

from agent_trace_sidecar.opencode.wire import Wrapped
from agent_trace_sidecar.records.diffs import MAX_LINE, compared
from agent_trace_sidecar.records.wrapped import MAX_WRAPPED, sound, wrapped


def found(before: str, after: str) -> list[tuple[int, int, int, int]]:
    """First and last line now, first and last line before."""
    old, new = before.encode().split(b"\n"), after.encode().split(b"\n")
    blocks = wrapped(old, new, compared(old, new) or ())
    return [(one.start_line, one.end_line, one.old_start_line, one.old_end_line) for one in blocks]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("foo(a, b)", "foo(\n    a,\n    b\n)", [(1, 4, 1, 1)]),
        ("foo(a, b)", "foo(\n    a,\n    b,\n)", [(1, 4, 1, 1)]),
        ("foo(\n  a,\n  b,\n)\nx = 1", "foo(a, b)\nx = 2", [(1, 1, 1, 4)]),
        ("return a and b\nend", "return (\n  a\n  and b\n)\nend", [(1, 4, 1, 1)]),
        ("return (\n  a\n  and b\n)\nend", "return a and b\nend", [(1, 1, 1, 4)]),
        ("call(a, 'b')", 'call(\n  a,\n  "b",\n)', [(1, 4, 1, 1)]),
        ("const f = () => { return 1 }", "const f = () => {\n  return 1;\n};", [(1, 3, 1, 1)]),
        ("a = b + \\\n    c", "a = b + c", [(1, 1, 1, 2)]),
        ("one two three\nfour five six", "one two\nthree four\nfive six", [(1, 3, 1, 2)]),
        ("one two\nthree four", "one\ntwo three four", [(1, 2, 1, 2)]),
        ("foo(a, b)\nnew = 1", "    foo(a,\n        b)\n    new = 1\n    added", [(1, 2, 1, 1)]),
        ("foo(a, b)\nbar(c, d)", "foo(\na,\nb\n)\nadded(one)\nbar(\nc,\nd\n)", [(1, 4, 1, 1), (6, 9, 2, 2)]),
        ("a b\nc", "a\n\nb\nd", [(1, 3, 1, 1)]),
        ("f(\n  a, b\n)", "f(\n  a,\n  b,\n)", [(2, 3, 2, 2)]),
        ("foo(a, a)\nfoo(b, b)\n", "foo(b,\nb)\n", [(1, 2, 2, 2)]),
    ],
)
def test_the_same_text_over_other_lines_is_wrapped(
    before: str, after: str, expected: list[tuple[int, int, int, int]]
) -> None:
    """With commas, semicolons and parentheses that stand at the ends of lines on one side only."""
    assert found(before, after) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("foo(a, b)", "foo(\n    a,\n    c\n)"),
        ("foo(a, b)", "foo(\n    a\n)"),
        ("foo(a, b)", "foo(a,\n    b"),
        ("foo(a b)", "foo(\n    a, b\n)"),
        ("foo(a, b)", "(\nfoo(a, b)"),
        ("foo(a)", "bar(a,\n    foo)"),
        ("foo('a\"b', c)", 'foo(\n"a\'b",\nc)'),
        ("foo('a\\'b', c)", 'foo(\n"a\\"b",\nc)'),
        ("a = 'b'", 'a = "b"'),
        ("    a = b", "a = b"),
        ("item", "item,"),
        ("", "a\nb"),
        ("a\nb", ""),
        ("\n\n", "\n"),
    ],
)
def test_another_text_is_not_wrapped(before: str, after: str) -> None:
    """Nor is a line that stays one line, whose author white space decides."""
    assert found(before, after) == []


def test_many_lines_of_one_beginning_take_little_time() -> None:
    """A change made for it costs no more than the tries that are allowed, and what is found is bounded."""
    lines = [f"x{at} = a(b{at}, c)" for at in range(MAX_WRAPPED + 1)]
    assert len(found("\n".join(lines), "\n".join(line.replace(", ", ",\n") for line in lines))) == MAX_WRAPPED
    long = "x" * 20_000
    assert found("\n".join(f"{long}{at}" for at in range(60)), "\n".join(f"{long}\ny{at}" for at in range(60))) == []


def test_blocks_that_are_no_ranges_are_dropped() -> None:
    """A log may come from anywhere."""
    good = Wrapped(1, 2, 3, 3)
    odd = [Wrapped(0, 1, 1, 1), Wrapped(2, 1, 1, 1), Wrapped(1, 1, 2, 1), Wrapped(1, MAX_LINE + 1, 1, 1)]
    assert sound([*odd, good]) == (good,)
    assert len(sound([good] * (MAX_WRAPPED + 1))) == MAX_WRAPPED
