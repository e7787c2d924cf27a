"""One self-contained HTML file that shows a repository, a session or a span of time, from what is stored."""
