"""The parts that pages are made of: text that stays text, earlier calls at a line's place, syntax colours, plots."""

import json
import re
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from agent_trace_sidecar.blame.authors import Origin
from agent_trace_sidecar.blame.history import Change, Span
from agent_trace_sidecar.blame.lineage import MAX_TRAIL, lineage
from agent_trace_sidecar.commands import progress
from agent_trace_sidecar.commands.progress import Counting
from agent_trace_sidecar.commands.site import _NAME
from agent_trace_sidecar.records.fingerprints import line_hashes
from agent_trace_sidecar.report import page, session, syntax
from agent_trace_sidecar.report.html import address, clipped, data, el, escape, first_line, money, visible
from agent_trace_sidecar.report.since import quoted
from agent_trace_sidecar.report.site import file_name
from agent_trace_sidecar.report.syntax import Painter
from tests.support.waiting import Deadline

AT = datetime(2026, 1, 1, tzinfo=UTC)


def call(number: int) -> Origin:
    """A made-up call."""
    return Origin(UUID(int=number), AT, "ai", "diff")


def packed(text: str) -> bytes:
    """The hashes of a letter for each line."""
    return line_hashes([letter.encode() * 8 for letter in text])


def change(before: str | None, after: str, number: int, *spans: tuple[int, int], path: str = "a") -> Change:
    """What a call did to a file."""
    own = tuple(Span(start, end, call(number)) for start, end in spans)
    return Change("/w", path, None, packed(before) if before is not None else None, packed(after), own)


def trails(now: str, *changes: Change) -> list[list[int]]:
    """The numbers of the calls that wrote at each line's place."""
    return [[one.record_id.int for one in trail] for trail in lineage(changes, "a", packed(now), lambda _: False)]


def test_a_line_that_was_rewritten_remembers_who_wrote_there_before() -> None:
    """Lines around it keep what they had, and move along."""
    found = trails("xabCd", change("", "abcd", 1, (1, 4)), change("abcd", "abCd", 2, (3, 3)))
    assert found == [[], [1], [1], [1, 2], [1]]


def test_a_persons_line_in_the_place_of_the_ais_says_so() -> None:
    """Also when it was typed between two calls."""
    assert trails("aXc", change("", "abc", 1, (1, 3)), change("aXc", "aXcd", 2, (4, 4))) == [[1], [1], [1]]


def test_lines_of_which_nothing_is_known_have_no_trail() -> None:
    """A file without changes, and one whose content is known of no change."""
    assert trails("ab") == [[], []]
    unknown = Change("/w", "a", None, None, None, (Span(1, 2, call(1)),))
    assert trails("ab", unknown) == [[], []]


def test_a_trail_ends_somewhere() -> None:
    """A place that is rewritten every day keeps its last calls."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    steps = [change(letters[n - 1] if n else "", letters[n], n + 1, (1, 1)) for n in range(26)]
    assert trails("z", *steps) == [list(range(27 - MAX_TRAIL, 27))]


def test_a_moved_file_takes_its_places_along() -> None:
    """From its old path."""
    moved = Change("/w", "b", "a", packed("ab"), packed("aB"), (Span(2, 2, call(2)),))
    found = lineage([change("", "ab", 1, (1, 2)), moved], "b", packed("aB"), lambda _: False)
    assert [[one.record_id.int for one in trail] for trail in found] == [[1], [1, 2]]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#39;"),
        ("a\x00b\x1b[0m\x7f", "a␀b␛[0m␡"),
        ("left\u202eright", "left⟨U+202E⟩right"),
        ("\ud800", "\ufffd"),
        ("\u2028", "⟨U+2028⟩"),
        ("one\ttwo\nthree", "one\ttwo\nthree"),
        ("שלום 👩\u200d🚀", "שלום 👩\u200d🚀"),
    ],
)
def test_text_is_shown_as_it_runs(text: str, shown: str) -> None:
    """Nothing hidden is left in it, and nothing that is a letter is changed."""
    assert escape(text) == shown


def test_only_markup_is_markup() -> None:
    """Children and attributes are escaped unless `el` made them."""
    assert el("p", "<i>", el("b", "x"), None, title='"><script>') == (
        '<p title="&quot;&gt;&lt;script&gt;">&lt;i&gt;<b>x</b></p>'
    )
    assert el("input", checked=True, hidden=False, aria_label="x") == '<input checked aria-label="x">'


def test_data_can_not_leave_its_block() -> None:
    """And says the same when it is read."""
    value = {"</script><script>": ["<!--", "\u2028&", "\x00", 1.5, None]}
    block = data("data", value)
    assert block.count("<") == 2
    inner = block.partition(">")[2].rpartition("<")[0]
    assert json.loads(inner) == {"</script><script>": ["<!--", "⟨U+2028⟩&", "␀", 1.5, None]}


def test_the_policy_of_a_page_names_what_stands_in_it() -> None:
    """Nothing from anywhere, and no script or style but its own; nothing in the page would need more."""
    made = page.render(page.Page("since", "</title>", (), el("p", "x"), {}), AT)
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', made)[0].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"\s(style|on\w+)=", made)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg|github\.com/leeoniya/uPlot \()", made)
    assert "<title>&lt;/title&gt;</title>" in made


def test_a_page_with_a_library_has_its_licence() -> None:
    """And one without plots has neither."""
    with_plots, without = (
        page.render(page.Page(kind, "x", (), el("p", "x"), {}), AT) for kind in ("since", "repository")
    )
    for text in ("var uPlot=", "Copyright (c) 2022 Leon Sorokin"):
        assert text in with_plots
        assert text not in without


def test_colours_are_of_the_whole_line_or_not_at_all() -> None:
    """Lengths add up; what has no language, is too long or takes too long stays plain."""
    lines = ["def f(x):  # why", "", '\treturn \'é\' + """', 'text""" + 12']
    found = Painter().colours("a/b.py", lines)
    assert found is not None
    assert [sum(line[::2]) for line in found] == list(map(len, lines))
    assert found[0][:2] == [3, 1]
    assert Painter().colours("no.such-language", ["x"]) is None
    assert Painter().colours("a.py", ["x" * 10_000]) is None
    assert Painter().colours("a.py", []) is None


def test_colours_end_when_their_time_is_up() -> None:
    """A page with thousands of files is still made; the painter knows how many came too late."""
    painter = Painter(max_s=0)
    assert painter.colours("a.py", ["x = 1"]) is None
    assert painter.left_out == 1


def test_a_lexer_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also inside of a regular expression that backtracks for ever."""
    monkeypatch.setattr(syntax, "_MAX_S", 0.2)
    monkeypatch.setattr(syntax, "_by_line", lambda *_: re.match(r"(a+)+$", "a" * 64 + "b"))
    deadline = Deadline(10)
    assert Painter().colours("a.py", ["x = 1"]) is None
    assert not deadline.passed()


def test_what_is_long_is_cut_and_says_so() -> None:
    """A prompt's first line, an output, a sum of money."""
    assert clipped("abcdef", 4) == "abcd … (2 more characters)"
    assert first_line("\n  \n  what to do \nmore") == "what to do"
    assert len(first_line("x" * 1000)) == 160
    assert [money(cost) for cost in (None, 0, 0.00001234, 0.0123, 1234.5)] == [
        "unknown",
        "$0",
        "<$0.0001",
        "$0.0123",
        "$1,234.50",
    ]
    assert [address(one) for one in ("https://git.example.com/shop.git", "/srv/shop.git", "git@host:shop")] == [
        "git.example.com/shop",
        "/srv/shop.git",
        "git@host:shop",
    ]
    assert visible("x" * 1_000_000) == "x" * 1_000_000


def test_a_new_file_is_shown_with_a_line_for_each_lf() -> None:
    """A form feed and U+2028 end no line."""
    row: Any = {"diff": None, "files": None, "content": "a\x0cb\u2028c\x85d\r\ne\n", "existed": "false", "file": "x"}
    (body,) = session._bodies(row | {"input": "", "output": ""})
    assert body.text.split("\n") == ["+++ x", "+a\x0cb\u2028c\x85d\r", "+e", ""]


def test_every_session_has_a_file_of_its_own() -> None:
    """Whatever its id: in its folder, and with a name that a manifest may hold."""
    ids = [
        "ses_aB9",
        "ses_aB9/",
        "../ses_aB9",
        "..",
        "",
        "/",
        "a b",
        "a-b",
        "a?b#c",
        "ä",
        "x" * 500,
        "x" * 501,
        "\ud800",
    ]
    names = [file_name(one) for one in ids]
    assert len(set(names)) == len(ids)
    assert all(_NAME.fullmatch(f"sessions/{name}.html") for name in names)
    assert names[0] == "ses_aB9"


def test_names_in_sql_stay_names() -> None:
    """Of projects: paths may hold anything."""
    assert quoted("it's") == "'it''s'"
    assert quoted("\\'; DROP") == "E'\\\\''; DROP'"


def test_progress_is_a_line_now_and_then_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing for what is quick."""
    quick = Counting("report")
    quick.update("files", 1, 2)
    quick.close()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    slow = Counting("report")
    slow.update("files", 1, 2)
    slow.close()
    assert capsys.readouterr().err == "report: 1 of 2 files\n"


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One for each thing that is counted, and none is left on the screen."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    counting = Counting("report")
    counting.update("files", 0, 2)
    counting.update("sessions", 1, 2)
    counting.close()
    said = capsys.readouterr().err
    assert "report: files" in said
    assert "report: sessions" in said
    assert said.endswith("\x1b[2K"), "the last bar is erased"


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        ('[{"file": "a", "patch": "--- a\\n+x\\n"}, {"file": "b", "patch": "--- b\\n-y"}]', "--- a\n+x\n--- b\n-y\n"),
        ('[{"file": "a"}, 1, {"patch": 2}]', ""),
        ('{"patch": "x"}', ""),
        ('[{"file": "a", "patch": "cut o', ""),
        ("", ""),
    ],
)
def test_the_diffs_of_a_call_are_those_of_its_files(files: str, shown: str) -> None:
    """As OpenCode 2 lists them; of a list that was cut off nothing is guessed."""
    assert session._patches(files) == shown


def test_arguments_are_lines_and_long_ones_stand_alone() -> None:
    """Without what the change shows; what is no object stays as it is."""
    given = json.dumps({"filePath": "a", "limit": 3, "content": "x\ny", "note": "one\ntwo"})
    assert [(one.label, one.text) for one in session._arguments(given, has_change=True)] == [
        ("Arguments", "filePath: a\nlimit: 3"),
        ("Argument note", "one\ntwo"),
    ]
    assert [one.label for one in session._arguments(given, has_change=False)] == [
        "Arguments",
        "Argument content",
        "Argument note",
    ]
    assert [one.text for one in session._arguments('{"cut": "o', has_change=False)] == ['{"cut": "o']
    assert list(session._arguments('{"cut": "o', has_change=True)) == []
