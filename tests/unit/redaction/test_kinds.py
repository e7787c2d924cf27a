"""Kinds of secrets that leaked once, and kinds of text that were damaged: a row is a kind, not a case."""

import json

import pytest

from agent_trace_sidecar.redaction import Redactor, redact_text
from tests.support.drawn import drawn


@pytest.fixture(scope="module")
def redactor(tmp_path_factory: pytest.TempPathFactory) -> Redactor:
    """One with all rules."""
    return Redactor(cache_dir=tmp_path_factory.mktemp("rules"))


MANIFEST = """apiVersion: v1
kind: Secret
metadata:
  name: app
  namespace: shop
type: Opaque
data:
  dsn-main: {first}
  blob: |
    {second}
    {third}
stringData:
  greeting: {fourth}
---
apiVersion: v1
kind: ConfigMap
data:
  colour: blueish
"""
VALUES = {
    "first": "aGVsbG8gd29ybGQgb2YgbWFyYmxl",
    "second": "bWFyYmxlIGFuZCBnbGFzcw",
    "third": "Z2xhc3MgYW5kIG1hcmJsZQ",
    "fourth": "open-the-green-door",
}


@pytest.mark.parametrize("indent", ["", "  ", "+", "    12: "])
def test_every_value_of_a_kubernetes_secret_is_masked_and_its_names_stay(indent: str) -> None:
    """Under names that say nothing, in block scalars, in diffs and numbered listings; other manifests stay."""
    text = "\n".join(indent + line for line in MANIFEST.format(**VALUES).splitlines())
    masked = redact_text(text)
    assert not [value for value in VALUES.values() if value in masked]
    for kept in ("name: app", "namespace: shop", "dsn-main: [", "greeting: [", "colour: blueish", "type: Opaque"):
        assert kept in masked
    assert masked.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "text",
    [
        "kind: Secret\ndata:\n  password: {{ .Values.password | b64enc }}\n  other: ${OTHER}\n",
        'kind: Secret\ndata:\n  empty: ""\n  none:\n  # a comment\ntype: Opaque\n',
        "items:\n- kind: Secret\n  metadata:\n    name: one\n- kind: ConfigMap\n  data:\n    a.conf: colour=blueish\n",
        "kind: Secret\nmetadata:\n  name: one\n---\nkind: ConfigMap\ndata:\n  a.conf: colour=blueish\n",
        "the kind: Secret of the trade\ndata: we have\n  it: is fine\n",
        "fields:\n  - kind: Secret\n    name: foo\n    optional: true\n",
        "volumes:\n- name: certs\n  secret:\n    secretName: tls-prod\n",
    ],
)
def test_what_is_no_value_of_a_kubernetes_secret_stays(text: str) -> None:
    """Templates, empty values, comments, and the data of the next manifest."""
    assert redact_text(text) == text


def test_a_kubernetes_secret_in_json_is_masked(redactor: Redactor) -> None:
    """As the API and `kubectl -o json` give it, pretty or not, also within an event."""
    whole = {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {"name": "app"},
        "data": {"dsn-main": VALUES["first"], "blob": VALUES["second"]},
        "type": "Opaque",
    }
    for text in (json.dumps(whole), json.dumps(whole, indent=2), json.dumps({"items": [whole]}, indent=4)):
        masked = redact_text(text)
        assert VALUES["first"] not in masked
        assert VALUES["second"] not in masked
        assert '"app"' in masked
        event = json.dumps({"v": 1, "output": {"output": text}}).encode()
        assert VALUES["first"].encode() not in redactor.line(event).line


@pytest.mark.parametrize(
    "text",
    [
        "kind: SealedSecret\nspec:\n  encryptedData:\n    password: AgB<<alnum 90>>==\n    token: AgAR<<alnum 99>>\n",
        "password: ENC[AES256_GCM,data:<<base64 12>>,iv:<<base64 43>>=,tag:<<base64 22>>==,type:str]\n",
        '{"api_key": "ENC[AES256_GCM,data:<<base64 32>>,iv:<<base64 43>>=,tag:<<base64 22>>==,type:str]"}',
    ],
)
def test_ciphertext_of_sealed_secrets_and_sops_stays(text: str) -> None:
    """It is made to be committed."""
    assert redact_text(drawn(text)) == drawn(text)


@pytest.mark.parametrize("value", ["1234567890123", "40961234567890123456", "98765432109876"])
@pytest.mark.parametrize(
    "form", ["password={}\n", '{{"password": {}, "n": 1}}', '{{"db_password": "{}"}}', "password: {}\n"]
)
def test_numeric_passwords_of_any_length_are_masked(redactor: Redactor, value: str, form: str) -> None:
    """Twelve digits are no limit that a person knows of."""
    assert value not in redact_text(form.format(value))
    event = json.dumps({"v": 1, "input": {"args": {"password": int(value)}}}).encode()
    assert value.encode() not in redactor.line(event).line


@pytest.mark.parametrize(
    "text",
    [
        "s.password=e.password,s.host=e.host,s.port=e.port,s.user=e.user;",
        "t.token=n.token,t.secret=n.secret,this.key=t.key;",
        "a.passwd=b.getPasswd(),a.x=1;c.password=d[e],f=g;",
        "o.apiKey=i.apiKey||n,o.secret=void 0;",
        "u.set({password:t.password,token:r}),e.auth=s.auth;",
        "var p=e.password,q=e.secret;return p&&q",
        "this.password=t,this.user=n,this.host=r",
        "e.password!==t.password&&(e.token=null)",
        "if(e.password===n.password)return!0",
        "password:t?t.password:null,token:n",
        "u.password=s.length>1?s[1]:null",
        "f.token=g+h,f.i=j",
        "o.secret=(0,i.default)(a),o.x=1",
        "token:()=>t,secret:async()=>n",
        'case"password":return e.password;',
        "{apiKey:c,secret:d,token:e}",
        '{key:"createSynonymsRegExp",value:function(e){var t=this.opt}},{key:"unmarkButHighlightAll2"}',
    ],
)
def test_minified_code_keeps_its_expressions(text: str) -> None:
    """Short lines too: nothing in them is a value."""
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        'curl -u "$USER:$PASS" https://api.example.org/v1',
        "curl -u $USER:$PASSWORD https://api.example.org/v1",
        'curl --user "${API_USER}:${API_PASS}" https://api.example.org/v1',
        "curl -u '<user>:<password>' https://api.example.org/v1",
        "curl -u user:$(cat /run/secret) https://api.example.org/v1",
        'mysql -u root -p"$MYSQL_PASSWORD" shop',
        'sshpass -p "$PASS" ssh root@10.0.0.1',
        'curl -H "Authorization: Bearer $TOKEN" https://api.example.org',
        "curl -u %USER%:%PASS% https://api.example.org",
        "curl -u !USER!:!PASS! https://api.example.org",
        'curl -u "$env:USER:$env:PASS" https://api.example.org',
        'curl -u "USER:PASS" https://api.example.org',
        'curl -u "user:your_password" https://api.example.org',
        'curl -u "$API_KEY:" https://api.example.org',
        'curl -u admin:"$PASS" https://api.example.org',
    ],
)
def test_variables_in_commands_are_no_secrets(text: str) -> None:
    """The shell fills them in; the text holds none."""
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "value",
    [
        "sk_test_xxxx",
        "sk_test_xxxxxxxxxxxxxxxxxxxxxxxx",
        "sk_live_XXXXXXXXXXXXXXXXXXXXXXXX",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "xoxb-xxxxxxxxxxxx-xxxxxxxxxxxx",
        "sk-ant-api03-...",
        "AKIAXXXXXXXXXXXXXXXX",
        "sk_test_your_key_here",
        "sk-proj-xxxxxxxxxxxxxxxxxxxx",
        "ghp_YOUR_TOKEN_HERE_0000",
        "AIzaXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
        "xxxxx.yyyyy.zzzzz",
    ],
)
@pytest.mark.parametrize("form", ["API_KEY={}\n", 'key = "{}"', "use {} as the key"])
def test_tokens_that_are_spelt_out_as_placeholders_stay(value: str, form: str) -> None:
    """The mark of a maker and nothing behind it."""
    assert redact_text(form.format(value)) == form.format(value)


@pytest.mark.parametrize("name", ["PWD", "OLDPWD"])
@pytest.mark.parametrize(
    "place", ["/home/dev/app (1)", "/srv/Project X1", "C:\\Users\\dev\\app (1)", "/app", "~/x 2/y#3"]
)
def test_names_of_places_never_hold_secrets(tmp_path_factory: pytest.TempPathFactory, name: str, place: str) -> None:
    """Neither in the sidecar's own environment nor in what a session shows of another one's."""
    cache = tmp_path_factory.getbasetemp()
    redactor = Redactor(cache_dir=cache, environ={name: place, "API_TOKEN": "zx81-kk3jd93kd"})
    event = {"v": 1, "directory": place, "worktree": place, "input": {"text": f"cd '{place}' && ls"}}
    line = json.dumps(event).encode()
    assert redactor.line(line).line == line
    for text in (f"{name}='{place}'\n", f'export {name}="{place}"\n', json.dumps({name: place})):
        assert redact_text(text) == text


def test_a_value_under_pwd_that_is_no_place_is_a_password() -> None:
    """As connection strings have it."""
    assert "hunter2x9" not in redact_text("Server=db1;Database=shop;UID=sa;PWD=hunter2x9;")


def test_a_value_that_another_setting_follows_is_no_type() -> None:
    """Lines that were joined to one: `password: value client = Client()` has the form of a typed assignment."""
    value = drawn("<<alnum 11>>")
    assert value not in redact_text(f"DB_HOST=db1 password: {value} client = Client(1)")


def test_of_two_secrets_that_overlap_no_byte_is_left() -> None:
    """The tail of the one is the head of the other."""
    head, tail = drawn("sk-proj-<<alnum 24>>"), drawn("-eyJhbGciOiJIUzI1NiJ9.eyJ<<alnum 20>>.<<url 30>>")
    masked = redact_text(f"see {head}{tail} now")
    assert masked.startswith("see [REDACTED:")
    assert masked.endswith("] now")
    assert masked.count("[") == 1


def test_values_that_only_an_exported_rule_knows_are_masked() -> None:
    """The rules bundled with kingfisher are in use."""
    value = drawn("p8e-<<lower 32>>")
    assert redact_text(f"see {value} now") == "see [REDACTED:adobe-client-secret] now"


def test_a_secret_that_comes_several_times_is_counted_once(redactor: Redactor) -> None:
    """What is counted are secrets, not where they stand."""
    token = drawn("ghp_<<alnum 36>>")
    other = drawn("ghp_<<alnum 36>>", seed=9)
    line = json.dumps(
        {"v": 1, "input": {"a": token, "b": f"{token} {token}", "c": json.dumps([token, other])}}
    ).encode()
    assert json.loads(redactor.line(line).line)["redacted"] == {"github-token": 2}


@pytest.mark.parametrize(
    "text",
    [
        "Password:\n{}\n",
        "The login is bob.\n\n**Password:**\n\n  {}\n",
        "WiFi password {} works in the whole office",
        "log in with bob:{} to see it",
        "password of the VPN is {}",
        "the root password is now {}",
        "# Test users\n\n- eve:{}\n- bob:{}\n",
        "Credentials:\nbob:{}\neve:{}\n",
        "Logins\n------\nbob:{}\n",
        "docker secret create db_password - <<< {}",
        "echo 'bob:{}' | sudo chpasswd",
        "2024-01-01 00:00:00 DEBUG connect(user=bob, password={})",
    ],
)
def test_passwords_in_notes_and_histories_are_masked(redactor: Redactor, text: str) -> None:
    """On the line below, in a sentence, in a list below a heading that announces credentials, in a shell's history."""
    for value in ("maple77x", "Word1142", "s3cr3t-river"):
        assert value not in redactor.text(text.format(value, value))


@pytest.mark.parametrize(
    "text",
    [
        "password:\n  secretKeyRef:\n    name: db-1\n",
        "Password:\nbob@web01:~$ ls",
        "## Users\n\n- admin: may do everything\n- guest:read\n",
        "Accounts\n========\nroot:x:0:0:root:/root:/bin/bash\n",
        "with password sha256 of the user, and password fields",
        "use the wifi password (optional)",
        "vault kv put secret/app ttl=30m",
        "docker run --user 1000:1000 --user node:node image",
        'mkdir -p "build2x"',
        "SecretId: prod/MyTestDatabaseSecret",
        "SECRET=$(openssl rand -hex 32)",
        "session:\n  secret: ${SESSION_SECRET}\n",
    ],
)
def test_what_only_looks_like_a_note_of_a_password_stays(redactor: Redactor, text: str) -> None:
    """References, prompts, prose, and lists that map names to what is no password."""
    assert redactor.text(text) == text


@pytest.mark.parametrize(
    "arguments",
    [
        {"fields": [{"name": "Password", "type": "textbox", "ref": "e5", "value": "hunter2x"}]},
        {"element": "Password field", "ref": "e5", "text": "hunter2x"},
        {"variables": [{"key": "DB_PASSWORD", "value": "hunter2x", "protected": True}]},
        {"headers": [{"name": "x-api-key", "value": "hunter2x"}]},
        {"argv": ["tool", "--password", "hunter2x"]},
    ],
)
def test_a_member_that_names_the_password_beside_it_masks_it(redactor: Redactor, arguments: dict[str, object]) -> None:
    """In the arguments of a call, where name and value are strings of their own."""
    line = json.dumps({"v": 1, "input": {"args": arguments}}).encode()
    masked = redactor.line(line).line
    assert b"hunter2x" not in masked
    assert redactor.stored(masked) == masked


@pytest.mark.parametrize(
    "arguments",
    [
        {"fields": [{"name": "password", "type": "string"}, {"name": "user", "value": "marble99"}]},
        {"fields": [{"name": "password", "value": "${PASSWORD}"}, {"label": "Password", "value": ""}]},
        {"settings": [{"key": "cache_key", "value": "abc123def4"}]},
        {"argv": ["tool", "--password", "--verbose"]},
    ],
)
def test_a_member_beside_another_object_s_name_stays(redactor: Redactor, arguments: dict[str, object]) -> None:
    """And references, flags, and what no name announces."""
    line = json.dumps({"v": 1, "input": {"args": arguments}}).encode()
    assert redactor.line(line).line == line
