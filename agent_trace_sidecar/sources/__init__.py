"""Where lines come from, and the log protocol with its kinds: spool, finished file, followed file."""
