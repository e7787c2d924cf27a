"""`python -m tests.benchmarks`: the table of the README, measured side by side in one run on one server.

Rows go to stdout as a Markdown table, progress to stderr, all samples to the JSON file.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Final

from tests.benchmarks.harness import ROOT, Bench, Row, header, number, say
from tests.support.postgres import PostgresServers, guarded_folder

Rows = Callable[[Bench], Iterator[Row]]

GROUPS: Final = {
    "replay": "replay:rows",
    "large": "replay:large_rows",
    "jobs": "replay:jobs_rows",
    "hook": "hook:rows",
    "opencode": "opencode_run:rows",
    "latency": "latency:rows",
    "start": "start:rows",
    "commands": "commands:rows",
    "memory": "memory:rows",
    "backfill": "backfill:rows",
    "fleet": "fleet:rows",
    "blame": "blame_scale:rows",
    "figures": "figures:rows",
    "tail": "tail:rows",
}
"""Names for --only, each with where its rows are made; imported when their turn comes."""


def main() -> int:
    """Measure what is asked for, and print it."""
    arguments = _parser().parse_args()
    names = arguments.only or list(GROUPS)
    rows: list[Row] = []
    failed: list[str] = []
    with guarded_folder() as scratch:
        bench = Bench(arguments.quick, arguments.rounds, scratch, PostgresServers(scratch))
        about = header(bench)
        for name in names:
            say(f"-- {name}")
            try:
                for row in _rows(name)(bench):
                    rows.append(row)
                    say(f"{row.what}: {row.ours}, {row.beside} {row.other}, {row.ratio}")
            except (RuntimeError, AssertionError, OSError, subprocess.SubprocessError, ImportError) as exc:
                failed.append(f"{name}: {exc}")
                say(f"{name} failed: {exc}")
    print(table(about, rows))
    for failure in failed:
        print(f"\nNot measured: {failure}")
    _save(arguments.json, about, rows)
    if not arguments.only:
        _redaction(arguments.corpora)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller logs and tables: minutes instead of an hour")
    parser.add_argument("--rounds", type=int, default=5, help="of each figure (default 5)")
    parser.add_argument("--only", nargs="+", choices=sorted(GROUPS), metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--corpora", type=Path, help="folder of the redaction corpora")
    parser.add_argument("--json", type=Path, default=ROOT / ".tools" / "benchmarks.json", help="where samples go")
    return parser


def _rows(name: str) -> Rows:
    module, _, function = GROUPS[name].partition(":")
    found: Rows = getattr(import_module(f"tests.benchmarks.{module}"), function)
    return found


def table(about: dict[str, str], rows: list[Row]) -> str:
    """The rows as Markdown, below what they were measured on."""
    lines = [f"{name}: {value}  " for name, value in about.items()]
    lines += ["", "| what | ours | beside | theirs | ratio | reach | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "" if row.ratio is None else number(row.ratio)
        mark = {True: "yes", False: "no", None: ""}[row.reached]
        what = f"{row.what} ({row.note})" if row.note else row.what
        lines.append(f"| {what} | {row.ours} | {row.beside} | {row.other or ''} | {ratio} | {row.target} | {mark} |")
    return "\n".join(lines)


def _save(path: Path, about: dict[str, str], rows: list[Row]) -> None:
    """The samples of every row, to compare runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    say(f"samples: {path}")


def _redaction(corpora: Path | None) -> None:
    """The redaction's own benchmarks, where they are; each prints its own table."""
    for module in sorted(Path(__file__).parent.glob("redaction_*.py")):
        extra = [str(corpora)] if corpora else []
        subprocess.run([sys.executable, "-m", f"tests.benchmarks.{module.stem}", *extra], cwd=ROOT, check=False)


if __name__ == "__main__":
    sys.exit(main())
