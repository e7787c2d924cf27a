"""The command line. Errors are one plain sentence; exit code 2 for wrong usage, 1 for failure.

Each command imports what it needs by itself: `run` must answer its first line within a fraction of a second.
"""

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from agent_trace_sidecar import __version__
from agent_trace_sidecar.command import PROGRAM, CommandError
from agent_trace_sidecar.config import Config, ConfigError, load
from agent_trace_sidecar.limits import GARBAGE_OBJECTS, TAIL_KEEP_S

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _guard_standard_descriptors()
    words = list(sys.argv[1:] if argv is None else argv)
    rest = words[1:] if words[:1] == ["psql"] else []  # psql's own options are not ours to understand
    arguments = _parser().parse_args(words[: len(words) - len(rest)])
    arguments.rest = rest
    gc.set_threshold(GARBAGE_OBJECTS)
    try:
        config = load(os.environ)
        command: Callable[[Config, argparse.Namespace], int] = arguments.command
        return command(config, arguments)
    except ConfigError as exc:
        return _fail(str(exc), 2)
    except CommandError as exc:
        return _fail(str(exc), exc.code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python would complain once more when it flushes stdout
        return 1
    except KeyboardInterrupt:
        return 130


def _guard_standard_descriptors() -> None:
    """Open what was closed: otherwise the first file that we open becomes our stdin or stdout."""
    for _ in range(3):
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:  # noqa: PLR2004 - stderr is the last of the three
            os.close(fd)
            return


def _fail(sentence: str, code: int) -> int:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Record OpenCode sessions into Postgres.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[Config, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=run)
        return sub

    add("run", _run, "Record what the shim sends to stdin; the shim starts this by itself.")
    sub = add("replay", _replay, "Store finished logs; a replay that was stopped goes on where it was.")
    sub.add_argument("files", metavar="FILE", type=Path, nargs="+")
    sub = add("tail", _tail, "Follow logs that others write, through rotation, until SIGTERM.")
    sub.add_argument("paths", metavar="PATH", type=Path, nargs="+", help="a folder of .jsonl files, or a file")
    sub.add_argument("--remove-shipped", action="store_true", help="remove files that are closed and stored")
    sub.add_argument(
        "--keep-seconds", metavar="N", type=float, default=TAIL_KEEP_S, help="... this long ago (%(default)s)"
    )
    sub.add_argument(
        "--worktree-root",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="read repositories below this folder only; repeatable; default: your own, for events from your own files",
    )
    add("migrate", _migrate, "Create the tables, or bring them up to date.")
    sub = add("prune", _prune, "Delete what is old, or what belongs to a session, a repository or a user.")
    which = sub.add_mutually_exclusive_group(required=True)
    which.add_argument("--older-than", metavar="AGE", help="everything older, e.g. 90d, 12w or 36h")
    which.add_argument("--session", metavar="ID", help="this session and its subagents'")
    which.add_argument("--repository", metavar="URL", help="all of this repository: its remote's URL, or a worktree")
    which.add_argument("--user", metavar="NAME", help="all that this user of the operating system recorded")
    sub.add_argument("--dedupe-older-than", metavar="AGE", help="also forget ids seen before; replays store them again")
    sub.add_argument("--dry-run", action="store_true", help="only say what would go")
    sub = add("redact", _redact, "Mask stored rows again, after the rules have improved.")
    sub.add_argument("--stored", action="store_true", required=True, help="say that stored rows shall be changed")
    sub = add("status", _status, "Say how the recording goes; exit code 1 when it does not.")
    sub.add_argument("--json", action="store_true", help="print JSON")
    _add_questions(add)
    sub = add("init", _init, "Put the shim into a project, so that OpenCode records there.")
    sub.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=Path(), help="default: this folder")
    sub = add("doctor", _doctor, "Look at everything that recording needs; exit code 1 when something is missing.")
    sub.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=Path(), help="the project's; default: this")
    sub = add("completion", _completion, "Print the completion script of a shell.")
    sub.add_argument("shell", choices=["bash", "zsh", "fish"])
    add("psql", _psql, "Open psql on the database, the embedded one kept up meanwhile; arguments are psql's.")
    add("demo", _demo, "Record a bundled log of a real session, and show what is stored.")
    return parser


def _add_questions(add: Callable[..., argparse.ArgumentParser]) -> None:
    sub = add("blame", _late("asking", "blame"), "Say for every line of a file who wrote it.")
    sub.add_argument("file", metavar="FILE", type=Path)
    sub.add_argument("--rev", metavar="REV", help="as the file was at this revision; default: as it stands")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("--include-fallback", action="store_true", help="believe ranges that are a guess")
    sub = add("export", _late("handover", "export"), "Print stored records as Agent Trace JSON lines.")
    sub.add_argument("--session", metavar="ID", help="only this session's")
    sub.add_argument("--since", metavar="TIME", help="only those recorded since this ISO 8601 time")
    sub.add_argument("--revision", metavar="REV", help="only those made at this revision (full hash)")
    sub.add_argument("--range", metavar="A..B", help="only those made at one of these revisions, or at A itself")
    sub = add(
        "dead-letters", _late("handover", "dead_letters"), "Show the lines that could not be stored, or try them again."
    )
    sub.add_argument("action", choices=["list", "retry"], nargs="?", default="list", help="default: %(default)s")
    sub.add_argument("--reason", metavar="WORD", help="only those with this reason, as `status` names it")
    sub.add_argument("--limit", metavar="N", type=int, default=50, help="how many to show, newest first (%(default)s)")
    sub.add_argument("--json", action="store_true", help="print JSON, with whole lines")
    sub = add(
        "import", _late("handover", "import_"), "Store Agent Trace files of other tools, so that blame knows them."
    )
    sub.add_argument("files", metavar="FILE", type=Path, nargs="+")
    sub.add_argument("--repository", metavar="DIR", type=Path, default=Path(), help="what they are of; default: this")
    sub = add("stats", _late("asking", "stats"), "Say what became of the AI's lines, and what they cost.")
    sub.add_argument("paths", metavar="PATH", type=Path, nargs="*", help="only these files and folders")
    sub.add_argument("--rev", metavar="REV", help="the lines that live at this revision; default: as the files stand")
    sub.add_argument("--by", choices=["model", "session", "path", "tool", "day"], default="model")
    sub.add_argument("--json", action="store_true", help="print JSON")

    sub = add(
        "report", _late("reporting", "report"), "Make an HTML file that shows who wrote what; it needs no network."
    )
    sub.add_argument("--session", metavar="ID", help="a session with its subagents, as a time line")
    sub.add_argument("--since", metavar="AGE", help="plots of a span of time, e.g. 30d; with --repo of one more")
    sub.add_argument("--repo", metavar="DIR", type=Path, help="a repository: whose its lines are, file by file")
    sub.add_argument("--rev", metavar="REV", help="... at this revision; default: as the files stand")
    sub.add_argument(
        "--path", metavar="PATH", action="append", help="... only this file or folder, from the root of it"
    )
    sub.add_argument("--output", metavar="FILE", type=Path, help="where it goes; default: a name made of what it shows")
    sub.add_argument("--metadata-only", action="store_true", help="leave out code, prompts, outputs and titles")


def _late(module: str, name: str) -> Callable[[Config, argparse.Namespace], int]:
    """A command of another module, imported when it is called."""

    def command(config: Config, arguments: argparse.Namespace) -> int:
        run: Callable[[Config, argparse.Namespace], int] = getattr(import_module(f"{__package__}.{module}"), name)
        return run(config, arguments)

    return command


# -- recording -------------------------------------------------------------------------------------------------


def _run(config: Config, _: argparse.Namespace) -> int:
    from agent_trace_sidecar import daemon, log  # noqa: PLC0415 - see the top of the file

    if not config.enabled:
        return 0

    _step_back()

    async def work() -> int:
        recording = daemon.Run(config, log.logger())
        async with recording.watched():
            return await recording.run()

    code = asyncio.run(work())
    sys.stdout = None  # nobody may read it any more: don't fail while flushing
    os._exit(code)  # a thread that waits for stdin for ever must not keep us


def _step_back() -> None:
    """Let a hook that wakes us by writing a line go on first: Linux would often give its processor to the one woken."""
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _replay(config: Config, arguments: argparse.Namespace) -> int:
    from agent_trace_sidecar import daemon, log  # noqa: PLC0415
    from agent_trace_sidecar.progress import Progress  # noqa: PLC0415
    from agent_trace_sidecar.sinks.postgres import FencedError  # noqa: PLC0415

    with closing(Progress(arguments.files)) as progress:
        try:
            done = asyncio.run(daemon.replay(config, log.logger(), arguments.files, progress.update))
        except OSError as exc:
            raise CommandError(f"{exc.filename or 'a file'} can't be read: {exc.strerror}.") from None
        except FencedError:
            raise CommandError("another replay of the same file has taken over.") from None
    for replayed in done:
        print(replayed.sentence())
    return 0


def _tail(config: Config, arguments: argparse.Namespace) -> int:
    from agent_trace_sidecar import follow, log  # noqa: PLC0415

    logger = log.logger()
    paths = arguments.paths if config.enabled else []
    if not config.enabled:  # in a pod nothing would start after a sidecar that ends
        logger.warning("recording_disabled", setting="AGENT_TRACE_ENABLED")

    async def work() -> int:
        keep_s = max(0.0, arguments.keep_seconds)
        following = follow.Follow(
            config,
            logger,
            paths,
            worktree_roots=arguments.worktree_root,
            remove_shipped=arguments.remove_shipped,
            keep_s=keep_s,
        )
        async with following.watched():
            return await following.run()

    return asyncio.run(work())


def _migrate(config: Config, _: argparse.Namespace) -> int:
    from datetime import UTC, datetime  # noqa: PLC0415

    from agent_trace_sidecar import migrate, partitions  # noqa: PLC0415

    async def work(connection: Any) -> list[str]:  # noqa: ANN401 - asyncpg is imported late
        applied = [f"applied {version}" for version in await migrate.migrate(connection)]
        made = await partitions.make_months(connection, datetime.now(UTC).date())
        return applied + [f"made {month}" for month in made.months] + made.notes

    print("\n".join(_with_database(config, work, prepare=False)) or "the tables are up to date")
    return 0


def _prune(config: Config, arguments: argparse.Namespace) -> int:
    from agent_trace_sidecar.query import pruning  # noqa: PLC0415

    try:
        asked = pruning.Asked.of(arguments)
    except ValueError as exc:
        return _fail(str(exc), 2)
    try:
        said = _with_database(config, asked.work)
    except pruning.PruneError as exc:
        raise CommandError(str(exc)) from None
    print("\n".join(said))
    return 0


def _redact(config: Config, _: argparse.Namespace) -> int:
    from agent_trace_sidecar import daemon, log  # noqa: PLC0415
    from agent_trace_sidecar.query.redact import redact_stored  # noqa: PLC0415

    if not config.redaction:
        raise CommandError("AGENT_TRACE_REDACTION is off: set it to on to mask what is stored.")
    funnel = daemon.make_funnel(config, log.logger())

    def show(table: str, rows: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{table}: {rows} rows looked at", end="\x1b[K", file=sys.stderr, flush=True)

    async def work(connection: Any) -> dict[str, int]:  # noqa: ANN401
        return await redact_stored(connection, funnel, progress=show)

    changed = _with_database(config, work)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    print("\n".join(f"{table}: {rows} rows masked" for table, rows in changed.items()))
    return 0


# -- asking ----------------------------------------------------------------------------------------------------


def _status(config: Config, arguments: argparse.Namespace) -> int:
    import msgspec  # noqa: PLC0415

    from agent_trace_sidecar import migrate, spools  # noqa: PLC0415
    from agent_trace_sidecar.daemon import SPOOL_FOLDER  # noqa: PLC0415
    from agent_trace_sidecar.query import status  # noqa: PLC0415

    async def ask(connection: Any) -> status.Stored:  # noqa: ANN401 - asyncpg is imported late
        return await status.from_database(connection, await migrate.schema_version(connection))

    stored, error = None, ""
    try:
        stored = _with_database(config, ask, prepare=False)
    except CommandError as exc:
        error = str(exc)
    root = config.state_path / SPOOL_FOLDER
    found = status.judge(_place(config), error, stored, status.from_spools(root), spools.trouble(root))
    print(msgspec.json.encode(found).decode() if arguments.json else status.as_text(found))
    return 0 if found.healthy else 1


# -- setting up ------------------------------------------------------------------------------------------------


def _init(_: Config, arguments: argparse.Namespace) -> int:
    from agent_trace_sidecar.init import InitError, init  # noqa: PLC0415

    try:
        print("\n".join(init(arguments.folder)))
    except InitError as exc:
        raise CommandError(str(exc)) from None
    return 0


def _doctor(config: Config, arguments: argparse.Namespace) -> int:
    from agent_trace_sidecar.init import PLUGIN, shim_source  # noqa: PLC0415
    from agent_trace_sidecar.query import doctor  # noqa: PLC0415

    folder = arguments.folder.resolve()
    checks = [doctor.shim(folder, PLUGIN, shim_source(), os.environ), *doctor.programs(os.environ)]
    checks += doctor.settings(enabled=config.enabled, redaction=config.redaction, log_dir=config.log_dir)
    checks += doctor.state_folder(config.state_path)
    try:
        checks += _with_database(config, doctor.database, prepare=False)
    except CommandError as exc:
        checks.append(doctor.Check("database", "wrong", f"{_place(config)}: {exc}"))
    print(doctor.as_text(checks))
    return 1 if any(check.state == "wrong" for check in checks) else 0


def _completion(_: Config, arguments: argparse.Namespace) -> int:
    from agent_trace_sidecar.completion import script  # noqa: PLC0415

    print(script(_parser(), arguments.shell))
    return 0


def _psql(config: Config, arguments: argparse.Namespace) -> int:
    import shutil  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    program = shutil.which("psql")
    if program is None:
        raise CommandError("psql is not on PATH: install PostgreSQL's client programs.")

    async def work(url: str) -> int:
        return subprocess.run([program, url, *arguments.rest], check=False).returncode  # noqa: ASYNC221

    return _with_url(config, work)


def _demo(config: Config, _: argparse.Namespace) -> int:
    from agent_trace_sidecar.demo import demo  # noqa: PLC0415

    return demo(config)


# -- the database ----------------------------------------------------------------------------------------------


def _with_url(config: Config, work: Callable[[str], Coroutine[Any, Any, T]]) -> T:
    from agent_trace_sidecar.database import with_url  # noqa: PLC0415

    return with_url(config, work)


def _with_database(config: Config, work: Callable[[Any], Coroutine[Any, Any, T]], *, prepare: bool = True) -> T:
    from agent_trace_sidecar.database import with_database  # noqa: PLC0415

    return with_database(config, work, prepare=prepare)


def _place(config: Config) -> str:
    """Where the rows go, without user and password."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    if config.database_url is None:
        return f"embedded Postgres in {config.state_path / 'postgres'}"
    parts = urlsplit(config.database_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
