"""What a person asks of the database: one file per command."""
