"""Where lines come from: stdin, or log files."""
