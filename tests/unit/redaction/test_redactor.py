"""The redactor: JSON lines in, JSON lines without secrets out, whatever comes in."""

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_trace_sidecar.opencode.wire import TOO_LONG
from agent_trace_sidecar.redaction import Redacted, Redactor, RuleError, kingfisher, redact_text
from agent_trace_sidecar.redaction.scanner import Scanner

RECORDINGS = sorted((Path(__file__).parents[2] / "data" / "recordings").glob("*.jsonl"))
FUNNEL = Redactor()
PASSWORD = "Tr0ub4dor-and-3"
TOKEN = "ghp_" + "a1B2c3D4e5F6" * 3
LABEL = re.compile(r"\[REDACTED:[a-z-]+\]")
HEAD = {
    "v": 1,
    "id": "01a201d0-1733-73ef-82e3-d6f8e7cb2ff4",
    "seq": 7,
    "at": 1795326744371,
    "instance": "6beba06b-5354-42e2-9ea2-f5f74523829b",
    "hook": "tool.execute.after",
}


@pytest.fixture(name="cache", scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the exported rules are kept for all examples."""
    return tmp_path_factory.mktemp("rules")


def masked(value: object, *, redactor: Redactor = FUNNEL) -> Any:  # noqa: ANN401 - decoded JSON
    """The `input` of a line after the redactor."""
    return json.loads(redactor.line(json.dumps({**HEAD, "input": value}).encode()).line)["input"]


def strings(node: object) -> list[str]:
    """Every string of a decoded line, keys included."""
    if isinstance(node, dict):
        return [text for key, value in node.items() for text in (*strings(key), *strings(value))]
    if isinstance(node, list):
        return [text for item in node for text in strings(item)]
    return [node] if isinstance(node, str) else []


def test_only_the_funnel_makes_a_redacted_line() -> None:
    """Raw bytes can't be called redacted by mistake."""
    with pytest.raises(TypeError, match="only a Redactor"):
        Redacted(b"raw")
    assert Redacted.from_spool(b"line").line == b"line"


@pytest.mark.parametrize(
    "value",
    [
        {"password": PASSWORD},
        {"env": {"DB_PASSWORD": PASSWORD}},
        {"text": f"export DB_PASSWORD={PASSWORD}\nls"},
        {"nested": json.dumps({"password": PASSWORD})},
        {"nested": json.dumps({"inner": json.dumps({"password": PASSWORD})})},
        {"nested": json.dumps({"a": json.dumps({"b": json.dumps({"password": PASSWORD})})})},
        {"list": ["x", f"password: {PASSWORD}"]},
        {"url": f"postgres://app:{PASSWORD}@db.example.org/x"},
        {"output": f"curl 'https://example.org/?password%3D{PASSWORD}'"},
        {"files": {f"password={PASSWORD}": 1}},
    ],
)
def test_a_secret_is_masked_wherever_it_stands_in_the_line(value: object) -> None:
    """In a value, a key, a list, a URL, and in JSON inside strings up to three levels deep."""
    assert PASSWORD not in json.dumps(masked(value))


def test_numbers_under_password_names_are_masked_and_others_are_not() -> None:
    """A PIN is a number; a count of tokens is one, too."""
    result = masked({"db_password": 40961234, "tokens": {"input": 4096}, "max_tokens": 8192})
    assert result == {"db_password": "[REDACTED:assignment]", "tokens": {"input": 4096}, "max_tokens": 8192}


def test_what_was_masked_is_counted_by_rule_and_the_rest_of_the_line_is_byte_for_byte_the_same() -> None:
    """Numbers, order, white space and doubled keys are nobody's secret."""
    raw = b'{"v": 1, "n": 1.50e3, "big": 123456789012345678901234567890, "k": 1, "k": 2, "x": "token ghp_%s"}' % (
        b"a1" * 18
    )
    line = FUNNEL.line(raw).line
    assert line == raw.split(b"ghp_")[0] + b'[REDACTED:github-token]","redacted":{"github-token":1}}'


def test_observed_is_spliced_in_and_a_forged_one_is_dropped() -> None:
    """What the sidecar saw itself goes beside the line; nobody else can claim to have seen it."""
    line = FUNNEL.line(b'{"v":1,"observed":{"forged":1}}', b'{"vcs":null}').line
    assert json.loads(line) == {"v": 1, "observed": {"vcs": None}}
    assert FUNNEL.line(b"{}", b'{"a":1}').line == b'{"observed":{"a":1}}'


def test_switched_off_it_only_splices() -> None:
    """AGENT_TRACE_REDACTION=off stores what came in."""
    line = Redactor(enabled=False).line(b'{"password":"hunter22"}', b"{}").line
    assert line == b'{"password":"hunter22","observed":{}}'


def test_a_secret_found_once_is_masked_wherever_it_comes_again_in_its_session() -> None:
    """The second time it stands alone, where no rule would see it; another session knows nothing of it."""
    redactor = Redactor()
    masked({"sessionID": "ses_1", "text": f"DB_PASSWORD={PASSWORD}"}, redactor=redactor)
    assert (
        masked({"sessionID": "ses_1", "out": f"got {PASSWORD} ok"}, redactor=redactor)["out"]
        == "got [REDACTED:assignment] ok"
    )
    assert masked({"sessionID": "ses_2", "out": f"got {PASSWORD} ok"}, redactor=redactor)["out"] == f"got {PASSWORD} ok"


@pytest.mark.parametrize(
    "value",
    ["123e4567-e89b-42d3-a456-426614174000", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", "msg_a1b2c3d4e5f6g7h8"],
)
def test_a_secret_in_the_form_of_an_id_is_masked_as_a_string_of_its_own(value: str) -> None:
    """Such strings are not scanned, until one is known to be a secret; another session's stay."""
    redactor = Redactor()
    redactor.line(_line(input={"sessionID": "ses_1", "client_secret": value}))
    assert value not in redactor.line(_line(input={"sessionID": "ses_1", "note": value})).line.decode()
    assert value in redactor.line(_line(input={"sessionID": "ses_2", "note": value})).line.decode()
    assert value in redactor.line(_line(input={"sessionID": "ses_1", "messageID": value})).line.decode()


def test_a_value_that_a_session_has_shown_is_known_wherever_it_stands_alone() -> None:
    """A line of a file with nothing but the value gets no hash either."""
    redactor = Redactor()
    line = f"    return check('{PASSWORD}')  # as above"
    assert not redactor.holds_secret(line)
    masked({"sessionID": "ses_1", "output": f"DB_PASSWORD={PASSWORD}"}, redactor=redactor)
    assert redactor.holds_secret(line)
    assert not redactor.holds_secret("return check(password)")


def test_the_version_tells_the_users_rules_apart(tmp_path: Path) -> None:
    """So that masking stored rows begins anew when they change."""
    versions = set()
    for pattern in ("staff:([0-9]{6})", "staff:([0-9]{7})"):
        rules = tmp_path / "rules.jsonl"
        rules.write_text(json.dumps({"id": "staff-number", "pattern": pattern}))
        versions.add(Redactor(rules_file=rules).version)
    assert len(versions | {Redactor().version}) == 3


def test_a_string_that_was_clean_before_is_looked_at_again_when_its_value_turns_out_to_be_secret() -> None:
    """The memory of clean strings must not outlive what made them clean."""
    redactor = Redactor()
    assert masked({"sessionID": "ses_1", "out": PASSWORD}, redactor=redactor)["out"] == PASSWORD
    masked({"sessionID": "ses_1", "text": f"DB_PASSWORD={PASSWORD}"}, redactor=redactor)
    assert masked({"sessionID": "ses_1", "out": PASSWORD}, redactor=redactor)["out"] == "[REDACTED:assignment]"


def test_secrets_of_our_own_environment_are_masked_and_plain_words_of_it_are_not() -> None:
    """A password `postgres` can't be masked everywhere: every path would suffer."""
    environ = {
        "API_TOKEN": "zx81-kk3jd93kd",
        "PGPASSWORD": "postgres",
        "DATABASE_URL": "postgres://a:Q9w8e7r6t5@h/d",
        "HOME": "/home/dev1234",
    }
    redactor = Redactor(environ=environ)
    text = "zx81-kk3jd93kd Q9w8e7r6t5 postgres /home/dev1234"
    assert (
        masked({"x": text}, redactor=redactor)["x"]
        == "[REDACTED:known-value] [REDACTED:known-value] postgres /home/dev1234"
    )
    assert redactor.text("failed for zx81-kk3jd93kd") == "failed for [REDACTED:known-value]"


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        (".env", "# local\nPORT=8080\nNAME=shop\n", "# local\nPORT=*\nNAME=*\n"),
        ("/app/.npmrc", "registry=https://r.example.org\n", "registry=*\n"),
        (
            "~/.netrc",
            "machine a.example.org login bob password plain\n",
            "machine a.example.org login bob password *\n",
        ),
        ("config/master.key", "0123456789abcdef\n", "*\n"),
        ("kubeconfig.yaml", "users:\n- name: bob\n  token: plain\n", "users:\n- name: *\n  token: *\n"),
        ("src/app.py", "PORT = 8080\n", "PORT = 8080\n"),
        (".env.example", "NAME=shop\n", "NAME=shop\n"),
    ],
)
def test_files_of_secrets_lose_all_values_and_keep_names(path: str, content: str, expected: str) -> None:
    """Read, written, or named to `redact_text`."""
    assert LABEL.sub("*", redact_text(content, path)) == expected
    args = {"args": {"filePath": path, "content": content}}
    assert LABEL.sub("*", masked(args)["args"]["content"]) == expected


def test_a_command_that_prints_a_file_of_secrets_shows_its_names_only() -> None:
    """`cat .env` is a read as well."""
    result = masked({"args": {"command": "cat .env"}, "output": "NAME=shop\nPORT=1\n"})
    assert result["output"] == "NAME=[REDACTED:secret-file]\nPORT=[REDACTED:secret-file]\n"


@pytest.mark.parametrize(
    "command",
    [
        "gcloud secrets versions access latest --secret=db",
        "terraform output -raw db_password",
        "kubectl get secret db -o jsonpath='{.data.password}' | base64 -d",
        'echo "$DB_PASSWORD"',
        "printenv API_TOKEN",
        "op read op://vault/db/password",
        "vault kv get -field=password secret/db",
        "heroku config:get JWT_SECRET -a app",
        "openssl rand -base64 12",
    ],
)
def test_what_a_command_prints_that_prints_one_secret_is_masked(command: str) -> None:
    """A word by itself, which nothing in it makes a secret; several are a message."""
    for printed, expected in (("marble-77\n", "*\n"), ("not found\n", "not found\n"), ("\n", "\n")):
        result = masked({"args": {"command": command}, "output": printed, "metadata": {"output": printed}})
        assert LABEL.sub("*", result["output"]) == LABEL.sub("*", result["metadata"]["output"]) == expected


@pytest.mark.parametrize("command", ["terraform output db_host", "echo $HOME", "printenv TOKEN_FILE"])
def test_what_other_commands_print_stays(command: str) -> None:
    """The same word."""
    assert masked({"args": {"command": command}, "output": "marble-77\n"})["output"] == "marble-77\n"


def test_hostile_text_is_withheld_with_its_size_and_reason() -> None:
    """Fifty thousand assignments in one line are no text; the stub says so and keeps the line's identity."""
    raw = json.dumps({**HEAD, "input": "password=x1y2z3 " * 50_000}).encode()
    line = json.loads(FUNNEL.line(raw).line)
    assert line == {**HEAD, "input": {"withheld": {"bytes": len(raw), "reason": "overload"}}}


def test_a_line_that_was_too_long_keeps_what_its_beginning_says() -> None:
    """The wire's reader makes a dead letter of it."""
    head = json.dumps({**HEAD, "input": {"id": "not-this"}}).encode()[:150]
    line = json.loads(FUNNEL.stub(head, 10**8, TOO_LONG).line)
    assert line["withheld"] == {"bytes": 10**8, "reason": "too_long"}
    assert line["id"] == HEAD["id"]


def test_recordings_of_real_sessions_stay_as_they_are_but_for_the_example_key() -> None:
    """Ids, hashes, snapshots, paths and times of OpenCode survive."""
    assert RECORDINGS
    for path in RECORDINGS:
        for raw in path.read_bytes().splitlines():
            line = FUNNEL.line(raw).line
            if b"AKIAIOSFODNN7EXAMPLE" in raw:
                assert b"AKIA" not in line
            else:
                assert line == raw


def test_metadata_capture_keeps_names_and_no_contents() -> None:
    """Every string of a recording that is kept is an id, a name, a path, a time or the skeleton of a diff."""
    redactor = Redactor(capture="metadata")
    for path in RECORDINGS:
        for raw in path.read_bytes().splitlines():
            before, after = json.loads(raw), json.loads(redactor.line(raw).line)
            assert {k: after[k] for k in HEAD} == {k: before[k] for k in HEAD}
            text = " ".join(strings(after))
            for content in ("def add", "from subagent", "return a", "AKIA", "é 漢字", "write sub.txt"):
                assert content not in text


def test_metadata_capture_keeps_hunk_headers_and_line_counts() -> None:
    """Ranges come out as they would with the contents."""
    diff = "--- a.py\n+++ a.py\n@@ -1,2 +1,2 @@ def secret():\n keep\n-old\n+new\n"
    line = Redactor(capture="metadata").line(
        json.dumps({"input": {"args": {"content": "a\nb\n"}}, "output": {"metadata": {"diff": diff}}}).encode()
    )
    decoded = json.loads(line.line)
    assert decoded["output"]["metadata"]["diff"] == "--- a.py\n+++ a.py\n@@ -1,2 +1,2 @@\n \n-\n+\n"
    assert decoded["input"]["args"]["content"] == "[WITHHELD]\n\n"


def test_users_add_rules_with_a_file(tmp_path: Path) -> None:
    """TOML or JSON lines; the group that is the secret can be named."""
    toml = tmp_path / "rules.toml"
    toml.write_text('[[rule]]\nid = "staff"\npattern = "staff:([0-9]{6})"\nkeywords = ["staff"]\nsecret_group = 1\n')
    assert Redactor(rules_file=toml).text("see staff:123456.") == "see staff:[REDACTED:staff]."
    lines = tmp_path / "rules.jsonl"
    lines.write_text('{"id": "ward", "pattern": "W-[0-9]{5}"}\n')
    assert Redactor(rules_file=lines).text("in W-12345 now") == "in [REDACTED:ward] now"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "pattern": "("}', "rule 'a': pattern does not compile"),
        ('{"id": "A B", "pattern": "x"}', "rule 1: id must be"),
        ('{"id": "a", "pattern": "x*"}', "rule 'a': pattern matches the empty text"),
        ('{"id": "a", "pattern": "x", "secret_group": 2}', "rule 'a': secret_group is 2"),
        ('{"id": "a", "pattern": "x", "keyword": "y"}', "rule 'a': unknown field 'keyword'"),
        ("nonsense", "line 1: not a JSON object"),
    ],
)
def test_a_wrong_rule_is_an_error_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    """At start, not at the first line."""
    path = tmp_path / "rules.jsonl"
    path.write_text(text)
    with pytest.raises(RuleError, match=message.replace("(", r"\(")):
        Redactor(rules_file=path)


def test_the_export_is_cached_by_version(tmp_path: Path) -> None:
    """The second start reads the rules instead of asking for them."""
    first = Redactor(cache_dir=tmp_path)
    first.text("x")
    (cached,) = tmp_path.glob("redaction-rules-*.json")
    assert len(json.loads(cached.read_text())["exported"]) > 400
    assert Redactor(cache_dir=tmp_path).text(TOKEN) == "[REDACTED:github-token]"
    assert "kingfisher" in first.version


FRAGMENTS = st.sampled_from(
    [
        "password=",
        "DB_PASSWORD: ",
        "hunter22x",
        TOKEN,
        "\n",
        " ",
        '"',
        "\\",
        "\\n",
        "{",
        "}",
        "key=",
        "://a:b1c2d3@h/",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----END RSA PRIVATE KEY-----",
        "[REDACTED:x]",
        "token ",
        "AKIAIOSFODNN7EXAMPL2",
        "é",
        "\u0000",
        "%3D",
        "secret: ",
        "abc123def456ghi789jkl0",
        "<password>",
        "</password>",
        "\ud83d",
        "'",
        ",",
        "==",
    ]
)
TEXTS = st.lists(st.one_of(FRAGMENTS, st.text(max_size=8)), max_size=14).map("".join)


@given(TEXTS)
def test_masking_twice_is_masking_once_and_lines_stay_lines(text: str) -> None:
    """For any mixture of secrets, labels, quotes and escapes."""
    once = redact_text(text)
    assert redact_text(once) == once
    assert once.count("\n") == text.count("\n")


@given(
    st.recursive(
        st.one_of(TEXTS, st.integers(), st.booleans()),
        lambda c: st.one_of(st.lists(c, max_size=3), st.dictionaries(TEXTS, c, max_size=3)),
        max_leaves=8,
    )
)
def test_valid_json_stays_valid_json_with_the_same_lines_in_each_string(value: object) -> None:
    """And a masked line goes through a second time unchanged, but for the count, which nobody else may tell us."""
    raw = json.dumps({**HEAD, "input": value}).encode()
    line = FUNNEL.line(raw).line
    before, after = json.loads(raw), json.loads(line)
    assert all(after[key] == before[key] for key in HEAD)
    after.pop("redacted", None)
    assert json.loads(FUNNEL.line(line).line) == after


@given(st.binary(max_size=200), st.sampled_from([b"", b'{"password":"', b'{"x":"', b"[", b"password="]))
def test_no_bytes_whatever_make_it_raise(tail: bytes, head: bytes) -> None:
    """Torn UTF-8, half JSON, control characters: one line comes out, without a newline."""
    assert b"\n" not in FUNNEL.line(head + tail).line
    assert b"\n" not in FUNNEL.stub(head + tail, 1, TOO_LONG).line


@pytest.mark.parametrize("text", ["[[rules]]\nid = 'x'\npattern = 'x'\n", "[rule]\nid = 'x'\n", "x = 1\n"])
def test_a_toml_file_of_anything_but_rules_is_an_error(tmp_path: Path, text: str) -> None:
    """A misspelt table must not leave a secret unmasked without a word."""
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(RuleError, match="tables are allowed"):
        Redactor(rules_file=path)


def _line(**fields: object) -> bytes:
    return json.dumps({**HEAD, **fields}).encode()


_TOGETHER = [
    _line(input={"sessionID": "ses_1", "out": "nothing"}),
    _line(input={"sessionID": "ses_1", "out": f"got {PASSWORD}"}),
    _line(input={"sessionID": "ses_1", "text": f"DB_PASSWORD={PASSWORD}"}),
    _line(input={"sessionID": "ses_2", "out": f"got {PASSWORD}"}),
    _line(input={"sessionID": "ses_1", "out": f"got {PASSWORD} again"}),
    _line(input={"sessionID": "ses_1", "out": f'"{PASSWORD}" \\ quoted'}),
    b"{torn",
    _line(input={"args": {"filePath": "/app/.env", "content": "NAME=shop"}}),
    _line(input={"args": {"command": "cat /app/.env"}}, output={"output": "NAME=shop"}),
    b"\xff" + _line(input={"text": TOKEN}),
    _line(input={"torn": "?", "text": TOKEN}).replace(b"?", b"\xc3"),
    _line(input={"text": TOKEN}),
    _line(input={"text": "a \ud800 half, and " + TOKEN}),
    _line(input={"githubPat": "q8Zr3vX1pLm0Tn7Ws5Yd"}),
    _line(input={"text": base64.b64encode(f"password={PASSWORD}".encode()).decode()}),
    _line(input={"sessionID": "ses_1", "out": f"got {PASSWORD} hidden"}).replace(b"got T", b"got \\u0054"),
    _line(input={"sessionID": "ses_1", "text": "DB_PASSWORD='x7/Kq\"9v\\Lm2'"}),
    _line(input={"sessionID": "ses_1", "out": 'it is x7/Kq"9v\\Lm2'}),
    _line(input={"sessionID": "ses_1", "out": 'it is x7/Kq"9v\\Lm2'}).replace(b"/", b"\\/"),
    _line(input={"sessionID": "ses_1", "text": "DB_PASSWORD=x7/Kq-9vé4Lm2"}),
    _line(input={"sessionID": "ses_1", "out": "it is x7/Kq-9vé4Lm2"}).replace(b"/", b"\\/"),
    json.dumps({**HEAD, "input": {"sessionID": "ses_1", "out": "it is x7/Kq-9vé4Lm2"}}, ensure_ascii=False).encode(),
]


@given(st.lists(st.sampled_from(_TOGETHER), max_size=90), st.integers(1, 90))
@settings(max_examples=60)
def test_lines_that_are_looked_at_together_come_out_as_one_by_one(cache: Path, raws: list[bytes], width: int) -> None:
    """Whatever stands beside a line, and whatever a line before it has shown."""
    single, several = Redactor(cache_dir=cache), Redactor(cache_dir=cache)
    expected = [single.line(raw).line for raw in raws]
    found = [done.line for at in range(0, len(raws), width) for done in several.lines(raws[at : at + width])]
    assert found == expected


def test_a_line_that_is_no_utf8_is_masked_and_otherwise_as_it_was() -> None:
    """A tool's output may be cut within a character; the wire repairs it, and notes that."""
    torn = _line(input={"torn": "?", "text": TOKEN, "n": 1}).replace(b"?", b"\xc3")
    first, second = (done.line for done in Redactor().lines([_line(input="nothing"), torn]))
    assert first == _line(input="nothing")
    label = b"[REDACTED:github-token]"
    assert second == torn.replace(TOKEN.encode(), label)[:-1] + b',"redacted":{"github-token":1}}'
    assert FUNNEL.line(torn.replace(TOKEN.encode(), b"x")).line == torn.replace(TOKEN.encode(), b"x")


@given(st.lists(TEXTS, min_size=2, max_size=6))
@settings(max_examples=60)
def test_what_a_string_says_does_not_depend_on_the_strings_beside_it(cache: Path, texts: list[str]) -> None:
    """Neither in other lines nor in its own, where they belong together no more than in others."""
    raws = [_line(input=text) for text in texts]
    single, several = Redactor(cache_dir=cache), Redactor(cache_dir=cache)
    assert [done.line for done in several.lines(raws)] == [single.line(raw).line for raw in raws]


def test_a_private_key_is_found_line_by_line_in_a_list() -> None:
    """As the hunks of a patch hold it; each of its lines by itself could be anything."""
    body = ["MIIEpAIBAAKCAQEA7b3Qm1x9c5YdJk2s", "c5YdJk2sMIIEpAIBAAKCAQEA7b3Qm1x9"]
    begin, end = "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"
    found = masked({"lines": [begin, *body, end, "after"]})["lines"]
    assert found == [begin, "[REDACTED:private-key]", "[REDACTED:private-key]", end, "after"]


def test_each_line_after_a_new_secret_is_looked_at_for_it() -> None:
    """Also in strings that were clean before, escaped or long, and where every line shows another one."""
    redactor = Redactor()
    shown = [f"Zx{n:03d}q-8Kd{n}vvT" for n in range(40)]
    before = [_line(input={"sessionID": "s", "out": f"{value}\n" + "long " * 40}) for value in shown]
    assert all(value in done.line.decode() for value, done in zip(shown, redactor.lines(before), strict=True))
    secrets = [_line(input={"sessionID": "s", "text": f"DB_PASSWORD={value}"}) for value in shown]
    after = redactor.lines([line for pair in zip(secrets, before, strict=True) for line in pair])
    assert not any(value in done.line.decode() for value in shown for done in after)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "HEAD: {}",
        "git checkout {}",
        "git show {} --stat",
        "Switched to {}",
        "deploy {}",
        "base: {}",
        "gitRef={}",
        "nginx: {}",
        "react: {}",
        "{} refs/heads/main",
        "stash@{{0}}: {}",
        "uses: actions/checkout@{}",
        "submodule path vendor/x: checked out {}",
    ],
)
def test_revisions_survive_in_commands_and_short_messages(text: str) -> None:
    """Where nothing says that it opens something, forty hex digits are a revision."""
    told = text.format("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b")
    assert masked({"command": told, "output": told, "title": told}) == {"command": told, "output": told, "title": told}


def test_a_key_under_the_name_of_its_service_is_found_in_an_event() -> None:
    """Name and value are strings of their own; ids, revisions and names under the same name stay."""
    key = "q8Zr3vX1pLm0Tn7Ws5YdQ2"
    event = {
        **HEAD,
        "input": {"stripe": key, "openai": "gpt-4.1-mini-2025-04-14", "gitlab": "a8e9d07321f6ccc4" * 2 + "a8e9d073"},
    }
    line = json.loads(FUNNEL.line(json.dumps(event).encode()).line)
    assert line["input"]["stripe"] == "[REDACTED:near-provider]"
    assert {**line["input"], "stripe": key} == event["input"]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Redactor:
    """A redactor whose scanner fails."""
    redactor = Redactor(cache_dir=tmp_path)
    redactor.text("x")

    def fail(*_: object) -> None:
        raise ValueError(PASSWORD)

    monkeypatch.setattr(Scanner, "_layers", fail)
    return redactor


def test_whatever_fails_the_content_is_withheld(broken: Redactor) -> None:
    """An event, a stored row, a message: each says how many bytes and why, and nothing of the error's own text."""
    raw = json.dumps({**HEAD, "input": {"text": f"DB_PASSWORD={PASSWORD}"}}).encode()
    withheld = {"withheld": {"bytes": len(raw), "reason": "failed_ValueError"}}
    assert json.loads(broken.line(raw).line) == {**HEAD, "input": withheld}
    assert [json.loads(done.line)["input"] for done in broken.lines([raw, raw])] == [withheld, withheld]
    assert json.loads(broken.stored(raw)) == withheld
    assert broken.text(f"password={PASSWORD}") == "[WITHHELD:24 bytes, failed_ValueError]"


def test_without_the_exported_rules_the_bundled_ones_are_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And somebody is told."""

    def fail(_: Path | None) -> None:
        raise ImportError

    monkeypatch.setattr(kingfisher, "export", fail)
    problems: list[str] = []
    redactor = Redactor(cache_dir=tmp_path, on_problem=problems.append)
    assert PASSWORD not in redactor.text(f"DB_PASSWORD={PASSWORD}")
    assert problems == ["the kingfisher rules could not be exported; only the built-in rules are active"]


def test_texts_are_redacted_in_any_thread(tmp_path: Path) -> None:
    """At the same time, by one redactor, events of one session among them."""
    redactor = Redactor(cache_dir=tmp_path)
    lines = [
        _line(input={"sessionID": "s", "text": f"DB_PASSWORD=Zx{n:03d}q-8Kd{n}vvT and Zx000q-8Kd0vvT"})
        for n in range(40)
    ]
    with ThreadPoolExecutor(8) as pool:
        events = list(pool.map(lambda raw: redactor.line(raw).line, lines))
        texts = list(pool.map(redactor.text, (f"DB_PASSWORD=Zx{n:03d}q-8Kd{n}vvT" for n in range(40))))
    assert not [line for line in events if b"8Kd" in line]
    assert set(texts) == {"DB_PASSWORD=[REDACTED:assignment]"}
