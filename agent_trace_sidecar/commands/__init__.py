"""One file per command: its arguments, its work and its text output."""
