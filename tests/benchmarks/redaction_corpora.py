"""Secrets of our own making, by kind: the forms are those of real files and programs, the values are drawn at random.

`cases()` gives the positives, `harmless()` the texts that must stay as they are. Run as a script it prints recall by
kind; with a folder of corpora (JSON lines of id, text, secret, kind) it prints their recall too, plain and escaped.
"""

import json
import random
import string
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from agent_trace_sidecar.redaction import redact_text
from tests.benchmarks.redaction_forms import drawn

_ALNUM: Final = string.ascii_letters + string.digits
_SEED: Final = 20_240_607


class Case(NamedTuple):
    """A text with one secret."""

    kind: str
    text: str
    secret: str


def _draw(rng: random.Random, alphabet: str, length: int) -> str:
    while True:
        value = "".join(rng.choices(alphabet, k=length))
        if any(c.isdigit() for c in value) and any(c.isalpha() for c in value):
            return value


def _password(rng: random.Random) -> str:
    return _draw(rng, _ALNUM + "!#%^*_-+", rng.randint(8, 14))


def _human(rng: random.Random) -> str:
    word = rng.choice(["sunflower", "Dragon", "monkeyking", "Letmein", "trustno", "winter", "Pa55phrase", "qwerty"])
    return word + str(rng.randint(10, 9999)) + rng.choice(["", "!", "#"])


def _token(rng: random.Random) -> str:
    return _draw(rng, _ALNUM, rng.choice([24, 32, 40]))


def _hex(rng: random.Random) -> str:
    return _draw(rng, "0123456789abcdef", rng.choice([32, 40, 64]))


def _base64(rng: random.Random) -> str:
    return _draw(rng, _ALNUM + "+/", rng.choice([40, 44, 64])) + rng.choice(["", "=", "=="])


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


_MAKERS: Final[dict[str, Callable[[random.Random], str]]] = {
    "P": _password,
    "W": _human,
    "T": _token,
    "H": _hex,
    "B": _base64,
    "U": _uuid,
}

_FORMS: Final = {
    "config": (
        "P|DB_PASSWORD={}\nDB_HOST=localhost",
        "W|export PGPASSWORD={}",
        "T|MAPBOX_API_TOKEN='{}'",
        "W|[client]\nuser=root\npassword={}\n",
        "W|password = {}\nhost = smtp.example.org\n",
        "W|spring.datasource.password={}",
        "W|db:\n  username: app\n  password: {}\n",
        'W|production:\n  password: "{}"\n  host: db1\n',
        "H|production:\n  secret_key_base: {}\n",
        "H|  config.secret_key = '{}'",
        "W|define('DB_PASSWORD', '{}');",
        "P|define( 'AUTH_KEY', '{}' );",
        "W|$dbpasswd = '{}';",
        "W|    'password' => '{}',",
        'W|"user": "deploy",\n"password": "{}",\n"port": 22',
        'B|{{"auths": {{"registry.example.org": {{"auth": "{}"}}}}}}',
        "W|AdminPassword={}",
        "W|machine api.example.org\n  login bob\n  password {}\n",
        "W|db.example.org:5432:app:bob:{}",
        "T|//registry.example.org/:_authToken={}",
        "B|_auth={}",
        "T|    oauth_token: {}",
        "T|access_key = AKIB\nsecret_key = {}",
        "W|<Pass>{}</Pass>",
        'W|<Pass encoding="base64">{}</Pass>',
        'W|<property name="connection.password" value="{}"/>',
        '|<add key="ApiKey" value="{}" />'.replace("|", "T|"),
        'W|<entry key="mail.password">{}</entry>',
        'W|  <server url="sftp://example.org" username="bob" password="{}" />',
        "W|set imap_pass='{}'",
        'W|password "{}"',
        "T|  default_token: {}",
        'T|variable "do_token" {{\n  default = "x"\n}}\ndo_token = "{}"',
        "W|requirepass {}",
        "W|Server=db1;Database=shop;User Id=app;Password={};",
        "W|jdbc:mysql://db/app?user=bob&password={}",
        'T|"apiKey": "{}"',
        'T|"client_secret": "{}"',
        "U|client_secret: {}",
        "W|+DB_PASSWORD={}",
        "W|  12: DB_PASSWORD={}",
        "W|00012| password: {}",
        "T|      - name: API_TOKEN\n        value: {}",
        "W|rclone pass = {}",
        "W|ENV MYSQL_ROOT_PASSWORD {}",
        "T|GITHUB_TOKEN: {}",
    ),
    "code": (
        'W|password = "{}"',
        "W|    self.password = '{}'",
        'P|String passwd = "{}";',
        'W|const dbPassword = "{}";',
        'T|var apiKey = "{}";',
        'T|let token: string = "{}";',
        'W|password := "{}"',
        'T|const API_SECRET: &str = "{}";',
        'W|private static final String PASSWORD = "{}";',
        'P|#define WIFI_PASSWORD "{}"',
        'W|conn = connect(host="db", user="app", password="{}")',
        'W|client.setPassword("{}");',
        'W|builder.password("{}")',
        'W|if (password == "{}") {{',
        "W|if password != '{}':",
        'W|if ("{}".equals(password)) {{',
        'W|if ("{}" == pwd) {{',
        'T|headers = {{"X-Api-Key": "{}"}}',
        "T|headers: {{ Authorization: 'Bearer {}' }}",
        "T|curl -H 'Authorization: token {}' https://api.example.org",
        "T|os.environ['API_TOKEN'] = '{}'",
        "T|api_key = os.getenv('API_KEY', '{}')",
        'T|process.env.SECRET_TOKEN || "{}"',
        'H|salt = "{}"',
        'T|nonce = "{}"',
        'H|secret_key = b"{}"',
        "T|:api_key => '{}',",
        "W|:password: {}",
        'T|apiToken <- "{}"',
        'W|(def db-password "{}")',
        'W|Password @"{}"'.replace("Password ", "NSString *password = "),
        "T|url = 'https://api.example.org/v1?api_key={}&q=1'",
        "W|engine = create_engine('postgresql://app:{}@db.example.org/app')",
        "W|mongodb+srv://root:{}@cluster0.example.net/test",
        "W|# password: {}",
        "W|// pwd: {}",
        "W|ALTER USER app WITH PASSWORD '{}';",
        "W|CREATE USER 'app'@'%' IDENTIFIED BY '{}';",
        'W|$cred = ConvertTo-SecureString "{}" -AsPlainText -Force',
        'W|new NetworkCredential("bob", "{}")',
        'W|System.setProperty("javax.net.ssl.keyStorePassword", "{}");',
        'T|"token": "{}",',
        'W|<input type="hidden" name="password" value="{}">',
        "H|encryption_key: '{}'",
        'W|passwords = ["{}"]',
        "W|{{'user': 'bob', 'pass': '{}'}}",
        'W|set_password("{}")',
        'T|signing_key = """{}"""',
        "W|ID:master,PW:{}",
        "W|login: bob / password: {}",
        "W|The password is {}",
        "W|비밀번호: {}",
    ),
    "command": (
        "W|mysql -uroot -p{} shop",
        "W|sshpass -p '{}' ssh root@10.0.0.1",
        "W|curl -u admin:{} https://example.org/api",
        "W|docker login -u bob -p {} registry.example.org",
        "T|vault login --token {}",
        "T|tool --api-key={} run",
        "W|psexec \\\\\\\\host -u admin -p {} cmd",
        "W|echo '{}' | sudo -S apt update",
        "W|redis-cli -h cache -a {} ping",
        "W|ldapsearch -x -D cn=admin -w {} -b dc=example",
        "W|openssl rsa -passin pass:{} -in k.pem",
        "W|net user bob {} /add",
        "W|git clone https://bob:{}@git.example.org/r.git",
        "W|smbclient -U bob%{} //srv/share",
        "W|mysqldump --user=root --password={} shop",
        "W|export RESTIC_PASSWORD='{}' && restic backup /",
    ),
    "nearby": (
        "T|Using access token {} for the request",
        "T|[DEBUG] Using Key={}",
        "T|your secret token is: {}",
        "H|api key {}",
        "T|acme_api_key = {}",
        "T|acme token = '{}'",
        'H|acme key: "{}"',
        "U|acme api key: {}",
        "T|Set-Cookie: session={}; Path=/",
        "T|Cookie: sid={}; theme=dark",
        "T|x-auth-token: {}",
        "T|X-Vault-Token: {}",
        "B|Authorization: Basic {}",
        "T|ACME_SECRET={}",
        "T|acme.client.secret={}",
        "B|AccountName=shop;AccountKey={};EndpointSuffix=core.windows.net",
    ),
    "hash": (
        "T|root:$6$saltsalt${}:18000:0:99999:7:::",
        "T|bob:$apr1$abcdefgh${}",
        "H|INSERT INTO users (name, password) VALUES ('bob', '{}');",
        "T|bob:{{SSHA}}{}",
        "T|password_hash = '$2y$10${}'",
    ),
}


def cases(*, each: int = 4) -> Iterator[Case]:
    """Every form with `each` different values."""
    rng = random.Random(_SEED)  # noqa: S311 - made-up secrets
    for kind, forms in _FORMS.items():
        for form in forms:
            maker, _, template = form.partition("|")
            for _ in range(each):
                secret = _MAKERS[maker](rng)
                yield Case(kind, template.format(secret), secret)
    for kind, text, secret in drawn(rng, each=each):
        yield Case(kind, text, secret)


def is_masked(secret: str, masked: str) -> bool:
    """Whether no long part of the secret is left."""
    least = max(6, len(secret) // 4) if len(secret) > 8 else len(secret)
    return not any(secret[at : at + least] in masked for at in range(len(secret) - least + 1))


def recall(found: list[tuple[str, bool]]) -> dict[str, float]:
    """The share of masked secrets by kind, and of all under "all"."""
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for kind, good in found:
        by_kind[kind].append(good)
        by_kind["all"].append(good)
    return {kind: sum(goods) / len(goods) for kind, goods in by_kind.items()}


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1]


def of_file(path: Path) -> list[Case]:
    """The positives of a corpus: JSON lines of id, text, secret, kind."""
    rows = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    return [Case(row["kind"].split(":")[0], row["text"], row["secret"]) for row in rows if row["secret"]]


def main(folder: str | None = None) -> None:
    """Print recall, plain and escaped once."""
    corpora = {"our own forms": list(cases())}
    for path in sorted(Path(folder).glob("*.jsonl")) if folder else ():
        corpora[path.stem] = of_file(path)
    for name, corpus in corpora.items():
        plain = recall([("", is_masked(c.secret, redact_text(c.text))) for c in corpus])["all"]
        escaped = recall([("", is_masked(_escaped(c.secret), redact_text(_escaped(c.text)))) for c in corpus])["all"]
        print(f"{name:32} recall {plain:.3f}  escaped {escaped:.3f}  n={len(corpus)}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
