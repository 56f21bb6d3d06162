"""The log of a running server: whose request a line is about, and what a bug leaves."""

import http.client
import json

import pytest

from support.live_server import NAME, Live, ScriptedEngine, live, write_chat_model
from support.waiting import wait_until
from tonnage.core.errors import LogitsError
from tonnage.engine.engine import Engine
from tonnage.server.models.tenants import read_tenants

HI = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with Engine.open(str(folder), context=1000, threads=1) as engine:
        yield engine


def asked(server: Live, **headers: str) -> tuple[int, str, str]:
    """Return status, request id and body of an answer to HI."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    fields = {"Content-Type": "application/json", **headers}
    connection.request("POST", "/v1/chat/completions", json.dumps(HI), fields)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, response.headers["x-request-id"], body


def test_a_bug_is_logged_with_its_frames_under_the_id_that_the_client_gets(engine, log_lines):
    with live(engine, ScriptedEngine(error=ValueError("the secret prompt"))) as server:
        status, request_id, body = asked(server)
    (error,) = [one for one in log_lines() if one["level"] == "error"]
    assert status == 500
    assert request_id in json.loads(body)["error"]["message"]
    assert error["request_id"] == request_id
    assert error["status"] == 500
    assert error["message"].startswith("/v1/chat/completions: ValueError at ")
    assert "live_server.py" in error["message"]
    assert error["traceback"].startswith("ValueError\n")
    assert "http/app.py" in error["traceback"]
    assert "secret" not in json.dumps(error) + body


def test_what_is_no_bug_is_logged_without_frames(engine, log_lines):
    with live(engine, ScriptedEngine(error=LogitsError("Not finite."))) as server:
        assert asked(server)[0] == 500
    (line,) = [one for one in log_lines() if one["level"] == "warning"]
    assert line["status"] == 500
    assert "traceback" not in line


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [("a-1.B:c_2", True), ("a b", False), ("x" * 65, False), ("a\xe9", False), ("", False)],
)
def test_a_client_may_name_its_request_but_forge_no_line(engine, log_lines, given, is_kept):
    with live(engine, ScriptedEngine()) as server:
        status, used, _ = asked(server, **{"x-request-id": given})
        found: list[dict[str, object]] = []

        def has_ended() -> bool:
            found.extend(one for one in log_lines() if "has ended" in one["message"])
            return bool(found)

        wait_until(has_ended)
    assert status == 200
    assert (used == given) is is_kept
    (line,) = found
    assert (line["request_id"], line["level"], line["status"]) == (used, "info", 200)
    assert line["duration_s"] >= 0


def test_two_requests_have_two_ids(engine):
    with live(engine, ScriptedEngine()) as server:
        assert asked(server)[1] != asked(server)[1]


def ended(line: dict[str, object]) -> bool:
    return "has ended" in str(line["message"])


def gathered(log_lines, count: int = 1) -> list[dict[str, object]]:
    """Return all lines up to the end of so many requests."""
    lines: list[dict[str, object]] = []

    def are_over() -> bool:
        lines.extend(log_lines())
        return sum(map(ended, lines)) >= count

    wait_until(are_over)
    return lines


def test_the_line_of_a_request_has_its_tokens_and_durations(engine, log_lines):
    with live(engine) as server:
        assert asked(server)[0] == 200
        (line,) = filter(ended, gathered(log_lines))
    assert line["model"] == NAME
    assert (line["prompt_tokens"], line["cached_tokens"]) == (len(engine.encode_prompt("Hello")), 0)
    assert 1 <= line["generated_tokens"] <= HI["max_tokens"]
    assert 0 <= line["queue_s"] <= line["first_token_s"] <= line["duration_s"]


def test_what_only_looks_is_told_to_those_who_debug(engine, log_lines):
    with live(engine, ScriptedEngine()) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/health")
        connection.getresponse().read()
        connection.close()
        (line,) = filter(ended, gathered(log_lines))
    assert line["level"] == "debug"


def test_a_proxy_before_a_server_without_keys_is_warned_of_once(engine, log_lines):
    with live(engine, ScriptedEngine()) as server:
        for _ in range(2):
            assert asked(server, **{"X-Forwarded-For": "192.0.2.1"})[0] == 200
        lines = gathered(log_lines, 2)
    (warning,) = [str(one["message"]) for one in lines if one["level"] == "warning"]
    assert "x-forwarded-for" in warning
    assert "--keys" in warning


def test_behind_a_proxy_with_keys_nothing_is_warned_of(engine, log_lines):
    key = "a-key-of-sixteen-letters"
    with live(engine, ScriptedEngine(), tenants=read_tenants(None, key)) as server:
        fields = {"X-Forwarded-For": "192.0.2.1", "Authorization": f"Bearer {key}"}
        assert asked(server, **fields)[0] == 200
        lines = gathered(log_lines)
    assert [one for one in lines if one["level"] == "warning"] == []
