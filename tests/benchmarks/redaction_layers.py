"""What each layer of the redaction finds, and what it costs: the layers switched on one after another.

Prints recall on the forms of our own (and on the corpora of a folder, JSON lines of id, text, secret, kind), spans in
text without secrets, and how fast new text is scanned by then, in processor time.
"""

import itertools
import json
import random
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent_trace_sidecar.redaction import kingfisher, rules
from agent_trace_sidecar.redaction.detectors import DETECTORS
from agent_trace_sidecar.redaction.scanner import Scanner
from agent_trace_sidecar.redaction.spans import Effort, applied, by_line, merged
from tests.benchmarks.redaction_blind_forms import blind_forms
from tests.benchmarks.redaction_corpora import Case, cases, is_masked, of_file
from tests.benchmarks.redaction_later_forms import later_forms
from tests.benchmarks.redaction_positions import positions
from tests.benchmarks.redaction_tool_forms import tool_forms
from tests.benchmarks.redaction_unknown_services import unknown_services

_SEED: Final = 21


def _layers() -> Iterator[tuple[str, Scanner]]:
    """Each layer with all before it."""
    exported = kingfisher.export(None)
    own = rules.known().rules
    yield "exported rules", Scanner(exported, {}, readings=False)
    yield "+ own rules", Scanner([*own, *exported], {}, readings=False)
    for count in range(1, len(DETECTORS) + 1):
        detectors = dict(itertools.islice(DETECTORS.items(), count))
        yield f"+ {[*detectors][-1]}", Scanner([*own, *exported], detectors, readings=False)
    yield "+ other readings", Scanner([*own, *exported])


def corpora(folder: str | None) -> dict[str, list[Case]]:
    """The forms of our own, and the corpora of a folder."""
    rng = random.Random(_SEED)  # noqa: S311 - made-up secrets
    forms = (later_forms, blind_forms, positions, tool_forms, unknown_services)
    own = [*cases(each=1), *(Case(*case) for make in forms for case in make(rng, each=1))]
    found = {"our own forms": own}
    for path in sorted(Path(folder).glob("*.jsonl")) if folder else ():
        found[path.stem] = of_file(path)
    return found


def masked(scanner: Scanner, text: str) -> str:
    """The text with labels, scanned once."""
    raw = text.encode()
    spans = merged(by_line(raw, scanner.find(raw, Effort(len(raw)))))
    return applied(raw, spans).decode("utf-8", "replace")


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1]


def share_masked(scanner: Scanner, corpus: list[Case], *, escaped: bool = False) -> float:
    """The share of the corpus' secrets that are masked."""
    pairs = [(_escaped(c.text), _escaped(c.secret)) if escaped else (c.text, c.secret) for c in corpus]
    return sum(is_masked(secret, masked(scanner, text)) for text, secret in pairs) / len(corpus)


def clean_texts() -> list[str]:
    """Text without secrets: a third of the standard library's modules."""
    return [p.read_text("utf-8", "replace") for p in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[::3]]


def main(folder: str | None = None) -> None:
    """Print the table."""
    sets = corpora(folder)
    sources = clean_texts()
    size = sum(map(len, sources)) / 1e6
    print("| layer | " + " | ".join(sets) + " | escaped once | spans in clean text per MB | MB/s |")
    print("|---|" + "---|" * (len(sets) + 3))
    for name, scanner in _layers():
        found = [f"{share_masked(scanner, corpus):.3f}" for corpus in sets.values()]
        found.append(f"{share_masked(scanner, next(iter(sets.values())), escaped=True):.3f}")
        for _ in range(2):  # the first compiles the patterns
            start = time.process_time()
            spans = sum(len(scanner.find(text.encode())) for text in sources)
            speed = size / (time.process_time() - start)
        print(f"| {name} | {' | '.join(found)} | {spans / size:.1f} | {speed:.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:2])
