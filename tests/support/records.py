"""What holds for every record, whoever made it."""

import json
from typing import Any

import jsonschema

from agent_trace_sidecar.records.build import Builder, BuildSettings
from agent_trace_sidecar.records.rows import Built
from agent_trace_sidecar.records.trace import parse_record
from tests.support.envelopes import DATA, envelope

SCHEMA = json.loads((DATA / "agent-trace-record-0.1.0.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def feed_all(lines: list[bytes]) -> list[Built]:
    """Everything one builder makes of some lines."""
    builder = Builder(BuildSettings())
    return [builder.feed(envelope(line)) for line in lines]


def checked(text: str) -> dict[str, Any]:
    """A record as a dict, after everything that holds for every record was checked."""
    record = json.loads(text)
    VALIDATOR.validate(record)
    for file in record["files"]:
        assert not file["path"].startswith("/")
        assert ".." not in file["path"].split("/")
        for conversation in file["conversations"]:
            last = 0
            for span in conversation["ranges"]:
                assert last < span["start_line"] <= span["end_line"]
                last = span["end_line"]
    assert parse_record(text).version == "0.1.0"
    return dict(record)
