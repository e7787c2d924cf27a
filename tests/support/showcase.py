"""A repository in which a real OpenCode and a person have worked, recorded by the real sidecar; for pages to be shown.

with showcase(url) as shown:
shown.work()          # one session: edits, a subagent, a shell command, a call that fails
shown.more()          # three more of other models; for screenshots, as each takes some seconds
shown.project, shown.state
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.fake_model import Call, FakeModel, Step, fake_model
from tests.support.opencode import OpenCode, opencode
from tests.support.postgres import fetch
from tests.support.waiting import eventually

SONNET: Final = "anthropic/claude-sonnet-4-5"
GPT: Final = "openai/gpt-5-codex"
PRICES: Final = '''"""Prices of a shop, in cents."""


def total(prices):
    """All of them together."""
    result = 0
    for price in prices:
        result += price
    return result


def largest(prices):
    """The one that costs most."""
    return max(prices, default=0)
'''
DISCOUNT: Final = '''

def discounted(prices, percent):
    """The total after a discount, rounded to whole cents."""
    if not 0 <= percent <= 100:
        raise ValueError("percent must lie between 0 and 100")
    whole = total(prices)
    reduction = whole * percent // 100
    return whole - reduction


def receipt(items, percent=0):
    """A line for each item, and the total at the end."""
    lines = [f"{name:<20}{price / 100:>10.2f}" for name, price in items]
    paid = discounted([price for _, price in items], percent)
    lines.append(f"{'Total':<20}{paid / 100:>10.2f}")
    return "\\n".join(lines)


def shared(cents, people):
    """Equal shares; who comes first pays the cents that are left over."""
    if people < 1:
        raise ValueError("nobody is there to pay")
    share, left = divmod(cents, people)
    return [share + (at < left) for at in range(people)]


def change(paid, due):
    """What the customer gets back."""
    if paid < due:
        raise ValueError("that is not enough")
    return paid - due
'''
STOCK: Final = (
    '"""What is on the shelves."""\n\n\nclass Stock:\n    """Counts by article."""\n\n    def __init__(self):\n'
    '        self.counts = {}\n\n    def add(self, article, count):\n        """Put some there."""\n'
    "        self.counts[article] = self.counts.get(article, 0) + count\n\n    def take(self, article, count):\n"
    '        """Take some away, if there are enough."""\n        if self.counts.get(article, 0) < count:\n'
    '            raise LookupError(f"not enough {article}")\n        self.counts[article] -= count\n'
)
TESTS: Final = (
    "from shop.prices import discounted, largest, total\n\n\n"
    "def test_total():\n    assert total([100, 250]) == 350\n\n\n"
    "def test_largest():\n    assert largest([]) == 0\n\n\ndef test_a_discount_rounds_to_the_shop():\n"
    "    assert discounted([999], 10) == 900\n"
)
STOCK_TESTS: Final = (
    "import pytest\n\nfrom shop.stock import Stock\n\n\n"
    "def test_what_is_put_there_can_be_taken():\n    stock = Stock()\n"
    "    stock.add('tea', 3)\n    stock.take('tea', 2)\n    assert stock.counts == {'tea': 1}\n\n\n"
    "def test_more_than_there_is_is_refused():\n    with pytest.raises(LookupError):\n        Stock().take('tea', 1)\n"
)
GUIDE: Final = "# Guide\n\n" + "".join(f"{n}. {step}.\n" for n, step in enumerate(("Price", "Discount", "Receipt"), 1))
FILES: Final = {
    ".gitignore": ".opencode/\n",
    "README.md": "# Shop\n\nA small shop, to try things on.\n",
    "shop/__init__.py": "",
    "shop/prices.py": PRICES,
    "shop/web/static/site.css": "body { margin: 0; }\n",
    "LICENSE": "Do as you like.\n",
}
_COSTS: Final = {SONNET: (3, 15), GPT: (1.25, 10)}


@dataclass
class Showcase:
    """The repository and what is needed to record there."""

    oc: OpenCode
    model: FakeModel
    url: str
    project: Path

    @property
    def env(self) -> dict[str, str]:
        """For commands about this recording."""
        state = str(self.oc.folder / "state")
        return {**os.environ, "AGENT_TRACE_DATABASE_URL": self.url, "AGENT_TRACE_STATE_DIR": state}

    def command(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the program in the repository."""
        words = [sys.executable, "-m", "agent_trace_sidecar", *args]
        return subprocess.run(words, cwd=self.project, env=self.env, capture_output=True, text=True, check=False)

    def say(self, prompt: str, title: str, model: str, steps: Sequence[Step]) -> None:
        """One session; a step's marker is the prompt."""
        self.model.title = title
        self.model.script(prompt, *steps)
        ended = "SELECT count(*) AS n FROM agent_trace_events WHERE event_name = 'bye'"
        before = fetch(self.url, ended)[0]["n"]
        done = self.oc.run(self.project, prompt, "--model", model)
        assert done.code == 0, done.stderr
        eventually(lambda: fetch(self.url, ended)[0]["n"] > before, 30, "the session is stored")

    def write(self, path: str, content: str) -> Call:
        """OpenCode's write tool."""
        return Call("write", {"filePath": str(self.project / path), "content": content})

    def edit(self, path: str, old: str, new: str) -> Call:
        """OpenCode's edit tool."""
        return Call("edit", {"filePath": str(self.project / path), "oldString": old, "newString": new})

    def work(self) -> None:
        """A session, and what a person did after it."""
        end = "    return max(prices, default=0)\n"
        self.model.script("Write the tests", Step([self.write("tests/test_prices.py", TESTS)]))
        task = {"description": "Write tests", "prompt": "Write the tests", "subagent_type": "general"}
        self.say(
            "Add discounts to the price list, with tests.",
            "Discounts for the price list",
            SONNET,
            [
                Step([Call("read", {"filePath": str(self.project / "shop/prices.py")})], "I look at the prices first."),
                Step([self.edit("shop/prices.py", "no such text", "x")]),
                Step([self.edit("shop/prices.py", end, end + DISCOUNT)], "Now the discounts."),
                Step([self.edit("shop/prices.py", "whole * percent // 100", "(whole * percent + 50) // 100")]),
                Step([Call("task", task)], "A subagent writes the tests."),
                Step([Call("bash", {"command": "printf 'x = 1\\ny = 2\\n' > made.py", "description": "Make a file"})]),
                Step(
                    [Call("bash", {"command": "echo password=hunter2hunter2; false", "description": "Try to log in"})]
                ),
                Step(text="Discounts are there, rounded to whole cents, with tests."),
            ],
        )
        prices = self.project / "shop/prices.py"
        changed = prices.read_text().replace("rounded to whole cents.", "rounded half up to whole cents.")
        prices.write_text(
            changed + '\n\nif __name__ == "__main__":\n    print(receipt([("tea", 299), ("cups", 1250)]))\n'
        )

    def more(self) -> None:
        """Sessions of other models, for pages that compare."""
        self.say("Keep count of the stock.", "Counting the stock", GPT, [Step([self._patch("shop/stock.py", STOCK)])])
        self.say(
            "Make the total shorter.",
            "A shorter total",
            GPT,
            [Step([Call("apply_patch", {"patchText": _SHORTER})]), Step(text="It is one line now.")],
        )
        page = "export function price(cents) {\n  return (cents / 100).toFixed(2);\n}\n"
        self.say(
            "Show prices in the browser.",
            "Prices in the browser",
            SONNET,
            [Step([self.write("shop/web/price.js", page)])],
        )
        failing = Step([self.edit("shop/stock.py", "no such text", "x")])
        self.say("Explain how to use it.", "A guide", SONNET, [failing, Step([self.write("docs/guide.md", GUIDE)])])
        self.say(
            "Test the stock.", "Tests of the stock", GPT, [Step([self._patch("tests/test_stock.py", STOCK_TESTS)])]
        )

    def _patch(self, path: str, content: str) -> Call:
        lines = "".join(f"+{line}\n" for line in content.splitlines())
        return Call("apply_patch", {"patchText": f"*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch"})


_SHORTER: Final = """*** Begin Patch
*** Update File: shop/prices.py
@@
-    result = 0
-    for price in prices:
-        result += price
-    return result
+    return sum(prices)
*** End Patch"""


@contextmanager
def showcase(url: str) -> Iterator[Showcase]:
    """A repository with `init` done, recording into a database; nothing of it is left after the block."""
    with fake_model() as model, opencode(model) as oc:
        oc.env["AGENT_TRACE_DATABASE_URL"] = url
        oc.env["AGENT_TRACE_STATE_DIR"] = str(oc.folder / "state")
        oc.config["provider"] = providers(model)
        shown = Showcase(oc, model, url, oc.project("shop", FILES))
        oc.git(shown.project, "remote", "add", "origin", "https://git.example.com/shop.git")
        done = shown.command("init", ".")
        assert done.returncode == 0, done.stderr
        yield shown


def providers(model: FakeModel) -> dict[str, Any]:
    """The models with what they cost, in dollars for a million tokens."""
    found: dict[str, Any] = {}
    for name, (asked, answered) in _COSTS.items():
        provider, _, own = name.partition("/")
        one = found.setdefault(
            provider,
            {
                "npm": "@ai-sdk/openai-compatible",
                "options": {"baseURL": model.base_url, "apiKey": "x"},
                "models": {},
            },
        )
        limit = {"context": 100_000, "output": 4000}
        one["models"][own] = {"tool_call": True, "limit": limit, "cost": {"input": asked, "output": answered}}
    found["fake"] = {**found["anthropic"], "models": {"m1": found["anthropic"]["models"]["claude-sonnet-4-5"]}}
    return found
