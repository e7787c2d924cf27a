"""Who wrote a line: recorded states of a file, carried forward to its present content. Pure but for `store`."""
