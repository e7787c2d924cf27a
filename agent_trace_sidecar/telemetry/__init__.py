"""What the process says of itself: logging, metrics, the HTTP server, the health file."""
