"""Tokens of services that no table knows: the names are invented anew for every draw, and so are the values.

What has to give them away is the form around them. Forms are written as in `redaction_forms`; `{p}` is the invented
name, `{P}` the same with a capital, `{U}` in capitals.
"""

# ruff: noqa: E501 - a form is read as one line

import random
from collections.abc import Iterator
from typing import Final

from tests.benchmarks.redaction_forms import MAKERS

FORMS: Final = {
    "unknown, named": (
        "T|{p}_key = {}",
        'H|{p}ApiKey: "{}"',
        "T|{p} token = '{}'",
        "O|{U}_TOKEN={}",
        "H|export {U}_API_KEY={}",
        "t|{p}.api.key={}",
        "U|{p}_client_id = {}\n{p}_client_secret = 8Q~x",
        'T|<add key="{P}AuthToken" value="{}" />',
        'S|{p}: {{ apiKey: "{}" }}',
        "T|--{p}-token {}",
        'H|let {p}Secret = "{}";',
        'T|{{"{p}": {{"access_token": "{}"}}}}',
        "T|{p} access token\n{}",
        "H|{p} api key:\n\n    {}\n",
        "T|Your {P} API key is {} and must not be shared.",
        "H|// {p} api key\nconst k = '{}';",
        "T|[DEBUG] {p}: using key {} for request",
        "T|# {P} credentials\nurl = https://{p}.com\nvalue = {}",
        "O|{p}-secret - '{}'",
        "S|{p} secret {}",
    ),
    "unknown, beside": (
        "H|{p}: {}",
        "T|{p} = '{}'",
        'T|{p} = "{}"',
        "T|{p}: '{}'",
        'H|"{p}": "{}"',
        "U|{p} = {}",
        "T|{p} {}",
        "O|{p} - {}",
        "T|{U}={}",
        'H|export {U}="{}"',
        't|{{"name": "{p}", "value": "{}"}}',
        "T|// {p}\nconst x = '{}'",
        "T|# {p}\n{}",
        "H|{p}\n{}",
        "t|<{p}>{}</{p}>",
        "U|{p} id: {}",
        "H|{p}_id = '{}'",
        "t|{p} user: bob@example.org\n{p} pass: {}",
        "H|{p}|{}",
        "O|{p},{}",
    ),
    "unknown, used": (
        "T|{p} = {P}Client('{}')",
        'O|client := {p}.NewClient("{}")',
        "H|const {p} = require('{p}')('{}');",
        't|{P}.configure("{}")',
        "T|{p}.setApiKey('{}')",
        "H|{p}.authenticate(\"bob\", '{}')",
        'O|req.Header.Set("X-{P}", "{}")',
        'T|req.Header.Add("{p}-auth", "{}")',
        'T|headers = {{"X-{P}-Key": "{}"}}',
        'U|headers: {{ "{p}-appid": "{}" }}',
        "H|curl -H 'X-{P}-Id: {}' https://api.{p}.com/v2/items",
        "T|curl -H 'Authorization: Token token={}' https://{p}.com",
        'H|curl "https://api.{p}.com/v1/items?api_key={}"',
        "t|curl https://api.{p}.com/v1/items?auth={}&limit=2",
        "T|curl https://api.{p}.io/{}/me",
        "T|https://hooks.{p}.com/services/{}",
        "O|https://{p}.com/webhook/{}",
        "H|https://api.{p}.com/v1/search?q=x&appid={}",
        "H|GET /v1/items?apikey={} HTTP/1.1\nHost: api.{p}.com",
        "T|POST /login HTTP/1.1\nHost: {p}.com\nX-{P}-Auth: {}\n\n",
        "T|[INFO] Sending request to the {p} API\n[DEBUG] Using Key={}\n[INFO] Response received: 200 OK",
        "U|[INFO] Calling {p}\n[DEBUG] Using ID={}\n[INFO] done",
        "T|<credential>\n  <id>{p}</id>\n  <secret>{{AQAAABAAA {}}}</secret>\n</credential>",
        'T|func main() {{\n\turl := "https://api.{p}.com/v1/resource"\n\tsecret := "{}"\n\treq, err := http.NewRequest("GET", url, http.NoBody)\n}}',
        'H|url = "https://api.{p}.com/v1"\nr = requests.get(url, auth=("bob", "{}"))',
        'T|requests.get("https://api.{p}.com", headers={{"key": "{}"}})',
        'T|resp = requests.post("https://{p}.com/api", params={{"app": "{}"}})',
        "U|{p} = {P}(app_id='{}')",
        'H|new {P}("{}", "https://{p}.com")',
        "T|{P}::Client.new('{}')",
        'T|let client = {P}Client::new("{}".to_string());',
        'T|{P}Client client = new {P}Client("{}");',
        'H|var {p} = new {P}.Api("bob", "{}");',
        "T|$client = new \\\\{P}\\\\Client('{}');",
        "T|{p} login bob {}",
        'O|[{p}]\nendpoint = https://{p}.com\nuser = bob\nvalue = "{}"',
        "O|- name: {U}\n  value: {}",
        "T|env:\n  - {U}: {}",
        "H|[{p}]\nusername = bob\nsid = {}",
        'T|"env": {{"{U}": "{}"}}',
    ),
}


def unknown_services(rng: random.Random, *, each: int) -> Iterator[tuple[str, str, str]]:
    """Kind, text and secret of every form with `each` different values and names."""
    yield from drawn_from(FORMS, rng, each)


def drawn_from(table: dict[str, tuple[str, ...]], rng: random.Random, each: int) -> Iterator[tuple[str, str, str]]:
    """Kind, text and secret of every form of a table."""
    for kind, forms in table.items():
        for form in forms:
            maker, _, template = form.partition("|")
            for _ in range(each):
                secret, name = MAKERS[maker](rng), invented(rng)
                text = template.replace("{p}", name).replace("{P}", name.capitalize()).replace("{U}", name.upper())
                yield kind, text.format(*[secret] * text.count("{}")), secret


def invented(rng: random.Random) -> str:
    """A name such as companies have: two or three syllables, and often a word of the trade."""
    syllables = "".join(rng.choice("bcdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.choice((2, 2, 3))))
    return syllables + rng.choice(
        ("", "", "ly", "io", "r", "x", "hub", "cloud", "mail", "pay", "api", "desk", "base", "sms")
    )
