"""The durable buffer between stdin and Postgres: segments of lines with checksums, one folder for each run."""
