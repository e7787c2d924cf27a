"""How often the ranges and `blame` are right, in simulated sessions: `python -m tests.benchmarks.attribution`.

Random sessions on real source files through a real OpenCode with a scripted model, a person's edits and git in between;
the simulator (tests/simulator) knows of every line who wrote it. The same seed gives the same operations.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.simulator import situations
from tests.simulator.acts import acting
from tests.simulator.blamed import score_blame
from tests.simulator.kept import KEPT
from tests.simulator.report import as_json, blame_table, table
from tests.simulator.score import Claims, score_ranges
from tests.simulator.setting import fast_stage, real_stage
from tests.simulator.situation_score import Score, played, situation_table, together
from tests.simulator.variants import VARIANTS
from tests.support.postgres import guarded_folder, open_servers


def main() -> int:
    """Simulate on each major version, print the tables, write the figures."""
    options = _options()
    scores: dict[str, Score] = {}
    figures: dict[str, Any] = {"seed": options.seed, "sessions": options.sessions, "operations": options.operations}
    for major in options.majors:
        if options.sessions:
            figures[f"OpenCode {major}"], scores[f"random {major}"] = _random_sessions(major, options)
        if options.rounds:
            scores[f"situations {major}"] = _situations(major, options)
    print(f"\nAll generators together: `blame` at the end\n{situation_table(scores)}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _random_sessions(major: int, options: argparse.Namespace) -> tuple[dict[str, Any], Score]:
    """Play random sessions on one OpenCode, and print what was right."""
    with open_servers() as servers, servers.database(migrated=True) as url, guarded_folder() as folder:
        began = time.monotonic()
        make = fast_stage(url, Path(folder), options.seed, options.sessions)
        with make if options.fast else real_stage(url, options.seed, options.sessions, major) as stage:
            for play in stage.plays:
                play.run(options.operations)
                print(f"OpenCode {major}, {play.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
            stage.finish()
            tallies, findings = score_ranges(stage.plays, Claims.stored(url))
            score = score_blame(url, stage.plays)
    operations = options.sessions * options.operations
    print(f"\nOpenCode {major}: {operations} operations in {options.sessions} projects, seed {options.seed}\n")
    print(table("Ranges at the time of the edit", tallies))
    print("\n" + blame_table(score))
    print("\n".join([*(finding.text() for finding in findings), *score.findings][: options.show]), flush=True)
    return as_json(tallies, score), score.whole


def _situations(major: int, options: argparse.Namespace) -> Score:
    """Play situations on one OpenCode, and print a row for each."""
    known = (*(situations.FIRST if major == 1 else situations.BOTH), *VARIANTS, *KEPT)
    chosen = [one for one in known if not options.only or one.__name__ in options.only]
    scores: dict[str, Score] = {}
    findings: list[str] = []
    with open_servers() as servers, servers.database(migrated=True) as url, acting(major, url) as acts:
        for one in chosen:
            found, wrong = played(acts, options.seed, options.rounds, [one])
            scores |= found
            findings += wrong
            print(f"OpenCode {major}: {one.__name__}", *wrong, sep="\n  ", file=sys.stderr)
    print(f"\nSituations on OpenCode {major}, {options.rounds} of each, seed {options.seed}\n{situation_table(scores)}")
    print("\n".join(findings[: options.show]), flush=True)
    return together(scores.values())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--majors", type=int, nargs="*", default=(1, 2), help="versions of OpenCode (both)")
    parser.add_argument("--operations", type=int, default=50, help="in each project (%(default)s)")
    parser.add_argument("--sessions", type=int, default=8, help="projects (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each situation (%(default)s)")
    parser.add_argument("--only", nargs="*", default=(), help="names of situations; all without it")
    parser.add_argument("--fast", action="store_true", help="without OpenCode: the simulator does the calls itself")
    parser.add_argument("--show", type=int, default=0, help="how many wrong results to print")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
