"""Settings: parsed once, and a wrong one is a sentence that names it."""

from pathlib import Path

import pytest

from agent_trace_sidecar.config import Config, ConfigError, http_address, load


def test_the_defaults_are_those_of_the_readme() -> None:
    """Nothing set: embedded Postgres, masking on."""
    config = load({"HOME": "/home/someone"})
    assert (config.enabled, config.database_url, config.batch_size, config.flush_ms) == (True, None, 50, 500)
    assert (config.retry_max, config.redaction, config.capture, config.http) == (5, True, "full", None)
    assert config.state_path == Path("/home/someone/.local/state/agent-trace-sidecar")


def test_our_own_url_wins_over_the_usual_one() -> None:
    """DATABASE_URL is what other programs of a project use, too."""
    both = {"DATABASE_URL": "postgresql://a/b", "AGENT_TRACE_DATABASE_URL": "postgresql://c/d"}
    assert load(both).database_url == "postgresql://c/d"
    assert load({"DATABASE_URL": "postgresql://a/b"}).database_url == "postgresql://a/b"


@pytest.mark.parametrize("text", ["false", "0", "OFF", " no "])
def test_switches_take_the_usual_words(text: str) -> None:
    """In any case, with blanks around."""
    assert load({"AGENT_TRACE_ENABLED": text}).enabled is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGENT_TRACE_BATCH_SIZE", "many"),
        ("AGENT_TRACE_BATCH_SIZE", "0"),
        ("AGENT_TRACE_FLUSH_MS", "-1"),
        ("AGENT_TRACE_RETRY_MAX", "1.5"),
        ("AGENT_TRACE_ENABLED", "maybe"),
        ("AGENT_TRACE_REDACTION", "some"),
        ("AGENT_TRACE_CAPTURE", "half"),
        ("AGENT_TRACE_SPEC_VERSION", "9.9.9"),
        ("AGENT_TRACE_HTTP", "here"),
        ("AGENT_TRACE_DATABASE_URL", "mysql://root:hunter2@db/x"),
        ("DATABASE_URL", "hunter2"),
    ],
)
def test_a_wrong_value_names_its_variable_and_no_password(name: str, value: str) -> None:
    """One sentence."""
    with pytest.raises(ConfigError) as caught:
        load({name: value})
    assert name in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).endswith((".", ")."))


def test_a_config_shows_no_value() -> None:
    """Its repr may end up in a traceback."""
    assert "secret" not in repr(Config(database_url="postgresql://u:secret@h/d"))


@pytest.mark.parametrize(
    ("text", "address"), [("127.0.0.1:9464", ("127.0.0.1", 9464)), (":80", ("127.0.0.1", 80)), ("[::1]:1", ("::1", 1))]
)
def test_an_http_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    """An empty host is loopback."""
    assert http_address(text) == address
