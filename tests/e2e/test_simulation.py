"""A bounded run of the simulator against floors; `make bench-attribution` prints the whole table."""

from pathlib import Path

import pytest

from tests.simulator.blamed import score_blame
from tests.simulator.lines import HUMAN, Tally
from tests.simulator.report import blame_table, table, total
from tests.simulator.score import Claims, score_ranges
from tests.simulator.setting import Stage, fast_stage, real_stage
from tests.support.majors import MAJORS


def reaches(tally: Tally, precision: float, recall: float) -> bool:
    """Whether there were lines, and both shares are as high as these."""
    return tally.right > 0 and (tally.precision or 0) >= precision and (tally.recall or 0) >= recall


def assert_floors(url: str, stage: Stage) -> None:
    """Hold what is stored, and what blame answers, against the truth."""
    ranges, findings = score_ranges(stage.plays, Claims.stored(url))
    blame = score_blame(url, stage.plays)
    figures = "\n".join([table("ranges", ranges), *(finding.text() for finding in findings)])
    bash = ranges.pop("bash", Tally())
    assert reaches(bash, 0.99, 0.99), figures
    assert reaches(total(ranges), 0.998, 0.998), figures
    answers = "\n".join([blame_table(blame), *blame.findings])
    assert reaches(blame.ai, 0.998, 0.98), answers
    human = blame.by_author[HUMAN]
    assert blame.ai.wrong <= 0.001 * human.right, answers
    assert (human.unknown_share or 0) <= 0.01, answers


@pytest.mark.parametrize("major", MAJORS)
def test_ranges_and_blame_are_right_with_a_real_opencode(migrated_url: str, major: int) -> None:
    """Random calls of a model, a person's edits and rewrites of history."""
    with real_stage(migrated_url, seed=1, sessions=1, major=major) as stage:
        stage.plays[0].run(30)
        stage.finish()
        assert_floors(migrated_url, stage)


def test_they_are_right_in_two_projects_without_opencode(migrated_url: str, tmp_path: Path) -> None:
    """The same, with calls that the simulator does itself."""
    with fast_stage(migrated_url, tmp_path, seed=2, sessions=2) as stage:
        for play in stage.plays:
            play.run(50)
        stage.finish()
        assert_floors(migrated_url, stage)
