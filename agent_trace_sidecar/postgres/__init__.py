"""Postgres: one batch, one transaction; naming the server, migrations, months, and the embedded server."""
