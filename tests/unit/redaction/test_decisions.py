"""The lists of decisions: each row decides about a text of ours, and says what it is there for."""

import random
import re
from collections import Counter
from collections.abc import Mapping

import pytest

from agent_trace_sidecar.redaction import redact_text, rules
from agent_trace_sidecar.redaction.judge import looks
from agent_trace_sidecar.redaction.names import kind_of
from tests.benchmarks.redaction_blind_forms import blind_forms, blind_harmless
from tests.benchmarks.redaction_corpora import cases
from tests.benchmarks.redaction_harmless import HARMLESS
from tests.benchmarks.redaction_later_forms import later_forms
from tests.benchmarks.redaction_positions import positions
from tests.benchmarks.redaction_tool_forms import tool_forms, tool_harmless
from tests.unit.redaction.test_recall import HARMLESS as PLAIN

MASKED = (
    "[db]\n  user = bob\n  password = chocolate\n",
    'os.setenv("api_token", "kQzXwVbNpLmTrSdFgHjKqWx7")',
    'password = "orange tigers sleep longer"',
    'password = "mountain-falcon-river"',
    'mnemonic: "legal winner thank year wave sausage worth useful legal winner thank yellow"',
    'secret = "a#1 b$2 c%3 d&4 e*5"',
    "token: orange-TIGER-lemon",
    '  - "POSTGRES_PASSWORD=chocolate"\n',
    "DB_PASSWORD=409612",
    "API_TOKEN=409612840961",
    'users = {"bob": "aQ!b@cR#dT$eW%f^"}',
    "USER: bob\nPASS: hunter2x\n",
    "SecretId=kQzXwVb7NpLmTrSdFg4HjKqWx7",
    "SECRET=sunflower",
    "jwt:\n  secret: sunflower\n",
    '{"session": {"name": "sid", "secret": "sunflower"}}',
    '["docker", "login", "--user", "bob", "--password", "sunflower7"]',
    '{"auths": {"r.example": {"auth": "/rCQ3JhQRLy0eII6XpyMye/Dija6iK8XLsRZnoAM"}}}',
    "bitly 427a4a87b2a2fba198ca005564faa4a64a98e627",
    'SESSION_SECRET="sunflower-tiger-lake"',
    "INSERT INTO users VALUES (1,'bob','sunflower-41');",
    "REPLACE INTO `accounts` VALUES (1,'bob','kR8vq2LmX9'),(2,'eve','tiger.2207');",
    'passwords = ["sunflower41", "tiger.2207"]',
    'users = [("bob", "sunflower41")]',
    '<setting name="Password" serializeAs="String"><value>sunflower7</value></setting>',
    "password?: string = 'sunflower7';",
    'users = {"bob": "sunflower7"}',
    'passwords = ["tiger-lake-silver"]',
    'app.keys = ["sunflower7"]',
    "-[ RECORD 1 ]----\nid       | 1\npassword | sunflower\n",
    "Key         Value\n---         -----\npassword    sunflower\n",
    "a=1&user[password]=sunflower7&user[email]=x",
    "MySQL root password: sunflower\n",
    '"Jwt": {"Issuer": "x", "Key": "sunflower-lake-silver"}',
    '"Security": {"Name": "x", "Key": "kQzXwVb7NpLmTrSdFg4HjKqWx7"}',
    'const secret = "tiger-lake-silver"',
    'password: "100%sunny7"',
    "src/app.yml-12-  password: sunflower\n",
    '{"content": "*:*:*:bob:sunflower\\n"}',
)

KEPT = (
    "ENV DB_PASSWORD the password of the database",
    '  - "db_password=chocolate"\n',
    "auth: basicAuth",
    "while the password is locked\\&. The rest",
    "a=1;s.password=e.password,s.host=e.host",
    "if password == abc123x then",
    "POSTGRES_PASSWORD: app_login_secret",
    "DB_PASSWORD=test",
    'SECRET_KEY = "binary"',
    'message(CHECK_PASS "found")',
    "- The options --http-user and --http-password command switches to set them",
    "unsigned PK11_ATTR_TOKEN 0x00000001L",
    '"image_pull_secrets": "list[V1LocalObjectReference]"',
    "let tokenStartI=0;for(let i=0;i<n;i++){if(i==value.length-1){break}}",
    "<releaseManagerKey>B6E73D84EA4FCC47166087253FAAD2CD5ECBB314</releaseManagerKey>",
    "# jmxremote.password.toHashes = true|false",
    'if test "\\$PWD" = "\\$_PYENV_VH_PWD"',
    "user=bob password= auth_user=",
    "pw_name:pw_passwd:pw_uid:pw_gid:pw_dir",
    "(GnuPG key: 0x7EC2DBB6F4DBF434).",
    "PWD=/srv/Project X1",
    'password = "^[^a-z]x9+z$"',
    'users = {"bob": "admin.user.role9"}',
    'users = {"bob": "2024-01-02T10"}',
    'users = {"bob": "abcdefgh12"}',
    'curl -u "$USER:$PASS" https://h.example/v1',
    "curl -u USER:PASS https://h.example/v1",
    'key "0102030405060708090a0b0c0d0e0f10"',
    "the token \\f3a2b3c4d5e6f7a8b9c0d1e2",
    "=== RUN   TestParse2\n--- PASS: TestParse2 (0.00s)\nPASS\nok  \texample.org/x\t0.1s\n",
    "PASS: ld-elf/pr14052\nFAIL: ld-ifunc/ifunc-15\n",
    "FAIL: ld-ifunc/ifunc-14\nPASS: property-x86-5\n",
    "PASS: ld-misc/defsym1\nRunning ld-plugin\n",
    "* update-passwd.c: Skip9 a question",
    "the source argument for a token is <code>args[token.index]</code>.",
    "t.message=e.result===a?r.pass:r.fail:(b(c))",
    "npm approve-scripts --no-allow-scripts-pin canvas2",
    "[`crypto.createSecretKey()`]: #cryptocreatesecretkey2key-encoding",
    "\t* agent/genkey.c (check_passphrase): Build7 a warning",
    "\t(SignKeyJob::start, SignKeyJob::setUser7Ids): Fix",
    "    passwd: HTTPPasswordMgr | None",
    "use SignKeyJob::setUserIDsToSign",
    'BASIC_AUTH="bob:$PASSWORD"',
    ".set('Authorization', 'Bearer ********')",
    "if the initial nonce is &ldquo;abc&rdquo; (3 octets)",
    'key: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1Olb3zMAFFxXKHiIkQO5cJ3Yhl5i6UPp+IhuteBJbuHcA5UogKo0EWtl"',
    "node inspect a.js\nDebugger listening on ws://127.0.0.1:9229/621111f9-ffcb-4e82-b718-48a145fa5db8",
    "* Add the upstream signing key 19882D92DDA4C400C22C0D56CC2AF4472167BE03",
    "docker\n    Regress-ID: 6696b2eeefe128099fc3d7ea9f23252cc35156f9\n",
    "  $ yes 00000000000000000000000000000000000000000x | head",
    "INSERT INTO users VALUES ('bob77','bob@example.org','2020-01-02','6f1c2d3e-0000-4000-8000-1234567890ab');",
    'users = ["bob99x", "eve12345"]',
    "INSERT INTO wp_usermeta VALUES (1,1,'dismissed','wp496_privacy2');",
    'users = {"bob": "group7", "eve": "operator2"}',
    'accounts = {"alice99x"}',
    '.BR passwd "77x (1), " login',
    "Pin: release-n*\n",
    "mongodb+srv://bob:<password>@c.example.org/x",
    " /etc/pam.d/passwd 0f9c72056a4cb4ee98b7da29e2d183cb",
    "all:[{options:{selector:'main',passForModal:!0},id:'x'}]",
    "null_password_normalize: Added",
    "curl -u deploy:TOKEN https://h.example/v1",
    "* users and passwords\n  - symbolic: weather-tornado\n",
    "git-send-email: ssh/login style password requests",
    "DB_PASSWORD: $$SECRET7",
    "[INFO] Root password: required",
    "pkcs11:token=Root%20CA%207;serial=1%3AROOTS",
    "INSERT INTO users VALUES (1,'bob','bob77.png','2001:db8::1','UTC+01:00','a:1:{s:4:x9}','+49-170-5550100');",
)


_FILLER = "The client opens a connection, waits for the answer and returns what it got.\n" * 25
SAMPLES = (
    "# access_key_id: AKIAIOSFODNN7EXAMPLE\n",
    'token = "mF_9.B5f-4.1JqM"\n',
    "Examples\n--------\n\n    password: Winter2022\n",
    'def test_login():\n    assert login(password="secret123")\n',
    "# password: topsecret123\n",
    "import unittest\n\n    password = 'topsecret123'\n",
    'key = "sk_live_XXXXXXXXXXXXXXXXXXXXXXXX"\n',
    '{"api_key": "ENC[AES256_GCM,data:kR8vq2LmX9wTz4Bn,iv:kR8vq2LmX9wTz4Bn=,tag:kR8vq2LmX9wTz4Bn==,type:str]"}\n',
    "db_password: ENC[AES256_GCM,data:kR8vq2LmX9wTz4Bn,iv:kR8vq2LmX9wTz4BnkR8vq2LmX9wTz4Bn,type:str]\n",
    "encryptedData:\n  password: AgBy3i4OJSWK1PiTySYZZA9rO43cGDEqkR8vq2LmX9wTz4Bn\n",
)
LONG = tuple(_FILLER + sample + _FILLER for sample in SAMPLES)
"""Samples count as such only in a text of some length."""
NO_SAMPLES = (
    _FILLER + "Examples\n\n    password = 'kR8vq2LmX9wTz4Bn'\n",
    _FILLER + f"Examples\n\n    api_key = '{'kR8vq2LmX9wTz4Bn' * 4}'\n",
)


def _texts() -> list[str]:
    rng = random.Random(5)  # noqa: S311 - made-up secrets
    made = [text for forms in (blind_forms, later_forms, positions, tool_forms) for _, text, _ in forms(rng, each=2)]
    return [*made, *(case.text for case in cases(each=2)), *HARMLESS, *blind_harmless(rng), *tool_harmless(rng), *PLAIN]


@pytest.mark.parametrize("text", [*MASKED, *NO_SAMPLES])
def test_a_secret_in_its_form_is_masked(text: str) -> None:
    """One text for each row that masks and that the other sets do not reach."""
    assert "[REDACTED:" in redact_text(text)


@pytest.mark.parametrize("text", [*KEPT, *LONG])
def test_what_has_such_a_form_and_is_no_secret_stays(text: str) -> None:
    """One text for each row that keeps, and kinds that clean text showed."""
    assert redact_text(text) == text


def test_every_row_decides_about_some_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that no text reaches is dead, or hidden by one above it."""
    decided: Counter[int] = Counter()
    decide = rules.Decisions.of

    def counted(decisions: rules.Decisions, fields: Mapping[str, object]) -> dict[str, str] | None:
        row = decide(decisions, fields)
        decided[id(row)] += 1
        return row

    monkeypatch.setattr(rules.Decisions, "of", counted)
    for cached in (kind_of, looks):
        cached.cache_clear()
    for text in (*_texts(), *MASKED, *KEPT, *LONG, *NO_SAMPLES):
        redact_text(text)
    lists = rules.known().decisions
    assert [(part, row) for part, rows in lists.items() for row in rows if not decided[id(row)]] == []


def test_a_pattern_that_begins_at_the_beginning_has_no_other_beginning() -> None:
    r"""`\A` is applied to a row as a whole: an alternative that begins elsewhere belongs into a group."""
    rows = [row for rows in rules.known().decisions.values() for row in rows]
    patterns = {text for row in rows for field, text in row.items() if field not in {"form", "take"}}
    begin = [text for text in patterns if re.match(r"(?:\(\?[a-z]+\))?\\A", text)]
    assert [text for text in begin if re._parser.parse(text)[0] != re._parser.parse(r"\A")[0]] == []  # type: ignore[attr-defined]
