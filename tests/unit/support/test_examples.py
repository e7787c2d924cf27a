"""The examples of property tests on CI are the same ones whatever the process has done before."""

import os
import sys
from pathlib import Path

from tests.support.waiting import completed

ROOT = Path(__file__).resolve().parents[3]
DRAW = """
from tests.support.examples import load_profile
from hypothesis import given, strategies as st

load_profile(ci=True)

@given(st.lists(st.integers() | st.floats() | st.binary() | st.text() | st.sampled_from(["a", "b"])))
def draw(values):
    print(values)

draw()
"""


def test_examples_on_ci_depend_neither_on_loaded_modules_nor_on_hashes() -> None:
    """Or a failure could be seen in one distribution of the tests to processes only."""
    drawn = set()
    for seed, imports in (("1", ""), ("2", "import agent_trace_sidecar.cli, agent_trace_sidecar.report.site\n")):
        env = os.environ | {"PYTHONHASHSEED": seed}
        done = completed([sys.executable, "-c", imports + DRAW], cwd=ROOT, env=env)
        assert done.returncode == 0, done.stderr
        drawn.add(done.stdout)
    assert len(drawn) == 1
    assert len(drawn.pop().splitlines()) == 100
