"""The examples of property tests: on CI the same ones in each run, everywhere else new ones.

A failure on CI is then the change's and not the draw's. How long an example takes says something about the machine's
other work, not about what is tested: no example has a deadline, and none is too slow to make.
"""

from hypothesis import HealthCheck, settings
from hypothesis.internal import constants_ast
from hypothesis.internal.conjecture import providers


def load_profile(*, ci: bool) -> None:
    """Set what holds for every property test of this process."""
    quiet = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("local", quiet)
    settings.register_profile("ci", quiet, derandomize=True, max_examples=100, database=None)
    settings.load_profile("ci" if ci else "local")
    if ci:
        # Constants of the modules that are loaded would be drawn, too: which they are depends on the tests that ran.
        constants = constants_ast.Constants()
        vars(providers)["_get_local_constants"] = lambda: constants
