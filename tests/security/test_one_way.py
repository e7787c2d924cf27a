"""There is one way to read, write, start, query and print: what goes around it shows here, with the reason it may."""

import ast
from collections.abc import Iterator
from pathlib import Path

import agent_trace_sidecar

PACKAGE = Path(agent_trace_sidecar.__file__).parent
MODULES = {"subprocess", "multiprocessing", "sqlite3", "pty", "pickle", "shelve", "marshal"}
CALLS = {
    "open",
    "fdopen",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "mkdir",
    "makedirs",
    "mkstemp",
    "mkdtemp",
    "NamedTemporaryFile",
    "which",
    "system",
    "popen",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "posix_spawn",
    "execv",
    "execve",
    "execvp",
    "connect_read_pipe",
}
ONE_WAY = {"limits/files.py", "limits/processes.py", "limits/sqlite.py"}
ALLOWED = {
    # our own names of methods
    ("workspace/observer.py", "open"): "a step is opened",
    ("workspace/recalled.py", "open"): "as above; a call begins",
    ("opencode/store.py", "sqlite3"): "the names of errors and rows; `limits.sqlite` connects",
    ("workspace/checkout.py", "subprocess"): "the type of what `processes.piped` returns",
    ("commands/replay_jobs.py", "subprocess"): "as above",
    # what we carry ourselves
    ("commands/init.py", "read_text"): "the shim in this installation",
    ("postgres/migrate.py", "read_text"): "the migrations in this installation",
    ("report/page.py", "read_text"): "the style sheet in this installation",
    ("blame/boilerplate.py", "read_text"): "the list of common lines in this installation",
    ("commands/validate.py", "read_text"): "the schema in this installation",
    ("redaction/rules.py", "read_text"): "the rules in this installation",
    ("redaction/rules.py", "read_bytes"): "as above",
    ("commands/demo.py", "read_bytes"): "the recordings in this installation",
    # what a pager reads: made by O_EXCL under a random name, mode 0600
    ("commands/output.py", "NamedTemporaryFile"): "the text for the user's pager, escaped before",
    # null devices and folders to be synced
    ("cli.py", "open"): "/dev/null in the place of closed descriptors",
    ("spool/segments.py", "open"): "our own spool, in a folder that is ours alone",
    ("spool/spool.py", "open"): "as above",
    ("spool/folders.py", "open"): "as above, its lock",
    ("postgres/embedded/server.py", "open"): "our own log, lock and folder, in a folder that is ours alone",
    ("postgres/embedded/server.py", "mkdir"): "as above",
    # files that are followed or replayed: they are as large as they are, and read piece by piece
    (
        "sources/tail.py",
        "open",
    ): "non-blocking; no link that was only found; what is no regular file is left out before",
}


def uses(tree: ast.AST) -> Iterator[str]:
    """Names of what a module imports or calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names if alias.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in MODULES:
                yield str(node.module)
            yield from (alias.name for alias in node.names if alias.name in CALLS)
        elif isinstance(node, ast.Call):
            called = node.func
            name = (
                called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
            )
            if name in CALLS:
                yield name


def found() -> set[tuple[str, str]]:
    """Every use outside of the one way."""
    modules = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    return {
        (name, use)
        for name, path in modules.items()
        if name not in ONE_WAY
        for use in uses(ast.parse(path.read_text()))
    }


def test_nothing_goes_around_the_one_way() -> None:
    """A new use needs the functions of `limits`, or a line and a reason in the table above."""
    assert found() - set(ALLOWED) == set()


def test_the_table_names_nothing_that_is_gone() -> None:
    """A reason for nothing would hide the next use."""
    assert set(ALLOWED) - found() == set()


def test_the_search_finds_each_kind() -> None:
    """So that the two tests above can fail."""
    lines = (
        "import subprocess",
        "from shutil import which",
        "open(x)",
        "p.read_text()",
        "os.fdopen(0)",
        "from sqlite3 import a",
    )
    assert set(uses(ast.parse("\n".join(lines)))) == {"subprocess", "which", "open", "read_text", "fdopen", "sqlite3"}
