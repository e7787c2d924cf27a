"""What a sidecar loads before it takes its first line: OpenCode starts beside it."""

import subprocess
import sys

import pytest

_AT_NEED = (
    "structlog",
    "rich",
    "sqlite3",
    "pygments",
    "shtab",
    "kingfisher",
    "agent_trace_sidecar.postgres.embedded",
)


@pytest.fixture(name="loaded", scope="module")
def _loaded() -> set[str]:
    """The modules that `run` loads."""
    imports = "from agent_trace_sidecar.commands import run; from agent_trace_sidecar.telemetry import logging"
    code = f"import sys; {imports}; logging.logger(); print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("module", _AT_NEED)
def test_what_few_runs_need_is_loaded_by_those(loaded: set[str], module: str) -> None:
    """Each costs some of the time that a start may take."""
    assert module not in loaded


def test_the_stages_are_loaded(loaded: set[str]) -> None:
    """Else the test above would say nothing."""
    assert {"agent_trace_sidecar.pipeline.intake", "agent_trace_sidecar.redaction.scanner", "asyncpg"} <= loaded


def test_help_loads_no_settings_and_no_command() -> None:
    """It answers while a person still looks at the key."""
    code = "import sys; from agent_trace_sidecar import cli; cli._parser([]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "agent_trace_sidecar.cli" in loaded
    assert not loaded & {"typing", "msgspec", "asyncio", "asyncpg", "agent_trace_sidecar.config"}


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [
        ("status", ("redaction", "pipeline", "records.build", "opencode.v1", "postgres.sink", "workspace")),
        ("blame", ("redaction", "pipeline", "records.build", "opencode.v1", "postgres.sink", "workspace.observer")),
        ("stats", ("redaction", "pipeline", "records.build", "commands.range_stats", "workspace.observer")),
    ],
)
def test_a_hand_tool_loads_no_stage_of_the_pipeline(command: str, unneeded: tuple[str, ...]) -> None:
    """Each of them costs as much as all else that the command does."""
    lazily = "import agent_trace_sidecar.commands.stored_sessions; " if command == "status" else ""
    code = f"import sys; {lazily}import agent_trace_sidecar.commands.{command}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert {f"agent_trace_sidecar.commands.{command}", "asyncpg"} <= loaded
    assert not loaded & {"rich", *(f"agent_trace_sidecar.{name}" for name in unneeded)}


@pytest.mark.parametrize("command", ["init", "validate"])
def test_a_command_without_a_database_loads_no_driver(command: str) -> None:
    """It takes eight times as long to load as Python to start."""
    code = f"import sys; import agent_trace_sidecar.commands.{command}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "agent_trace_sidecar.config" in loaded
    assert not loaded & {"asyncpg", "asyncio", "jsonschema", "rich"}
