"""When `tonnage serve` traces its requests, and what it says when it cannot."""

import pytest

from tonnage.cli.commands import serve
from tonnage.core.errors import RequestError

URL = "http://127.0.0.1:4318"


@pytest.fixture(autouse=True)
def _no_collector(monkeypatch):
    for name in serve._COLLECTOR_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_traced_unless_a_collector_is_named(monkeypatch):
    assert not serve._wants_traces(None)
    assert serve._wants_traces(URL)
    for name in serve._COLLECTOR_VARIABLES:
        monkeypatch.setenv(name, URL)
        assert serve._wants_traces(None)
        monkeypatch.setenv(name, "")
        assert not serve._wants_traces(None)


def test_without_the_extra_the_option_is_refused_and_the_environment_is_not(monkeypatch, capsys):
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"tonnage\[otel\]"):
        serve._wants_traces(URL)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", URL)
    assert not serve._wants_traces(None)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set" in capsys.readouterr().err
