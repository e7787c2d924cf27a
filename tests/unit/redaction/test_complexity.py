"""What an event costs grows with its size and no faster, whatever is repeated in it; and there is an end to it.

Measured in the processor time of this thread, as a ratio of two sizes of the same text: how fast the machine is, and
what else it does, is not asked.
"""

import itertools
import json
import math
import random
import time
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_trace_sidecar.redaction import Redactor, spans
from tests.benchmarks.redaction_blind_forms import blind_forms
from tests.benchmarks.redaction_forms import drawn
from tests.benchmarks.redaction_later_forms import later_forms
from tests.benchmarks.redaction_positions import positions
from tests.benchmarks.redaction_unknown_services import unknown_services
from tests.support.envelopes import Shim, envelope
from tests.support.waiting import slowness

STATEMENTS: Final = (
    "COPY t (password) FROM stdin;\n",
    "COPY t (id, password) FROM stdin;\n1\tTr0ub4dor-and-3\n",
    "COPY t (id, password) FROM stdin;\n1\tTr0ub4dor-and-3\n\\.\n",
    "INSERT INTO users (name, password) VALUES ('bob', 'Tr0ub4dor-and-3');\n",
    "INSERT INTO users (name, password) VALUES ('bob', 'Tr0ub4dor-and-3'), ",
    "INSERT INTO users (name, password) VALUES\n",
    "INSERT INTO users VALUES (",
    "INSERT INTO users VALUES ('''",
    "INSERT INTO users (",
    "password,token\n",
    "id\tpassword\n",
    "| password |\n|---|\n",
    "| name | password |\n|------|----------|\n",
    "| name | password |\n|------|----------|\n| bob | Tr0ub4dor-and-3 |\n",
    'users = {"bob": "Tr0ub4dor-and-3", ',
    "users = {",
    "-----BEGIN RSA PRIVATE KEY-----\n",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7b3Qm1x9c5YdJk2s\n",
    "-----BEGIN RSA PRIVATE KEY-----",
    "$ANSIBLE_VAULT;1.1;AES256\n",
    "Private-Lines: 1\n",
    "<auth-user-pass>\n",
    "line vty 0 4\n",
    "machine db login bob password ",
    "Examples:\n",
    "import pytest\n",
    "git ",
)
DELIMITERS: Final = (
    *"'\"`\\|,;:=-_.(){}[]<>/%&#@$*~+ \t\n0aA",
    *(
        '\\"',
        '\\\\"',
        "\\n",
        "\\u0022",
        "%3a",
        "%3D",
        "&quot;",
        "&#34;",
        "://",
        "--",
        "=>",
        ":=",
        "==",
        "''",
        '"""',
        "```\n",
    ),
    *('{"', '["', '{"a":', "password", "password=", 'password: "', "password password ", "stripe ", "token: ", "key\n"),
    *("\x1e", "\x1f", "\x1e\n", "[REDACTED:", "\N{EM DASH}", "\N{LINE SEPARATOR}"),
)
EXAMPLES: Final = [
    text
    for _kind, text, _secret in itertools.chain.from_iterable(
        forms(random.Random(17), each=1)  # noqa: S311 - examples, not secrets
        for forms in (blind_forms, drawn, later_forms, positions, unknown_services)
    )
]

_TIMES: Final = itertools.count()
_SIZES: Final = (40_000, 20_000, 10_000, 5_000)
_NOISE_S: Final = 0.05
"""Less than this is fast enough, and too little to be divided by."""
_ALLOWED: Final = 1.6
"""Linear is 1: the quadratic is 2 where the size doubles, and 4 where it does twice."""
_DEADLINE_S: Final = 3.0
"""For a short event; it has a second, and what runs when it is over comes to its end first."""


@pytest.fixture(scope="module")
def redactor(tmp_path_factory: pytest.TempPathFactory) -> Redactor:
    """One with all rules, ready."""
    made = Redactor(cache_dir=tmp_path_factory.mktemp("rules"))
    made.text("password=warm-up-1")
    return made


def cost_s(redactor: Redactor, piece: str, size: int) -> float:
    """The processor time of an event whose output is `piece` again and again; infinite when it was withheld."""
    text = f"{(piece * (size // len(piece) + 1))[:size]}\n{next(_TIMES)}"  # one that was seen before costs nothing
    raw = Shim().line("tool.execute.after", {"sessionID": f"ses_{size}"}, {"output": text})
    start = time.thread_time()
    done = redactor.line(raw)
    return math.inf if b'"withheld"' in done.line else time.thread_time() - start


def faster_than_linear(redactor: Redactor, piece: str) -> str:
    """What is wrong with the time that a piece takes at three sizes; empty when nothing is."""
    for size in _SIZES:  # what takes long is withheld: of that a shorter text must tell
        if (long := cost_s(redactor, piece, size)) < math.inf:
            break
    else:
        return f"{piece!r} is withheld at {size} bytes"
    if long < _NOISE_S:
        return ""
    for _ in range(3):  # a ratio that comes from something else does not come again
        short, middle, long = (cost_s(redactor, piece, size // part) for part in (4, 2, 1))
        if long / 4 <= _ALLOWED * short or long / 2 <= _ALLOWED * middle:
            return ""
    return f"{piece!r}, {size} bytes: {short:.3f} s, {middle:.3f} s, {long:.3f} s"


@pytest.mark.parametrize("piece", [*STATEMENTS, *DELIMITERS], ids=repr)
def test_a_statement_or_delimiter_repeated_costs_in_proportion(redactor: Redactor, piece: str) -> None:
    """Each by itself: a body or a context that reads on to the end of the text shows here."""
    assert not faster_than_linear(redactor, piece)


@given(st.sampled_from(EXAMPLES) | st.lists(st.sampled_from((*STATEMENTS, *DELIMITERS)), min_size=2).map("".join))
@settings(max_examples=35)
def test_an_example_of_a_rule_repeated_costs_in_proportion(redactor: Redactor, piece: str) -> None:
    """And so do several statements and delimiters in a row."""
    assert not faster_than_linear(redactor, piece)


@pytest.mark.parametrize("piece", ["COPY t (password) FROM stdin;\n", "password=marble", "password=x1y2z3 "])
def test_an_event_has_an_end_and_its_neighbours_are_stored(redactor: Redactor, piece: str) -> None:
    """It is masked in time, or its stub says how many bytes were withheld and why."""
    shim = Shim()
    raws = [shim.line("event", {"sessionID": "ses_1", "said": text}) for text in ("first", piece * 20_000, "last")]
    start = time.thread_time()
    first, done, last = redactor.lines(raws)
    assert time.thread_time() - start < _DEADLINE_S * slowness()
    assert (first.line, last.line) == (raws[0], raws[2])
    assert envelope(done.line).id == envelope(raws[1]).id
    stub = json.loads(done.line)["input"]
    assert "said" in stub or stub["withheld"] in [
        {"bytes": len(raws[1]), "reason": reason} for reason in ("overload", "deadline")
    ]


def test_a_line_alone_has_a_deadline(redactor: Redactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """In processor time, by its size; what used it up is withheld with the reason, and the next line has its own."""
    shim = Shim()
    raws = [shim.line("event", {"sessionID": "ses_1", "said": f"password=marble{at} " * 200}) for at in range(2)]
    monkeypatch.setattr(spans, "_BASE_S", -60.0)
    late = json.loads(redactor.line(raws[0]).line)["input"]
    assert late == {"withheld": {"bytes": len(raws[0]), "reason": "deadline"}}
    assert json.loads(redactor.stored(raws[0])) == late
    assert redactor.text("password=marble " * 200) == "[WITHHELD:3200 bytes, deadline]"
    monkeypatch.setattr(spans, "_PER_MIB_S", 60.0 * (1 << 20) / 100)  # a second for each 100 bytes
    monkeypatch.setattr(spans, "_BASE_S", 0.0)
    assert b"[REDACTED:assignment]" in redactor.line(raws[1]).line


def test_a_message_that_takes_too_long_is_withheld_as_a_whole(redactor: Redactor) -> None:
    """As an event is: what the log or a page gets in its place says so."""
    text = "password=marble" * 20_000
    start = time.thread_time()
    shown = redactor.text(text)
    assert time.thread_time() - start < _DEADLINE_S * slowness()
    assert "marble" not in shown
