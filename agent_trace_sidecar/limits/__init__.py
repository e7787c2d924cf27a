"""Every bound of the sidecar, in one place, each with the reason for its size.

The modules beside this one hold the outside world to bounds. `files`, `processes`, `sqlite`, `text` and `watchdog` are
the only ways to read what others made, to write, to start a program, to show a foreign text and to end a wait.

The shim's own bounds stand at the top of opencode-shim/index.js.
"""

from datetime import timedelta
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

READ_BYTES: Final = 256 * KIB
"""One read from stdin or a log: larger than a pipe's buffer, so that one call empties it."""

PIPE_BYTES: Final = 1 * MIB
"""The pipe's size: what is in the pipe survives the death of OpenCode, and 64 KiB is a burst of hooks."""

MAX_LINE_BYTES: Final = 16 * MIB
"""A longer line is not kept: its stub goes to the dead letters. Real events reach 345 KB."""

SEGMENT_BYTES: Final = 8 * MIB
"""A spool file is closed at this size, so that shipped lines free their disk in small steps."""

SPOOL_MAX_BYTES: Final = 1024 * MIB
"""At this many unshipped bytes the sidecar stops reading stdin; the shim then keeps, and at last counts, its lines."""

SPOOL_KEEP_S: Final = 600
"""Shipped segments stay this long, so that a fail-over to a replica that lags heals from the spool."""

SPOOL_KEEP_BYTES: Final = 64 * MIB
"""... but no more than this of them."""

BATCH_BYTES: Final = 1 * MIB
"""Encoded size of one batch: more gains nothing and keeps locks and memory longer."""

BATCH_ROWS: Final = 5_000
"""Rows of one batch under backlog, where AGENT_TRACE_BATCH_SIZE no longer counts."""

WRITE_DEADLINE_S: Final = 15.0
"""A batch that Postgres has not committed by then is cut off and tried again: COPY itself never gives up."""

CONNECT_DEADLINE_S: Final = 10.0
"""As WRITE_DEADLINE_S, for a new connection."""

BACKOFF_MAX_S: Final = 5.0
"""The longest pause between two attempts: after an outage the first rows are there within seconds."""

FAILOVER_CHECK_S: Final = 20.0
"""How often an idle sidecar checks whether the database still knows its position: so it notices a fail-over that lost
something, long before SPOOL_KEEP_S, and hundreds of them cost some tiny queries a second."""

FAILOVER_CHECK_SOON_S: Final = 4.0
"""... and how soon after its connection was lost."""

DRAIN_DEADLINE_S: Final = 10.0
"""After stdin's end or SIGTERM the sidecar delivers for this long; the rest waits in the spool for the next one."""

OBSERVE_S: Final = 5.0
"""How long the repository may be observed for one event; the parts of it have smaller budgets, so only a disk that
does not answer reaches this."""

IDENTITY_S: Final = 0.5
"""As OBSERVE_S, for the URL of a repository: delivery waits for it, once a minute."""

ADOPT_GRACE_S: Final = 2.0
"""A spool written to so recently may be about to be reopened by its own shim's next sidecar."""

ADOPT_INTERVAL_S: Final = 30.0
"""How often a running sidecar searches for spools of dead ones."""

GARBAGE_OBJECTS: Final = 50_000
"""New objects before the next collection of garbage in cycles: rows come by the thousand and hold none, and Python's
own 700 cost a sixth of the time."""

MOST_JOBS: Final = 64
"""Processes of `replay --jobs`: each has a connection to the database, and 75 MiB."""

MAX_INSTANCES: Final = 256
"""Instances whose state a shipper holds in memory; a log of more of them reads the others from the database again."""

TAIL_OPEN_FILES: Final = 64
"""Descriptors of followed files; the others are opened again when they grow."""

TAIL_BATCH_FILES: Final = 256
"""Files that share a transaction: each is mostly a run of its own, whose state is held as MAX_INSTANCES are."""

TAIL_TIDY_S: Final = 1.0
"""How often each followed file is asked whether it is done with."""

TAIL_POLL_S: Final = 0.1
"""How often followed folders are polled; slower where polling itself takes long."""

TAIL_QUIET_S: Final = 60.0
"""A file that has not grown for so long is polled less often: mostly one in a hundred is being written."""

TAIL_QUIET_POLLS: Final = 10
"""Of so many polls one looks at a quiet file; a new name is found by each."""

TAIL_BACKLOG_BYTES: Final = 64 * KIB
"""A file with this much unread is read at once, a lesser growth after AGENT_TRACE_FLUSH_MS."""

TAIL_GRACE_S: Final = 30.0
"""A file whose name is gone is followed until it has been quiet for this long: its writer may still have it open."""

TAIL_KEEP_S: Final = 600
"""`--remove-shipped` removes a file this long after it was stored, for the reason that SPOOL_KEEP_S has."""

TAIL_TURN_S: Final = 2.0
"""A turn ends when its file has been quiet for this long; a new one costs two more round trips to the database."""

TAIL_ABANDONED_S: Final = 3600.0
"""`--remove-shipped` removes a file that its writer never marked as closed only when it has been quiet this long."""

TAIL_RENEW_S: Final = 86_400.0
"""A followed file's row is renewed once a day, however quiet it is: `prune` deletes rows that nothing renews."""

SOURCES_KEEP: Final = timedelta(days=90)
"""`prune` keeps what is known of a run or a log at least this long after its last line: an OpenCode that was left open
over a holiday continues with its numbers, and a log on a machine that was off continues where it was."""
