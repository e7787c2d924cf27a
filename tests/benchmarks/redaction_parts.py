"""What each part of the redaction earns: the points of recall that go when it is switched off, for its lines.

A part that holds back what is no secret earns texts that stay: of the lists of decisions the rows that say no are
switched off, and the texts without secrets that change are counted. Each part in a process of its own, by fork.
"""

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from agent_trace_sidecar.redaction import decoders, judge, kingfisher, rules, scanner
from agent_trace_sidecar.redaction.detectors import DETECTORS
from agent_trace_sidecar.redaction.scanner import Scanner
from tests.benchmarks.redaction_blind_forms import blind_harmless
from tests.benchmarks.redaction_harmless import HARMLESS
from tests.benchmarks.redaction_layers import clean_texts, corpora, masked, share_masked
from tests.benchmarks.redaction_tool_forms import tool_harmless
from tests.unit.redaction.test_recall import HARMLESS as LOOKALIKES

_ENGINE: Final = Path(rules.__file__).parent
_NO: Final = ("no", "none", "NONE", "")
"""What rows say that hold something back."""
_Switch = Callable[[], object]


def _lines(*names: str) -> int:
    return sum(len((_ENGINE / name).read_text("utf-8").splitlines()) for name in names)


def _without_brakes(part: str) -> None:
    rows = rules.known().decisions[part]
    rows[:] = [row for row in rows if row.get("form", "no") not in _NO]


def _parts() -> Iterator[tuple[str, int, _Switch]]:
    """Each part, its lines, and what switches it off."""
    yield "nothing", _lines(*(str(path.relative_to(_ENGINE)) for path in _ENGINE.rglob("*.py"))), int
    exported = _lines("kingfisher.py", "data/kingfisher.toml")
    yield "exported rules", exported, partial(setattr, kingfisher, "export", lambda _: [])
    data = [f"data/{name}.toml" for name in ("calls", "commands", "config_lines", "structures", "tokens")]
    yield "own rules (data)", _lines(*data), rules.known().rules.clear
    for name in DETECTORS:
        source = "key_blocks.py" if name == "key blocks" else f"detectors/{name}.py"
        yield name, _lines(source), partial(cast("dict[str, object]", DETECTORS).pop, name)
    yield "other readings", _lines("decoders.py"), partial(setattr, Scanner, "_inner", lambda *_: ())
    for name in decoders.KINDS:
        yield f"- {name}", 0, partial(decoders.KINDS.pop, name)
    yield "- base64, hex", 0, partial(setattr, decoders, "encoded", lambda _: ())
    model = _lines("randomness.py", "data/judge.toml")
    yield "the model of randomness", model, partial(setattr, judge, "odds", lambda _: 0.0)
    filtered = partial(setattr, scanner, "without_samples", lambda _, spans: spans)
    yield "samples, ciphertext", _lines("filters.py"), filtered
    for part, rows in rules.known().decisions.items():
        if brakes := sum(row.get("form", "no") in _NO for row in rows):
            yield f"rows that say no: {part}", brakes, partial(_without_brakes, part)


def _measured(folder: str | None, switch: _Switch) -> dict[str, Any]:
    """Recall by corpus, texts without secrets that change, and spans in text of programs, without one part."""
    switch()
    made = Scanner([*rules.known().rules, *kingfisher.export(None)])
    rng = random.Random(5)  # noqa: S311 - texts without secrets
    harmless = [*HARMLESS, *LOOKALIKES, *blind_harmless(rng), *tool_harmless(rng)]
    found = {name: share_masked(made, corpus) for name, corpus in corpora(folder).items()}
    found["escaped once"] = share_masked(made, next(iter(corpora(None).values()))[::3], escaped=True)
    changed = sum(masked(made, text) != text for text in harmless)
    return {"found": found, "changed": changed, "spans": sum(len(made.find(text.encode())) for text in clean_texts())}


def _in_a_fork(folder: str | None, switch: _Switch) -> dict[str, Any]:
    inlet, outlet = os.pipe()
    if (child := os.fork()) == 0:
        os.write(outlet, json.dumps(_measured(folder, switch)).encode())
        os._exit(0)
    os.close(outlet)
    with os.fdopen(inlet, "rb") as pipe:
        answer: dict[str, Any] = json.loads(pipe.read())
    os.waitpid(child, 0)
    return answer


def main(folder: str | None = None) -> None:
    """Print the table."""
    rules.known()
    whole: dict[str, Any] = {}
    for name, lines, switch in _parts():
        now = _in_a_fork(folder, switch)
        if not whole:
            whole = now
            print("| without | lines | " + " | ".join(now["found"]) + " | harmless texts changed | spans in programs |")
            print("|---|" + "---|" * (len(now["found"]) + 3))
        change = [f"{100 * (score - whole['found'][key]):+.1f}" for key, score in now["found"].items()]
        if now is whole:
            change = [f"{100 * score:.1f}" for score in now["found"].values()]
        print(f"| {name} | {lines or ''} | {' | '.join(change)} | {now['changed']} | {now['spans']} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
