"""What the process reports: logging, metrics, the HTTP server, the health file."""
