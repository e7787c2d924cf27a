"""Records what `demo` shows: python -m tests.support.demo_recording [FOLDER].

A real OpenCode with a scripted model works twice in a small repository, and a person adds a line. FOLDER gets the
events, each with what a sidecar observed, and the history of the repository, as `git fast-import` reads it.
"""

import sys
from pathlib import Path
from typing import Final

from tests.support.fake_model import Call, Step, fake_model
from tests.support.opencode import ROOT, SHIM, OpenCode, opencode
from tests.support.showcase import GPT, SONNET, providers

FOLDER: Final = ROOT / "tests" / "data" / "demo"
SIDECAR: Final = ROOT / "tests" / "support" / "observing_sidecar.py"
PLACE: Final = "/home/anna/shop"
"""Where the repository stands in the log; the demo puts its own folder there."""

_PRICES: Final = '''"""Prices of a shop, in cents."""


def total(prices):
    result = 0
    for price in prices:
        result += price
    return result
'''
_DISCOUNT: Final = """

def discounted(prices, percent):
    if not 0 <= percent <= 100:
        raise ValueError("no percentage")
    return total(prices) * (100 - percent) // 100
"""
_SHORTER: Final = """*** Begin Patch
*** Update File: prices.py
@@
-    result = 0
-    for price in prices:
-        result += price
-    return result
+    return sum(prices)
*** End Patch"""
_SETTINGS: Final = (
    "DATABASE_URL=postgresql://shop:mountain-Falcon-72@db.example.org/shop\nSESSION_SECRET=9f2c71d05be84ab6a3f0\n"
)


def main(folder: Path) -> None:
    """Record both sessions, and write the two files."""
    with fake_model() as model, opencode(model) as oc:
        model.usage = (2400, 180)
        oc.config["provider"] = providers(model)
        events = oc.folder / "events.jsonl"
        oc.env["AGENT_TRACE_SIDECAR"] = f"'{sys.executable}' '{SIDECAR}' '{events}'"
        for who in ("AUTHOR", "COMMITTER"):
            oc.env |= {f"GIT_{who}_NAME": "Anna", f"GIT_{who}_EMAIL": "anna@example.org"}
        project = oc.project("shop", {".gitignore": ".env\n.opencode/\n", "prices.py": _PRICES})
        oc.add_plugin(project, SHIM)
        (project / ".env").write_text(_SETTINGS)
        last = "    return result\n"
        edit = {"filePath": str(project / "prices.py"), "oldString": last, "newString": last + _DISCOUNT}
        model.script(
            "Add discounts",
            Step([Call("bash", {"command": "cat .env", "description": "Show the settings"})]),
            Step([Call("edit", edit)]),
            Step(text="There are discounts now."),
        )
        model.script(
            "Make the total shorter",
            Step([Call("apply_patch", {"patchText": _SHORTER})]),
            Step(text="The total is one line now."),
        )
        _session(oc, project, "Add discounts to the prices.", SONNET, "Discounts")
        _session(oc, project, "Make the total shorter.", GPT, "A shorter total")
        with (project / "prices.py").open("a") as file:
            file.write("\n\nprint(discounted([299, 1250], 10))\n")
        oc.git(project, "commit", "-qam", "Show an example")
        log = events.read_bytes()
        assert str(oc.folder).encode() not in log.replace(str(project).encode(), b""), "a path of this machine"
        (folder / "sessions.jsonl").write_bytes(log.replace(str(project).encode(), PLACE.encode()))
        (folder / "repository.fast-import").write_text(oc.git(project, "fast-export", "--all"))


def _session(oc: OpenCode, project: Path, prompt: str, model: str, title: str) -> None:
    oc.model.title = title
    done = oc.run(project, prompt, "--model", model)
    assert done.code == 0, done.stderr
    oc.git(project, "commit", "-qam", title)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
