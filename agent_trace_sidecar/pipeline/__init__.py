"""Joins the stages: bytes of a hook become rows of Postgres, each event exactly once.

    OpenCode ─ shim ─▶ sources ──▶ workspace ─▶ redaction ─▶ spool ──▶ opencode ─▶ records ─▶ postgres
                       lines       observed     Redacted     durable   events      rows       one commit
                                   facts        lines only   log

`run` reads stdin: `intake` (two threads) reads, observes the repository, redacts, appends and acknowledges.
`tail` and `replay` read files that others wrote: the file is the log, and redaction happens while it is read.
`daemon` holds what the three share, `adopt` takes over the spools that dead sidecars left.

From the log on everything is the same. A log is an ordered sequence of lines with byte positions (`sources.log.Log`).
`batcher` parses lines into portions, `shipper` builds their rows and hands a batch to `postgres.sink`: one transaction
that moves the log's checkpoint, deduplicates by event id, copies the rows and saves the builder's state. `building`
makes the rows, also for `joint`, with which `tail` ships what many files have gained in one transaction.

What must hold:

1. The log is the only buffer. An outage keeps one batch in memory; the rest stays where it is.
2. A line is acknowledged when it is durable, and released when the database has committed it.
3. Whatever is written to a disk, a database or a log message went through redaction; the type `Redacted` proves it.
4. A batch's rows are a function of its lines and the state that the database has. So a batch may be sent twice, and a
   sidecar that is killed continues where the checkpoint stands.
5. After an error the position is read from the database; our own memory does not count.
6. A log belongs to one epoch: the last to open it continues, earlier ones are fenced.
7. Facts about the repository are taken while an event comes in, never later, and travel with the line (`observed`).
"""
