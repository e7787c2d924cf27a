"""What a test needs of the machine: had before the tests start, or the test is left out and the summary says so.

A test names what it needs by `@pytest.mark.needs("svn")` or by a fixture of FIXTURES. With CI=true a machine that has
not everything is an error.
"""

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import pytest

from tests.support import debian

FIXTURES: Final = {"browser": ("chromium",), "image": ("buildah", "mmdebstrap", "runc")}
"""What a test needs that uses the fixture."""


def _opencode2() -> str:
    machine = f"{platform.system()} on {platform.machine()}"
    return "" if machine in ("Linux on x86_64", "Linux on AMD64") else f"it is not published for {machine}"


def _apt() -> str:
    return "" if debian.find("apt-get") and os.geteuid() == 0 else "it takes Debian, and root"


_OTHERS: Final[dict[str, Callable[[], str]]] = {"apt-get": _apt, "OpenCode 2": _opencode2}
"""Beside Debian's programs: why it is not to be had here, or nothing."""


def on_ci() -> bool:
    """Whether this machine must be able to run every test."""
    return os.environ.get("CI", "").lower() in ("true", "1")


def of(item: pytest.Item) -> set[str]:
    """What a test needs."""
    marked = {name for mark in item.iter_markers("needs") for name in mark.args}
    fixtures = getattr(item, "fixturenames", ())
    return marked.union(*(FIXTURES[name] for name in FIXTURES if name in fixtures))


def unmet(names: Iterable[str]) -> dict[str, str]:
    """Install what can be installed; what is still missing, and why."""
    names = set(names)
    reasons = {name: reason for name in names & _OTHERS.keys() if (reason := _OTHERS[name]())}
    programs = names - _OTHERS.keys()
    try:
        debian.install(programs)
    except debian.CannotInstallError as error:
        reasons |= {name: str(error) for name in programs if not debian.find(name)}
    return reasons


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Deselect the tests whose needs are not met; a line for each reason.

    Raises:
        pytest.UsageError: there are such tests, and CI=true.
    """
    needs = {item: wanted for item in items if (wanted := of(item))}
    reasons = unmet(set().union(*needs.values()))
    out = {item: sorted(wanted & reasons.keys()) for item, wanted in needs.items() if wanted & reasons.keys()}
    numbers = Counter((", ".join(missing), reasons[missing[0]]) for missing in out.values())
    lines = [f"left out: tests that need {what}: {number} ({why})" for (what, why), number in sorted(numbers.items())]
    if lines and on_ci():
        raise pytest.UsageError("CI=true demands every test:\n" + "\n".join(lines))
    items[:] = [item for item in items if item not in out]
    if out:
        config.hook.pytest_deselected(items=list(out))
    return lines
