"""What one event says changes no other event, no field of its own envelope, and nothing beyond its own string.

The texts are made of what the layers of redaction look for, with the openings that a body, a context or a row could
follow, put where one event or one string ends and the next begins.
"""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_trace_sidecar.redaction import Redactor
from tests.benchmarks.redaction_blind_forms import blind_forms
from tests.benchmarks.redaction_forms import drawn
from tests.benchmarks.redaction_later_forms import later_forms
from tests.benchmarks.redaction_positions import positions
from tests.benchmarks.redaction_unknown_services import unknown_services
from tests.support.envelopes import Shim, envelope
from tests.support.postgres import fetch
from tests.support.sidecar import ShimDouble, sidecar_env

PASSWORD: Final = "Tr0ub4dor-and-3"
KEY: Final = "Zx81q8Kd4vvT0pLm7Rw2"
INSTANCE: Final = "6beba06b-5354-42e2-9ea2-f5f74523829b"
COPY: Final = "COPY t (password) FROM stdin;"

OPENINGS: Final = (
    COPY,
    "COPY public.users (id, password) FROM stdin;",
    "INSERT INTO users (id, password) VALUES",
    "INSERT INTO users (id, password) VALUES (1,",
    "INSERT INTO users (",
    "INSERT INTO users VALUES ('a', '",
    "password,token",
    "id\tpassword",
    "| password |\n|---|",
    "| name | password |\n|------|----------|",
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7b3Qm1x9c5YdJk2s",
    "PRIVATE KEY",
    "password",
    "password=",
    "password: ",
    '"password": "',
    "DB_PASSWORD='",
    "password = '''",
    "<password>",
    "<key>password</key>",
    "- name: DB_PASSWORD",
    '"name": "DB_PASSWORD",',
    "authorization: Bearer",
    "Authorization: Basic ",
    "Cookie: session=",
    "Set-Cookie:",
    "the secret token is",
    "api key",
    "stripe",
    "Calling the etherscan API",
    "X-Acme-Key:",
    "https://app:",
    "https://hooks.acme.example/",
    "client('acme', '",
    "users = {",
    "passwords: {'bob': '",
    "machine db.acme.example login bob password",
    "$ANSIBLE_VAULT;1.1;AES256",
    "<auth-user-pass>\nbob",
    "line vty 0 4\n login",
    "requirepass",
    "session id",
    "commit",
    "sha256",
    "Examples:",
    "import pytest",
    "```",
    "# ",
    "cache",
    "[REDACTED:",
    "\\",
    '\\"',
    "%3D",
    "&quot;",
    "\x1e",
    "\x1f",
)
"""What announces that a secret follows, or that what follows is none."""

VALUES: Final = (
    PASSWORD,
    KEY,
    "3f786850e387550fdab836ed7e6dc881de23001b",
    "123e4567-e89b-42d3-a456-426614174000",
    INSTANCE,
    f"1\t{PASSWORD}",
    f"(1, '{PASSWORD}');",
    f"'{PASSWORD}')",
    f"| bob | {PASSWORD} |",
    "MIIEpAIBAAKCAQEA7b3Qm1x9c5YdJk2sc5YdJk2sMIIEpAIBAAKCAQEA7b3Qm1x9",
    "-----END RSA PRIVATE KEY-----",
    f"password={PASSWORD}",
    f"value: {PASSWORD}",
    f"<string>{PASSWORD}</string>",
    f"@db.acme.example/{KEY}",
    "ghp_" + "a1B2c3D4e5F6" * 3,
    "sunshine",
    "event",
    "done",
    "",
)
"""Secrets, and what is none, as they could follow such an opening."""

EXAMPLES: Final = [
    text
    for _kind, text, _secret in itertools.chain.from_iterable(
        forms(random.Random(13), each=1)  # noqa: S311 - examples, not secrets
        for forms in (blind_forms, drawn, later_forms, positions, unknown_services)
    )
]
"""A text for each form of secret that redaction is measured by."""

BORDERS: Final = ("\n", "\r\n", " ", "", "\n\n", "\t", "'", ",")
PIECES: Final = st.sampled_from(OPENINGS) | st.sampled_from(VALUES)
TEXTS: Final = st.lists(st.tuples(PIECES, st.sampled_from(BORDERS)), min_size=1, max_size=4).map(
    lambda parts: "".join(itertools.chain.from_iterable(parts))
)
HALVES: Final = st.sampled_from(EXAMPLES).flatmap(
    lambda text: st.integers(0, len(text)).map(lambda cut: [text[:cut], text[cut:]])
)
"""A secret with its surroundings, cut in two: what the first half begins the second must not end."""
SEVERAL: Final = (
    st.lists(TEXTS, min_size=2, max_size=5)
    | HALVES
    | st.lists(HALVES, min_size=2, max_size=3).map(lambda two: [*itertools.chain.from_iterable(two)])
)
QUIET: Final = settings(max_examples=150)

_SESSIONS: Iterator[int] = itertools.count()
_ENVELOPE: Final = ("v", "id", "seq", "at", "instance", "hook", "api")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the exported rules are kept for all redactors here."""
    return tmp_path_factory.mktemp("rules")


@pytest.fixture(scope="module")
def alone(cache: Path) -> Redactor:
    """Masks events one by one."""
    return Redactor(cache_dir=cache)


@pytest.fixture(scope="module")
def together(cache: Path) -> Redactor:
    """Masks events that came in one read."""
    return Redactor(cache_dir=cache)


def events(texts: list[str], *, session: str = "") -> list[bytes]:
    """An event of a session of its own with each text, unless all are said in one."""
    shim = Shim()
    sessions = [session or f"ses_{next(_SESSIONS)}" for _ in texts]
    return [
        shim.line(
            "tool.execute.after",
            {"tool": "bash", "sessionID": one, "callID": "call_1", "args": {}},
            {"output": text},
            instance=INSTANCE,
        )
        for one, text in zip(sessions, texts, strict=True)
    ]


def fields(line: bytes) -> dict[str, Any]:
    """The envelope's own fields of a line."""
    whole = json.loads(line)
    return {name: whole[name] for name in _ENVELOPE if name in whole}


@given(SEVERAL)
@example([COPY, "nothing", "nothing"])
@example(["data:\n  colour: bleu\n", "kind: Secret\n"])
@example(["INSERT INTO users (", f"password) VALUES ('{PASSWORD}')"])
@example(["the session id\n", KEY])
@QUIET
def test_events_redacted_together_are_each_redacted_alone(
    alone: Redactor, together: Redactor, texts: list[str]
) -> None:
    """Events of different sessions that came in one read have nothing in common."""
    raws = events(texts)
    assert [done.line for done in together.lines(raws)] == [alone.line(raw).line for raw in raws]


@given(SEVERAL)
@example([COPY, "nothing"])
@QUIET
def test_strings_that_hold_no_secret_hold_none_beside_each_other(alone: Redactor, texts: list[str]) -> None:
    """Neither as members of one object nor as elements of one list; the lines of a private key are the exception."""
    clean = [text for text in texts if "PRIVATE KEY" not in text and not _is_masked(alone, [text])]
    assert not _is_masked(alone, clean)
    assert not _is_masked(alone, {f"part{number}": text for number, text in enumerate(clean)})


def _is_masked(redactor: Redactor, given_: object) -> bool:
    raw = Shim().line("event", {"sessionID": f"ses_{next(_SESSIONS)}", "said": given_})
    return redactor.line(raw).line != raw


@given(st.lists(TEXTS, min_size=1, max_size=4), st.permutations(["input", "output", "head"]), st.sampled_from(VALUES))
@example([f"api_key={INSTANCE}", f"token={INSTANCE}"], ["input", "output", "head"], "")
@example(["-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"], ["input", "head", "output"], "")
@QUIET
def test_a_redacted_event_keeps_its_envelope(
    together: Redactor, texts: list[str], order: list[str], shown: str
) -> None:
    """In whatever order the fields stand, and although a session has shown an id as if it were a secret."""
    session = f"ses_{next(_SESSIONS)}"
    raws = [_ordered(raw, order) for raw in events([*texts, f"api_key={shown}", f"token={session}"], session=session)]
    for raw, done in zip(raws, together.lines(raws), strict=True):
        assert fields(done.line) == fields(raw)
        assert set(json.loads(done.line)) - {"redacted"} == set(json.loads(raw))
        assert json.loads(done.line)["input"]["sessionID"] == session
        envelope(done.line)


def _ordered(raw: bytes, order: list[str]) -> bytes:
    whole = json.loads(raw)
    head = {name: value for name, value in whole.items() if name not in {"input", "output"}}
    parts = {"head": head, "input": {"input": whole["input"]}, "output": {"output": whole["output"]}}
    return json.dumps({name: value for part in order for name, value in parts[part].items()}).encode()


@pytest.mark.parametrize("capture", ["full", "metadata"])
def test_an_event_that_would_lose_its_envelope_is_withheld_and_its_neighbours_are_not(
    cache: Path,
    capture: Any,  # noqa: ANN401 - a literal
) -> None:
    """A hook's name that is a secret itself can't be stored, nor can what it was said of."""
    redactor = Redactor(cache_dir=cache, capture=capture)
    shim = Shim()
    raws = [
        shim.line("event", {"n": 1}),
        shim.line(f"password={PASSWORD}\n", {"content": "private"}),
        shim.line("event", {"n": 2}),
    ]
    first, second, third = redactor.lines(raws)
    stub = json.loads(second.line)
    assert stub["input"] == {"withheld": {"bytes": len(raws[1]), "reason": "envelope"}}
    assert {name: stub[name] for name in ("id", "seq", "instance")} == {
        name: json.loads(raws[1])[name] for name in ("id", "seq", "instance")
    }
    assert PASSWORD.encode() not in second.line
    assert [json.loads(done.line) for done in (first, third)] == [json.loads(raws[0]), json.loads(raws[2])]


def test_a_statement_without_rows_costs_no_session_its_events(migrated_url: str, tmp_path: Path) -> None:
    """Through the real sidecar: a COPY of one column in an output, and the events of two sessions behind it."""
    shim = Shim()
    texts = ["before", COPY, f"{COPY}\n{PASSWORD}\n", COPY + "\n", "behind", "the end"]
    sessions = ["ses_1", "ses_2", "ses_1", "ses_2", "ses_1", "ses_2"]
    with ShimDouble(sidecar_env(tmp_path, migrated_url, flush_ms="20", redaction="on")) as double:
        for seq, (session, text) in enumerate(zip(sessions, texts, strict=True), 1):
            given_ = {"tool": "bash", "sessionID": session, "callID": f"call_{seq}", "args": {}}
            double.send(seq, shim.line("tool.execute.after", given_, {"title": "", "output": text, "metadata": {}}))
        assert double.close() == 0
    assert fetch(migrated_url, "SELECT reason, convert_from(line, 'UTF8') FROM agent_trace_dead_letters") == []
    rows = fetch(
        migrated_url,
        "SELECT seq, event_id, session_id, payload #>> '{output,output}' FROM agent_trace_events ORDER BY seq",
    )
    masked = [text.replace(PASSWORD, "[REDACTED:table-column]") for text in texts]
    assert [tuple(row) for row in rows] == [
        (seq, UUID(int=(0x01A201D68E207BD0B47E << 48) + seq), session, text)
        for seq, (session, text) in enumerate(zip(sessions, masked, strict=True), 1)
    ]
