"""When a server traces its requests, and what it says when it cannot."""

import pytest

from tonnage.core.errors import RequestError
from tonnage.server import start

URL = "http://127.0.0.1:4318"


@pytest.fixture(autouse=True)
def _no_collector(monkeypatch):
    for name in start.COLLECTOR_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_traced_unless_a_collector_is_named(monkeypatch):
    assert not start.wants_traces(None)
    assert start.wants_traces(URL)
    for name in start.COLLECTOR_VARIABLES:
        monkeypatch.setenv(name, URL)
        assert start.wants_traces(None)
        monkeypatch.setenv(name, "")
        assert not start.wants_traces(None)


def test_without_the_extra_the_option_is_refused_and_the_environment_is_not(monkeypatch):
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"tonnage\[otel\]"):
        start.wants_traces(URL)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", URL)
    logged: list[str] = []
    monkeypatch.setattr(start, "_warn", logged.append)
    assert not start.wants_traces(None)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set" in logged[0]
