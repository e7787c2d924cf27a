"""The command `prune`: what was asked for, and what is said about it."""

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Self

import asyncpg

from agent_trace_sidecar.limits import SOURCES_KEEP
from agent_trace_sidecar.partitions import make_months
from agent_trace_sidecar.query.prune import (
    Belongings,
    Gone,
    PruneError,
    erase,
    of_repository,
    of_session,
    of_user,
    prune,
)

__all__ = ["Asked", "PruneError"]

_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}


class Asked(NamedTuple):
    """What to delete."""

    older_than: timedelta | None
    gate_older_than: timedelta | None
    session: str | None
    repository: str | None
    user: str | None
    dry_run: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Self:
        """Read the command line.

        Raises:
            ValueError: it is wrong; the text is the sentence that the user sees.
        """
        older, gate = (
            _age("--older-than", arguments.older_than),
            _age("--dedupe-older-than", arguments.dedupe_older_than),
        )
        if gate is not None and (older is None or gate < older):
            raise ValueError(
                "--dedupe-older-than goes with --older-than, and is not shorter: ids outlive their events."
            )
        return cls(older, gate, arguments.session, arguments.repository, arguments.user, arguments.dry_run)

    async def work(self, connection: asyncpg.Connection) -> list[str]:
        """Do it, and say what was done, a line per table.

        Raises:
            PruneError: there is nothing of that name.
        """
        said = _progress if sys.stderr.isatty() else _silence
        if self.older_than is None:
            gone = await erase(connection, await self._belongings(connection), dry_run=self.dry_run, said=said)
            return [self._sentence(each) for each in gone]
        now = datetime.now(UTC)
        gate_before = now - self.gate_older_than if self.gate_older_than is not None else None
        gone = await prune(
            connection,
            now - self.older_than,
            sources_before=now - max(self.older_than, SOURCES_KEEP),
            gate_before=gate_before,
            dry_run=self.dry_run,
            said=said,
        )
        lines = [self._sentence(each) for each in gone]
        if self.dry_run:
            return lines
        made = await make_months(connection, now.date())
        return lines + [f"made {month}" for month in made.months] + made.notes

    async def _belongings(self, connection: asyncpg.Connection) -> Belongings:
        if self.session is not None:
            return await of_session(connection, self.session)
        if self.repository is not None:
            return await of_repository(connection, self.repository)
        assert self.user is not None  # noqa: S101 - the parser requires one of them
        return await of_user(connection, self.user)

    def _sentence(self, gone: Gone) -> str:
        verb = "would go" if self.dry_run else "deleted"
        months = f", and whole months: {', '.join(gone.months)}" if gone.months else ""
        return f"{gone.table}: {gone.rows} rows {verb}{months}"


def _age(option: str, text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text)
    if found is None:
        raise ValueError(f"{option} {text!r} is no age: give hours, days or weeks, e.g. 36h, 90d or 12w.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _progress(table: str, rows: int, share: float) -> None:
    sys.stderr.write(f"\r{table}: {share:4.0%}, {rows} rows" + ("\n" if share >= 1 else ""))
    sys.stderr.flush()


def _silence(table: str, rows: int, share: float) -> None:
    del table, rows, share
