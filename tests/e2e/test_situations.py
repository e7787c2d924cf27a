"""Every kind of situation where people and the AI meet, on OpenCode 1, with text and sizes drawn at random.

The same generators make the table in docs/attribution.md, which has each on both versions. Here every other one is a
test, and the rest in `test_situations_of_opencode_2.py`, which another worker plays meanwhile.
"""

from collections.abc import Iterator

import pytest

from tests.simulator.acts import Acts, acting
from tests.simulator.kept import KEPT
from tests.simulator.situation_score import Situation, assert_right
from tests.simulator.situations import FIRST
from tests.simulator.variants import VARIANTS
from tests.support.postgres import PostgresServers


@pytest.fixture(scope="module", name="acts")
def _acts(postgres_servers: PostgresServers) -> Iterator[Acts]:
    """One server for all tests of this file."""
    with postgres_servers.database(migrated=True) as url, acting(1, url) as acts:
        yield acts


@pytest.mark.parametrize("situation", [*FIRST, *VARIANTS, *KEPT][::2], ids=lambda one: one.__name__)
def test_lines_have_their_true_author_on_opencode_1(acts: Acts, situation: Situation) -> None:
    """See the situation's own description."""
    assert_right(acts, situation, "1/test")
