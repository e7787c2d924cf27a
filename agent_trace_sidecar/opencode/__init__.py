"""What OpenCode reports: the wire format, the closed set of events, its dialects (1 and 2), and its own store."""
