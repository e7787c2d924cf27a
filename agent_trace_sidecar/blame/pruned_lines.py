"""Lines that a person may have moved out of a file whose records are pruned: nobody can know any more who wrote them.

The store keeps nothing of such lines. Git has what was committed in that file since the first of its pruned calls
began, and what is not committed yet; what git never had there can't be known again. The file's own lines are judged
by what is known of the file itself (`store.pruned`).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

import asyncpg

from agent_trace_sidecar.blame import store
from agent_trace_sidecar.blame.authors import PRUNED, Author, Human, Unknown
from agent_trace_sidecar.blame.weight import Weights
from agent_trace_sidecar.records.fingerprints import hashes_of, line_hashes, path_key
from agent_trace_sidecar.workspace.checkout import Checkout, CheckoutError

_LEAST: Final = 1.4
"""What lines that stand together must weigh (see `weight.py`) to be those of another file."""


class PrunedLines:
    """What was added to the files of a repository whose records are pruned, since the first pruned call."""

    def __init__(self, since: datetime, added: Mapping[str, Sequence[bytes]]) -> None:
        """`added` are the lines, by path."""
        self._since = since
        self._paths: dict[int, str] = {}
        """The only path of a line, empty where there are several; by its hash without white space."""
        for path, lines in added.items():
            for loose in {one >> 32 for one in hashes_of(line_hashes(lines))}:
                self._paths[loose] = path if self._paths.get(loose, path) == path else ""

    def doubted(
        self, path: str, packed: bytes, authors: Sequence[Author], weights: Weights, before: Callable[[datetime], bytes]
    ) -> list[Author]:
        """The authors of a file's lines, without the persons' that may have come from such a file.

        Args:
            path: the file's, whose own lines are no evidence against it.
            packed: the hashes of the file's lines.
            authors: who wrote them by all other evidence.
            weights: of lines.
            before: the hashes of the lines that the file held at a time; needs git, so only where it matters.
        """
        hashes = hashes_of(packed)
        found = list(authors)
        elsewhere = {one >> 32 for one in hashes if self._paths.get(one >> 32, path) != path}
        if not elsewhere:
            return found
        known = {one >> 32 for one in hashes_of(before(self._since))}

        def may_have_come(at: int) -> bool:
            loose = hashes[at] >> 32
            return isinstance(authors[at], Human) and loose in elsewhere and loose not in known

        for is_doubted, group in groupby(range(len(hashes)), may_have_come):
            lines = list(group) if is_doubted else []
            if lines and sum(weights.as_evidence(hashes[at]) for at in lines) >= _LEAST:
                for at in lines:
                    author = authors[at]
                    found[at] = Unknown(PRUNED.reason, author.instead_of if isinstance(author, Human) else ())
        return found


async def pruned_lines(connection: asyncpg.Connection, checkout: Checkout, projects: Sequence[str]) -> PrunedLines:
    """What git has of files whose records are pruned."""
    first = await store.first_pruned(connection)
    nothing = PrunedLines(first or datetime.now(UTC), {})
    if first is None or not checkout.is_git:
        return nothing
    try:
        paths = checkout.changed_since(first.timestamp())
        keys = {path_key(project, path): path for project in projects for path in paths}
        found = await store.pruned_keys(connection, list(keys))
        if not found:
            return nothing
        since = min(found.values())
        added = checkout.added_since(since.timestamp(), sorted({keys[key] for key in found}))
    except CheckoutError:
        return nothing
    return PrunedLines(since, added)
