"""How often the ranges and `blame` are right, in simulated sessions: `python -m tests.benchmarks.attribution`.

Random sessions on real source files through a real OpenCode with a scripted model, a person's edits and git in between;
the simulator (tests/simulator) knows of every line who wrote it. The same seed gives the same operations.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.simulator import situations
from tests.simulator.acts import acting
from tests.simulator.blamed import score_blame
from tests.simulator.report import as_json, blame_table, table
from tests.simulator.score import Claims, score_ranges
from tests.simulator.setting import fast_stage, real_stage
from tests.simulator.situation_score import Score, Situation, played, situation_table
from tests.support.postgres import guarded_folder, open_servers


def main() -> int:
    """Simulate, print the table, write the figures."""
    options = _options()
    make = fast_stage if options.fast else real_stage
    with open_servers() as servers, servers.database(migrated=True) as url, guarded_folder() as folder:
        began = time.monotonic()
        with make(url, Path(folder), options.seed, options.sessions) as stage:
            for play in stage.plays:
                play.run(options.operations)
                print(f"{play.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
            stage.finish()
            tallies, findings = score_ranges(stage.plays, Claims.stored(url))
            score = None if options.no_blame else score_blame(url, stage.plays)
    operations = options.sessions * options.operations
    print(f"{operations} operations in {options.sessions} projects, seed {options.seed}\n")
    print(table("Ranges at the time of the edit", tallies))
    if score is not None:
        print("\n" + blame_table(score))
    texts = [finding.text() for finding in findings] + (score.findings if score else [])
    print("\n".join(texts[: options.show]))
    for major, chosen in ((1, situations.FIRST), (2, situations.BOTH)) if options.rounds else ():
        _situations(major, [one for one in chosen if not options.only or one.__name__ in options.only], options)
    if options.json:
        settings = {"seed": options.seed, "sessions": options.sessions, "operations": options.operations}
        options.json.write_text(json.dumps(as_json(tallies, score, **settings), indent=2) + "\n")
    return 0


def _situations(major: int, chosen: Sequence[Situation], options: argparse.Namespace) -> None:
    """Play situations on one OpenCode, and print a row for each."""
    scores: dict[str, Score] = {}
    findings: list[str] = []
    with open_servers() as servers, servers.database(migrated=True) as url, acting(major, url) as acts:
        for one in chosen:
            found, wrong = played(acts, options.seed, options.rounds, [one])
            scores |= found
            findings += wrong
            print(f"OpenCode {major}: {one.__name__}", file=sys.stderr)
    print(f"\nSituations on OpenCode {major}, {options.rounds} of each\n{situation_table(scores)}", flush=True)
    print("\n".join(findings[: options.show]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=50, help="in each project (%(default)s)")
    parser.add_argument("--sessions", type=int, default=8, help="projects (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each situation (%(default)s)")
    parser.add_argument("--only", nargs="*", default=(), help="names of situations; all without it")
    parser.add_argument("--fast", action="store_true", help="without OpenCode: the simulator does the calls itself")
    parser.add_argument("--no-blame", action="store_true", help="only the ranges")
    parser.add_argument("--show", type=int, default=0, help="how many wrong results to print")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
